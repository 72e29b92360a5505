"""head.pxd, response.pxd and live.pxd: what an answer says, and whether there is one."""
from edgecache.native.head cimport Head, head_free, head_full, head_new
from edgecache.native.live cimport (
    VARIANTS, LiveVersion, Want, version_judge, version_new, version_release, version_rendering,
)
from edgecache.native.log cimport CACHE_HIT
from edgecache.native.response cimport (
    DATE_BYTES, RANGE_OK, date_write, error_head, etag_listed, partial_line, range_parse,
    tail_write,
)


def loop_head(int n, bytes fields, bytes etag):
    """Render and free. The bytes of one."""
    cdef Slice lines = as_slice(fields)
    cdef Slice tag = as_slice(etag)
    cdef Head *head
    with nogil:
        for _ in range(n):
            head = head_new(200, 65536, lines, tag)
            keep(head)
            head_free(head)
    head = head_new(200, 65536, lines, tag)
    text = as_bytes(head_full(head))
    head_free(head)
    return text


def loop_range(int n, bytes value, uint64_t size):
    """(how many were satisfiable, bytes selected in all)."""
    cdef Slice at = as_slice(value)
    cdef uint64_t first = 0
    cdef uint64_t end = 0
    cdef uint64_t good = 0
    cdef uint64_t selected = 0
    with nogil:
        for _ in range(n):
            keep(at.data)
            good += range_parse(at, size, &first, &end) == RANGE_OK
            selected += end - first
    return good, selected


def loop_etag_listed(int n, bytes listed, bytes etag):
    """How many matched."""
    cdef Slice list_ = as_slice(listed)
    cdef Slice tag = as_slice(etag)
    cdef uint64_t matched = 0
    with nogil:
        for _ in range(n):
            keep(list_.data)
            matched += etag_listed(list_, tag)
    return matched


def loop_tail(int n, bytes name, bytes date):
    """The tail of a hit, 3 s old."""
    cdef unsigned char text[512]
    cdef Slice who = as_slice(name)
    cdef Slice when = as_slice(date)
    cdef int64_t age_s = 3
    cdef size_t length = 0
    with nogil:
        for _ in range(n):
            keep(&age_s)
            length = tail_write(text, who, CACHE_HIT, age_s, when, False)
            keep(text)
    return text[:length]


def loop_date(int n, int64_t unix_s):
    cdef char text[DATE_BYTES]
    cdef size_t length = 0
    with nogil:
        for _ in range(n):
            length = date_write(text, unix_s)
            keep(text)
    return text[:length]


def loop_partial(int n, uint64_t first, uint64_t end, uint64_t size):
    cdef char text[256]
    cdef size_t length = 0
    with nogil:
        for _ in range(n):
            length = partial_line(text, sizeof(text), first, end, size)
            keep(text)
    return text[:length]


def loop_error(int n, int status):
    cdef char text[512]
    cdef size_t length = 0
    with nogil:
        for _ in range(n):
            length = error_head(text, sizeof(text), status, 0, 0)
            keep(text)
    return text[:length]


cdef struct Variants:
    Slice bodies[VARIANTS]
    Slice fields[VARIANTS]
    Slice waited[VARIANTS]               # none: blocking requests are answered with the same
    Slice etags[VARIANTS]


cdef Variants variants_of(list bodies, bytes fields, bytes etag):
    cdef Variants made
    for i in range(VARIANTS):
        made.bodies[i] = as_slice(bodies[i])
        made.fields[i] = as_slice(fields)
        made.waited[i] = slice_of(NULL, 0)
        made.etags[i] = as_slice(etag)
    return made


def loop_version(int n, list bodies, bytes fields, bytes etag):
    """Make a version of all variants, heads rendered, and free it. Bytes it was charged for."""
    cdef Variants parts = variants_of(bodies, fields, etag)
    cdef LiveVersion *version
    cdef uint64_t used = 0
    cdef uint64_t charged = 0
    with nogil:
        for _ in range(n):
            version = version_new(parts.bodies, parts.fields, parts.waited, parts.etags, &used)
            keep(version)
            charged = used
            version_release(version)
    return charged, used


def loop_judge(int n, tuple numbers, tuple want):
    """numbers: (msn, parts, last_parts, advance); want: (msn, part). How many were ready, waited,
    were refused."""
    cdef LiveVersion version
    cdef Want asked
    cdef uint64_t verdicts[3]
    memset(&version, 0, sizeof(version))
    memset(&asked, 0, sizeof(asked))
    memset(verdicts, 0, sizeof(verdicts))
    version.msn, version.parts, version.last_parts, version.advance = numbers
    version.hold_ms = 6000
    asked.msn, asked.part = want
    asked.has_msn = asked.has_part = True
    with nogil:
        for _ in range(n):
            keep(&version)
            keep(&asked)
            verdicts[<int>version_judge(&version, &asked)] += 1
    return verdicts[0], verdicts[1], verdicts[2]


def loop_rendering(int n, list bodies, bint delta, bint gzip):
    """Choose the variant. Bytes chosen in all."""
    cdef Variants parts = variants_of(bodies, b"", b"e")
    cdef uint64_t used = 0
    cdef uint64_t chosen = 0
    cdef LiveVersion *version = version_new(parts.bodies, parts.fields, parts.waited, parts.etags,
                                            &used)
    with nogil:
        for _ in range(n):
            keep(version)
            chosen += version_rendering(version, delta, False, gzip).len
    version_release(version)
    return chosen
