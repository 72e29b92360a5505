"""response.pxd, head.pxd and live.pxd."""
from edgecache.native.head cimport (
    Head, head_etag, head_fields, head_free, head_full, head_new, reason_phrase as _reason,
)
from edgecache.native.live cimport (
    VARIANTS, LiveVersion, Want, version_acquire, version_judge as _judge, version_lists,
    version_new, version_newer as _newer, version_release, version_rendering,
)
from edgecache.native.log cimport CacheWord
from edgecache.native.response cimport (
    DATE_BYTES, RANGE_OK, RangeVerdict, date_write as _date, error_body as _error_body,
    error_body_len, error_head as _error_head, etag_listed as _listed, partial_line as _partial,
    preflight_head, range_parse as _range, tail_write as _tail, write_decimal,
)


def range_parse(bytes value, uint64_t size):
    """(verdict, first, end): 0 ignore, 1 ok, 2 unsatisfiable."""
    cdef uint64_t first = 0
    cdef uint64_t end = 0
    cdef RangeVerdict verdict = _range(at_the_edge(value), size, &first, &end)
    return int(verdict), (first if verdict == RANGE_OK else 0), (end if verdict == RANGE_OK else 0)


def etag_listed(bytes listed, bytes etag):
    return bool(_listed(at_the_edge(listed), as_slice(etag)))


def decimal(uint64_t value):
    cdef unsigned char text[20]
    return text[:write_decimal(text, value)]


def date_write(int64_t unix_s):
    cdef char text[DATE_BYTES]
    return text[:_date(text, unix_s)]


def tail_write(bytes name, int word, int64_t age_s, bytes date, bint close):
    cdef unsigned char text[512]
    return text[:_tail(text, as_slice(name), <CacheWord>word, age_s, as_slice(date), close)]


def partial_line(uint64_t first, uint64_t end, uint64_t size):
    cdef char text[512]
    return text[:_partial(text, sizeof(text), first, end, size)]


def error_answer(int status, uint64_t size=0, uint64_t kept_s=0):
    """(head, body, announced length)."""
    cdef char text[1024]
    cdef size_t head = _error_head(text, sizeof(text), status, size, kept_s)
    cdef char line[256]
    return text[:head], line[:_error_body(line, sizeof(line), status)], error_body_len(status)


def preflight():
    cdef char text[1024]
    return text[:preflight_head(text, sizeof(text))]


def reason(int status):
    return <bytes>_reason(status)


def head(int status, int64_t length, bytes fields, bytes etag):
    """(all of it, fields, validator, line length)."""
    cdef Head *made = head_new(status, length, as_slice(fields), as_slice(etag))
    try:
        return (as_bytes(head_full(made)), as_bytes(head_fields(made)), as_bytes(head_etag(made)),
                made.line_len)
    finally:
        head_free(made)


cdef uint64_t probe_used = 0


cdef LiveVersion *a_version(uint64_t msn, uint32_t parts, uint32_t last_parts, uint32_t hold_ms,
                            uint32_t advance, bint ended, tuple bodies) except NULL:
    cdef Slice body[VARIANTS]
    cdef Slice etag[VARIANTS]
    cdef Slice same[VARIANTS]
    for i in range(VARIANTS):
        body[i] = same[i] = slice_of(NULL, 0)
        if i < len(bodies) and bodies[i] is not None:
            body[i] = as_slice(bodies[i])
        etag[i] = as_slice(b"")
    cdef LiveVersion *version = version_new(body, etag, same, etag, &probe_used)
    version.msn, version.parts, version.last_parts = msn, parts, last_parts
    version.hold_ms, version.advance, version.ended = hold_ms, advance, ended
    return version


def version_judge(tuple numbers, tuple want, uint32_t hold_ms=1000, bint ended=False):
    """numbers: (msn, parts, last_parts, advance); want: (msn, part or None).

    0 ready, 1 wait, 2 bad."""
    cdef LiveVersion *version = a_version(numbers[0], numbers[1], numbers[2], hold_ms, numbers[3],
                                          ended, (b"x", None, None, None))
    cdef Want asked
    memset(&asked, 0, sizeof(asked))
    asked.has_msn = True
    asked.msn = want[0]
    asked.has_part = want[1] is not None
    asked.part = want[1] or 0
    verdict = _judge(version, &asked)
    version_release(version)
    return verdict


def version_newer(uint64_t msn, uint32_t parts, bint ended, tuple than):
    """than: (msn, parts, hold_ms, ended)."""
    cdef LiveVersion *version = a_version(than[0], than[1], 0, than[2], 0, than[3],
                                          (b"x", None, None, None))
    newer = bool(_newer(msn, parts, ended, version))
    version_release(version)
    return newer


def rendering(tuple bodies, bint delta, bint gzip, bint v2=False):
    cdef LiveVersion *version = a_version(1, 1, 1, 1, 1, False, bodies)
    version_acquire(version)
    version_release(version)
    found = version_rendering(version, delta, v2, gzip)
    body = as_bytes(slice_of(found.body, found.len))
    version_release(version)
    return body, probe_used
