"""What an answer says beyond the prebuilt head: range arithmetic, conditions, and the tail
(Cache-Status, Age, Date, Connection).
"""
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, strlen
from edgecache.native.head cimport reason_phrase
from edgecache.native.log cimport (
    CACHE_COLLAPSED, CACHE_HIT, CACHE_LIVE, CACHE_MISS, CACHE_STALE, CACHE_WOKEN, CacheWord,
)
from edgecache.native.request cimport next_element, trim
from edgecache.native.types cimport Slice, slice_equal, slice_of


cdef extern from "time.h" nogil:
    ctypedef long time_t
    struct tm:
        int tm_sec
        int tm_min
        int tm_hour
        int tm_mday
        int tm_mon
        int tm_year
        int tm_wday
    tm *gmtime_r(const time_t *when, tm *out)


cdef enum:
    DATE_BYTES = 40


cdef extern from *:
    """
    #define EC_RANGE_MAX INT64_MAX
    """
    uint64_t RANGE_MAX "EC_RANGE_MAX"


cdef enum RangeVerdict:
    # no, malformed, or more than one range: the whole body (RFC 9110 14.2)
    RANGE_IGNORE
    RANGE_OK
    RANGE_UNSATISFIABLE                  # 416


cdef inline bint _range_number(Slice *s, uint64_t *out) noexcept nogil:
    """Digits at the front, saturating at 2^63 − 1. False: none."""
    cdef uint64_t n = 0
    cdef bint some = False
    cdef unsigned int digit
    while s.len and 48 <= s.data[0] <= 57:
        some = True
        digit = s.data[0] - 48
        if n < RANGE_MAX // 10:
            n = n * 10 + digit
        else:
            n = RANGE_MAX
        s.data += 1
        s.len -= 1
    out[0] = n
    return some


cdef inline RangeVerdict range_parse(Slice value, uint64_t size, uint64_t *first,
                                     uint64_t *end) noexcept nogil:
    """One byte range against a body of `size` bytes: [*first, *end)."""
    cdef uint64_t a = 0
    cdef uint64_t b = 0
    cdef bint has_a
    cdef bint has_b
    if value.len < 7 or memcmp(value.data, b"bytes=", 6) != 0:
        return RANGE_IGNORE
    value = slice_of(value.data + 6, value.len - 6)
    has_a = _range_number(&value, &a)
    if value.len == 0 or value.data[0] != 45:
        return RANGE_IGNORE
    value = slice_of(value.data + 1, value.len - 1)
    has_b = _range_number(&value, &b)
    if value.len or not (has_a or has_b):
        return RANGE_IGNORE
    if not has_a:                        # suffix: the last b bytes
        if b == 0 or size == 0:
            return RANGE_UNSATISFIABLE
        first[0] = size - b if b < size else 0
        end[0] = size
        return RANGE_OK
    if has_b and b < a:
        return RANGE_IGNORE
    if a >= size:
        return RANGE_UNSATISFIABLE
    first[0] = a
    end[0] = b + 1 if has_b and b < size else size
    return RANGE_OK


cdef inline Slice _opaque(Slice tag) noexcept nogil:
    if tag.len >= 2 and tag.data[0] == 87 and tag.data[1] == 47:      # W/
        return slice_of(tag.data + 2, tag.len - 2)
    return tag


cdef inline bint etag_listed(Slice list_, Slice etag) noexcept nogil:
    """If-None-Match: weak comparison, `*` matches anything (RFC 9110 13.1.2)."""
    cdef Slice element
    if etag.len == 0:
        return False
    while next_element(&list_, &element):
        if (element.len == 1 and element.data[0] == 42) or slice_equal(_opaque(element),
                                                                       _opaque(etag)):
            return True
    return False


cdef inline size_t write_decimal(unsigned char *out, uint64_t value) noexcept nogil:
    cdef unsigned char digits[20]
    cdef size_t n = 0
    cdef size_t i
    while True:
        digits[n] = 48 + value % 10
        n += 1
        value = value // 10
        if value == 0:
            break
    for i in range(n):
        out[i] = digits[n - 1 - i]
    return n


cdef inline size_t _put(unsigned char *out, const char *text, size_t length) noexcept nogil:
    memcpy(out, text, length)
    return length


cdef inline size_t date_write(char *out, int64_t unix_s) noexcept nogil:
    """"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" (IMF-fixdate)."""
    cdef const char *days = "SunMonTueWedThuFriSat"
    cdef const char *months = "JanFebMarAprMayJunJulAugSepOctNovDec"
    cdef tm t
    cdef time_t when = unix_s
    gmtime_r(&when, &t)
    return snprintf(out, DATE_BYTES, b"Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n",
                    days + 3 * t.tm_wday, t.tm_mday,
                    months + 3 * t.tm_mon, t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec)


