"""Head: the response head of an entry, rendered once when the entry is made.

`line` is the status line with the framing field (Content-Length, or Transfer-Encoding when the
length is not known yet), `fields` everything that does not depend on the request (type, caching,
validator, CORS). Both lie side by side, so that a plain 200 is one slice; a 206 or 304 renders its
own line and reuses `fields`. What changes with time or request (Age, Date, Cache-Status,
Connection) is the tail, rendered per answer in response.pxd.

Law: immutable once made; freed with its entry or version.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, strlen
from edgecache.native.base cimport EC_LIVE_HEAD, live_add
from edgecache.native.types cimport Slice, cbyte, slice_of


cdef enum:
    HEAD_LINE_BYTES = 128                # status line + framing field, at most


cdef struct Head:
    int64_t length                       # what the line says of the body; -1: chunked
    uint32_t line_len
    uint32_t fields_len
    uint32_t etag_off                    # of the value, quotes included; inside the fields
    uint32_t etag_len                    # 0: no validator
    unsigned char bytes[1]               # line, then fields


cdef inline const char *reason_phrase(int status) noexcept nogil:
    if status == 200:
        return b"OK"
    if status == 204:
        return b"No Content"
    if status == 206:
        return b"Partial Content"
    if status == 301:
        return b"Moved Permanently"
    if status == 302:
        return b"Found"
    if status == 304:
        return b"Not Modified"
    if status == 400:
        return b"Bad Request"
    if status == 403:
        return b"Forbidden"
    if status == 404:
        return b"Not Found"
    if status == 405:
        return b"Method Not Allowed"
    if status == 408:
        return b"Request Timeout"
    if status == 410:
        return b"Gone"
    if status == 414:
        return b"URI Too Long"
    if status == 416:
        return b"Range Not Satisfiable"
    if status == 421:
        return b"Misdirected Request"
    if status == 429:
        return b"Too Many Requests"
    if status == 431:
        return b"Request Header Fields Too Large"
    if status == 500:
        return b"Internal Server Error"
    if status == 501:
        return b"Not Implemented"
    if status == 502:
        return b"Bad Gateway"
    if status == 503:
        return b"Service Unavailable"
    if status == 504:
        return b"Gateway Timeout"
    if status == 505:
        return b"HTTP Version Not Supported"
    if status == 508:
        return b"Loop Detected"
    return b"Status"


cdef inline const char *common_fields() noexcept nogil:
    """What every answer carries: players on other origins must be able to read timing and cache
    facts."""
    return (b"Accept-Ranges: bytes\r\n"
            b"Access-Control-Allow-Origin: *\r\n"
            b"Access-Control-Expose-Headers: Age, Cache-Status, Content-Length, Content-Range, "
            b"Date, ETag, Server-Timing\r\n")


cdef inline int _head_line(char *out, int status, int64_t length) noexcept nogil:
    if length >= 0:
        return snprintf(out, HEAD_LINE_BYTES, b"HTTP/1.1 %d %s\r\nContent-Length: %lld\r\n",
                        status, reason_phrase(status), <long long>length)
    return snprintf(out, HEAD_LINE_BYTES, b"HTTP/1.1 %d %s\r\nTransfer-Encoding: chunked\r\n",
                    status, reason_phrase(status))


cdef inline Head *head_new(int status, int64_t length, Slice fields, Slice etag) noexcept nogil:
    """`fields`: complete lines. `etag`: the opaque value without quotes, may be empty. NULL: no
    memory."""
    cdef char line[HEAD_LINE_BYTES]
    cdef int line_len = _head_line(line, status, length)
    cdef const char *common = common_fields()
    cdef size_t common_len = strlen(common)
    cdef size_t etag_line = etag.len + 10 if etag.len else 0          # ETag: "…"\r\n
    cdef size_t fields_len = fields.len + common_len + etag_line
    cdef Head *head = <Head *>malloc(sizeof(Head) + line_len + fields_len)
    cdef unsigned char *p
    if head == NULL:
        return NULL
    live_add(EC_LIVE_HEAD, 1)
    head.length = length
    head.line_len = line_len
    head.fields_len = <uint32_t>fields_len
    head.etag_off = 0
    head.etag_len = 0
    p = head.bytes
    memcpy(p, line, line_len)
    p += line_len
    memcpy(p, fields.data, fields.len)
    p += fields.len
    memcpy(p, common, common_len)
    p += common_len
    if etag.len:
        memcpy(p, b"ETag: \"", 7)
        memcpy(p + 7, etag.data, etag.len)
        memcpy(p + 7 + etag.len, b"\"\r\n", 3)
        head.etag_off = <uint32_t>(p + 6 - head.bytes)
        head.etag_len = <uint32_t>etag.len + 2
    return head


cdef inline void head_free(Head *head) noexcept nogil:
    if head != NULL:
        free(head)
        live_add(EC_LIVE_HEAD, -1)


cdef inline Slice head_full(Head *head) noexcept nogil:
    return slice_of(head.bytes, head.line_len + head.fields_len)


cdef inline Slice head_fields(Head *head) noexcept nogil:
    return slice_of(head.bytes + head.line_len, head.fields_len)


cdef inline Slice head_etag(Head *head) noexcept nogil:
    return slice_of(head.bytes + head.etag_off, head.etag_len)
