"""request.pxd and target.pxd: from the bytes of a head to a canonical key."""
from edgecache.native.request cimport Request, request_end, request_parse
from edgecache.native.target cimport QUERY_BYTES, Target, target_parse


def loop_request(int n, bytes head):
    """Find the end and parse, as the worker does. (status of the last, fields seen in all)."""
    cdef Slice at = as_slice(head)
    cdef Request request
    cdef Limits limits
    cdef uint64_t fields = 0
    cdef int status = 0
    cdef size_t end
    memset(&limits, 0, sizeof(limits))
    limits.target_bytes = 4096
    limits.header_fields = 64
    with nogil:
        for _ in range(n):
            keep(at.data)
            end = request_end(at.data, 0, at.len)
            status = request_parse(at.data, end, &limits, &request)
            keep(&request)
            fields += request.fields
    return status, fields


def loop_target(int n, bytes raw):
    """(how many were accepted, the key of the last)."""
    cdef unsigned char buffer[3 * 256 + QUERY_BYTES]
    cdef Slice at = as_slice(raw)
    cdef Target target
    cdef uint64_t accepted = 0
    if at.len > 256:
        raise ValueError(f"raw: found {at.len} bytes, allowed at most 256")
    with nogil:
        for _ in range(n):
            keep(at.data)
            accepted += target_parse(at, NULL, buffer, &target)
            keep(&target)
    return accepted, as_bytes(target.full)