cdef inline size_t tail_write(unsigned char *out, Slice name, CacheWord word, int64_t age_s,
                              Slice date, bint close) noexcept nogil:
    """Cache-Status (RFC 9211), Age (negative: none), Date, Connection, and the empty line. At most
    96 bytes beyond the name."""
    cdef size_t n = _put(out, b"Cache-Status: ", 14)
    memcpy(out + n, name.data, name.len)
    n += name.len
    if word == CACHE_HIT or word == CACHE_LIVE:
        n += _put(out + n, b"; hit\r\n", 7)
    elif word == CACHE_WOKEN:
        n += _put(out + n, b"; hit; detail=woken\r\n", 21)
    elif word == CACHE_STALE:
        n += _put(out + n, b"; hit; detail=stale\r\n", 21)
    elif word == CACHE_MISS:
        n += _put(out + n, b"; fwd=uri-miss; stored\r\n", 24)
    elif word == CACHE_COLLAPSED:
        n += _put(out + n, b"; fwd=uri-miss; collapsed\r\n", 27)
    else:
        n += _put(out + n, b"; detail=error\r\n", 16)
    if age_s >= 0:
        n += _put(out + n, b"Age: ", 5)
        n += write_decimal(out + n, <uint64_t>age_s)
        n += _put(out + n, b"\r\n", 2)
    memcpy(out + n, date.data, date.len)
    n += date.len
    if close:
        n += _put(out + n, b"Connection: close\r\n", 19)
    return n + _put(out + n, b"\r\n", 2)


cdef inline size_t partial_line(
        char *out, size_t room, uint64_t first, uint64_t end, uint64_t size) noexcept nogil:
    """`size` RANGE_MAX: not known yet (RFC 9110 14.4)."""
    cdef size_t n = snprintf(
        out, room,
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: %llu\r\n"
        b"Content-Range: bytes %llu-%llu/",
        <unsigned long long>(end - first), <unsigned long long>first,
        <unsigned long long>(end - 1))
    if size == RANGE_MAX:
        return n + snprintf(out + n, room - n, b"*\r\n")
    return n + snprintf(out + n, room - n, b"%llu\r\n", <unsigned long long>size)


cdef inline size_t unframed_line(char *out, size_t room, int status) noexcept nogil:
    """A status line alone: the body ends with the connection."""
    return snprintf(out, room, b"HTTP/1.1 %d %s\r\n", status, reason_phrase(status))


cdef inline size_t error_head(char *out, size_t room, int status, uint64_t size,
                              uint64_t kept_s) noexcept nogil:
    """A whole head but the tail for an answer of our own; its one-line body is error_body's.
    kept_s: how long others may keep it, 0: not at all."""
    cdef size_t n = snprintf(
        out, room,
        b"HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nContent-Type: text/plain\r\n"
        b"Access-Control-Allow-Origin: *\r\n"
        b"Access-Control-Expose-Headers: Cache-Status, Retry-After\r\n",
        status, reason_phrase(status), error_body_len(status))
    if kept_s:
        n += snprintf(out + n, room - n, b"Cache-Control: max-age=%llu\r\n",
                      <unsigned long long>kept_s)
    else:
        n += snprintf(out + n, room - n, b"Cache-Control: no-store\r\n")
    if status == 416:
        n += snprintf(out + n, room - n, b"Content-Range: bytes */%llu\r\n",
                      <unsigned long long>size)
    elif status == 405:
        n += snprintf(out + n, room - n, b"Allow: GET, HEAD, OPTIONS\r\n")
    elif status == 429 or status == 503 or status == 504:
        n += snprintf(out + n, room - n, b"Retry-After: 1\r\n")
    return n


cdef inline size_t error_body_len(int status) noexcept nogil:
    return 5 + strlen(reason_phrase(status))


cdef inline size_t error_body(char *out, size_t room, int status) noexcept nogil:
    return snprintf(out, room, b"%d %s\n", status, reason_phrase(status))


cdef inline size_t preflight_head(char *out, size_t room) noexcept nogil:
    """CORS preflight (Fetch standard 3.2.2): players send Range and CMCD fields."""
    return snprintf(
        out, room,
        b"HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\n"
        b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"
        b"Access-Control-Allow-Headers: *, Range\r\nAccess-Control-Max-Age: 86400\r\n")
