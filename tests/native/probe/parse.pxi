"""request.pxd, target.pxd, keep.pxd and chars.h."""
from edgecache.native.keep cimport Keep, keep_name, keep_rule
from edgecache.native.request cimport (
    METHOD_OPTIONS, Request, accepts_gzip as _accepts_gzip, next_element, request_end as _end,
    request_parse as _parse,
)
from edgecache.native.target cimport QUERY_BYTES, Target, target_parse as _target


def request_end(bytes data, size_t start=0):
    cdef Slice at = at_the_edge(data)
    return _end(at.data, start, at.len)


def request_parse(bytes data, uint32_t target_bytes=4096, uint32_t header_fields=64):
    """A status to refuse with, or what was read."""
    cdef Slice at = at_the_edge(data)
    cdef Request request
    cdef Limits limits
    memset(&limits, 0, sizeof(limits))
    limits.target_bytes = target_bytes
    limits.header_fields = header_fields
    cdef int status = _parse(at.data, at.len, &limits, &request)
    if status:
        return status
    return {
        "method": [b"-", b"GET", b"HEAD", b"OPTIONS"][request.method],
        "target": as_bytes(request.target), "host": as_bytes(request.host),
        "range": as_bytes(request.range), "if_none_match": as_bytes(request.if_none_match),
        "if_range": as_bytes(request.if_range), "fields": request.fields, "minor": request.minor,
        "keep_alive": bool(request.keep_alive), "gzip": bool(request.gzip),
        "head_len": request.head_len,
    }


def target_parse(bytes raw, rules=()):
    """`rules`: (prefix, names) as a route keeps them. None: 400. Else path, full key,
    (has_msn, msn, has_part, part, delta), playlist, bad."""
    cdef Slice at
    cdef size_t room = 3 * len(raw) + QUERY_BYTES
    cdef unsigned char *buffer = <unsigned char *>malloc(room)
    cdef Target target
    cdef Keep keep
    keep.count = 0
    try:
        for prefix, names in rules:
            if not keep_rule(&keep, at_the_edge(prefix), False):
                raise ValueError(prefix)
            for name in names:
                if not keep_name(&keep, at_the_edge(name)):
                    raise ValueError(name)
        at = at_the_edge(raw)
        if not _target(at, &keep if rules else NULL, buffer, &target):
            return None
        want = (bool(target.want.has_msn), target.want.msn, bool(target.want.has_part),
                target.want.part, bool(target.want.delta))
        return (as_bytes(target.path), as_bytes(target.full), want, bool(target.playlist),
                bool(target.bad_directives))
    finally:
        free(buffer)


def accepts_gzip(bytes value):
    return bool(_accepts_gzip(at_the_edge(value)))


def elements(bytes value):
    """Members of a comma-separated list."""
    cdef Slice rest = at_the_edge(value)
    cdef Slice element
    found = []
    while next_element(&rest, &element):
        found.append(as_bytes(element))
    return found


def same(bytes a, bytes b):
    return bool(slice_equal(as_slice(a), as_slice(b)))
