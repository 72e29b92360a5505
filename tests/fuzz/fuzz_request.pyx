"""Native fuzz entry: bytes from the network through head, target, range, lists and conditions.

Linked without an interpreter: `fuzz_one` is called by libFuzzer or by driver.c, both of which put
the input at the very end of an allocation. What must hold for any input is asserted here; what must
hold of memory, the sanitizers watch.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset

from edgecache.native.base cimport EC_ASSERT
from edgecache.native.request cimport (
    Request, accepts_gzip, next_element, request_end, request_parse,
)
from edgecache.native.response cimport RANGE_OK, etag_listed, range_parse
from edgecache.native.target cimport QUERY_BYTES, Target, target_parse
from edgecache.native.types cimport Limits, Slice, cbyte, slice_of


cdef void check_inside(Slice part, cbyte *data, size_t length) noexcept nogil:
    if part.data != NULL:
        EC_ASSERT(part.data >= data and part.data + part.len <= data + length)


cdef void fuzz_range(Slice value, uint64_t size) noexcept nogil:
    cdef uint64_t first = 0
    cdef uint64_t end = 0
    if range_parse(value, size, &first, &end) == RANGE_OK:
        EC_ASSERT(first < end and end <= size)


cdef void fuzz_values(Slice value) noexcept nogil:
    """As the value of every field that is looked into."""
    cdef Slice rest = value
    cdef Slice element
    cdef size_t members = 0
    fuzz_range(value, 0)
    fuzz_range(value, 1)
    fuzz_range(value, 1000)
    fuzz_range(value, <uint64_t>1 << 62)
    etag_listed(value, slice_of(<cbyte *>b"\"tag\"", 5))
    accepts_gzip(value)
    while next_element(&rest, &element):
        members += 1
    EC_ASSERT(members <= value.len + 1)


cdef void fuzz_target(Slice raw) noexcept nogil:
    """Whatever is accepted has one canonical form, which is its own canonical form."""
    cdef size_t room = 3 * raw.len + QUERY_BYTES
    cdef unsigned char *once = <unsigned char *>malloc(room)
    cdef unsigned char *twice = <unsigned char *>malloc(3 * room + QUERY_BYTES)
    cdef Target a
    cdef Target b
    if target_parse(raw, NULL, once, &a):
        EC_ASSERT(a.full.len <= room and a.path.len <= a.full.len and a.path.data[0] == 47)
        if not a.bad_directives:
            EC_ASSERT(target_parse(a.full, NULL, twice, &b))
            EC_ASSERT(a.full.len == b.full.len)
            EC_ASSERT(memcmp(a.full.data, b.full.data, a.full.len) == 0)
            EC_ASSERT(memcmp(&a.want, &b.want, sizeof(a.want)) == 0)
    free(once)
    free(twice)


cdef public int fuzz_one(const unsigned char *data, size_t length) noexcept nogil:
    cdef Limits limits
    cdef Request request
    cdef size_t end = request_end(data, 0, length)
    cdef size_t start
    cdef int status
    memset(&limits, 0, sizeof(limits))
    limits.target_bytes = 4096
    limits.header_fields = 64
    EC_ASSERT(end <= length)
    for start in range(end - 3 if end > 3 else 0):       # whatever was looked at before
        EC_ASSERT(request_end(data, start, length) == end)
    if end:
        status = request_parse(data, end, &limits, &request)
        if status == 0:
            check_inside(request.target, data, end)
            check_inside(request.host, data, end)
            check_inside(request.range, data, end)
            check_inside(request.if_none_match, data, end)
            check_inside(request.if_range, data, end)
            fuzz_values(request.range)
            fuzz_target(request.target)
        else:
            EC_ASSERT(status >= 400 and status < 600)
    fuzz_values(slice_of(data, length))
    fuzz_target(slice_of(data, length))
    return 0
