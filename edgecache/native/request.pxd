"""Request-head parser: one complete HTTP/1.x head in, slices into the caller's buffer out.

Contract: request_end() says whether the head is complete; request_parse() is then called once and
answers 0 or the status to refuse with (400, 405, 414, 431, 501, 505). No allocation, no copy, no
state. Stricter than llhttp everywhere (what this accepts, llhttp accepts): CRLF only, no obs-fold,
no space before a colon, no control bytes, exactly one valid Host on 1.1, no Transfer-Encoding, no
body on a viewer's request. What it does not know: targets beyond their form, and what fields mean.
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memset
from edgecache.native.types cimport (
    CLIENT_FIELD_FORWARDED, CLIENT_FIELD_X_FORWARDED_FOR, Limits, Slice, cbyte, slice_of,
)


cdef extern from "chars.h" nogil:
    enum:
        EC_CH_TOKEN
        EC_CH_UNRESERVED
        EC_CH_PATH
        EC_CH_HOST
        EC_CH_VALUE
    bint char_is(unsigned char c, int mask)
    int hex_value(unsigned char c)


cdef extern from "strings.h" nogil:
    int strncasecmp(const char *a, const char *b, size_t n)


cdef enum Method:
    METHOD_NONE                          # the head was not understood
    METHOD_GET
    METHOD_HEAD
    METHOD_OPTIONS


cdef struct Request:
    Method method
    Slice target
    Slice host
    Slice range
    Slice if_none_match
    Slice if_range
    Slice client                         # the field that limits.client_field names, its last line
    size_t head_len
    uint32_t fields
    uint8_t minor                        # HTTP/1.minor
    bint keep_alive
    bint close                           # said so: wins over keep-alive (RFC 9112 9.3)
    bint gzip                            # accepts gzip
    bint has_length
    bint came_through                    # other caches: it has a CDN-Loop (loop.pxd)
    uint8_t client_field                 # ClientField


cdef inline size_t request_end(cbyte *data, size_t start, size_t length) noexcept nogil:
    """Bytes up to and with the empty line that ends the head, looking from `start`; 0: not
    complete. Bare LFs count, to be refused at once instead of waited on."""
    cdef cbyte *end = data + length
    cdef cbyte *p = data + start
    while True:
        p = <cbyte *>memchr(p, 10, end - p)
        if p == NULL:
            return 0
        p += 1
        if p < end and p[0] == 10:
            return p + 1 - data
        if p + 1 < end and p[0] == 13 and p[1] == 10:
            return p + 2 - data


cdef inline bint name_is(Slice name, const char *lower, size_t length) noexcept nogil:
    return name.len == length and strncasecmp(<const char *>name.data, lower, length) == 0


cdef inline bint _word_is(Slice word, const char *text, size_t length) noexcept nogil:
    return word.len == length and memcmp(word.data, text, length) == 0


cdef inline int _method(Slice word, Request *request) noexcept nogil:
    cdef size_t i
    if _word_is(word, b"GET", 3):
        request.method = METHOD_GET
        return 0
    if _word_is(word, b"HEAD", 4):
        request.method = METHOD_HEAD
        return 0
    if _word_is(word, b"OPTIONS", 7):
        request.method = METHOD_OPTIONS
        return 0
    for i in range(word.len):
        if not char_is(word.data[i], EC_CH_TOKEN):
            return 400
    if word.len == 0:
        return 400
    if (_word_is(word, b"POST", 4) or _word_is(word, b"PUT", 3) or _word_is(word, b"DELETE", 6)
            or _word_is(word, b"PATCH", 5) or _word_is(word, b"TRACE", 5)
            or _word_is(word, b"CONNECT", 7)):
        return 405
    return 501


cdef inline int _version(Slice word, Request *request) noexcept nogil:
    if word.len != 8 or memcmp(word.data, b"HTTP/", 5) != 0 or word.data[6] != 46:
        return 400
    if not (48 <= word.data[5] <= 57 and 48 <= word.data[7] <= 57):
        return 400
    if word.data[5] != 49 or word.data[7] > 49:
        return 505
    request.minor = word.data[7] - 48
    request.keep_alive = request.minor == 1
    return 0


cdef inline int _request_line(Slice line, const Limits *limits, Request *request) noexcept nogil:
    """method SP request-target SP HTTP-version (RFC 9112 3): single spaces, nothing else."""
    cdef cbyte *space = <cbyte *>memchr(line.data, 32, line.len)
    cdef cbyte *second
    cdef size_t left
    cdef int status
    if space == NULL:
        return 400
    left = line.data + line.len - (space + 1)
    second = <cbyte *>memchr(space + 1, 32, left)
    if second == NULL or second == space + 1:
        return 400
    status = _version(slice_of(second + 1, line.data + line.len - (second + 1)), request)
    if status:
        return status
    status = _method(slice_of(line.data, space - line.data), request)
    if status:
        return status
    request.target = slice_of(space + 1, second - (space + 1))
    return 414 if request.target.len > limits.target_bytes else 0


cdef inline int _host(Slice value, Request *request) noexcept nogil:
    cdef size_t i
    if request.host.data != NULL or value.len == 0:
        return 400
    for i in range(value.len):
        if not char_is(value.data[i], EC_CH_HOST):
            return 400
    request.host = value
    return 0


cdef inline Slice trim(Slice s) noexcept nogil:
    while s.len and (s.data[0] == 32 or s.data[0] == 9):
        s.data += 1
        s.len -= 1
    while s.len and (s.data[s.len - 1] == 32 or s.data[s.len - 1] == 9):
        s.len -= 1
    return s


cdef inline bint next_element(Slice *rest, Slice *element) noexcept nogil:
    """The next member of a comma-separated list, trimmed. False: no more."""
    cdef cbyte *comma
    if rest.data == NULL:
        return False
    comma = <cbyte *>memchr(rest.data, 44, rest.len)
    if comma == NULL:
        element[0] = trim(rest[0])
        rest.data = NULL
        return True
    element[0] = trim(slice_of(rest.data, comma - rest.data))
    rest.len -= comma + 1 - rest.data
    rest.data = comma + 1
    return True


cdef inline void _connection(Slice value, Request *request) noexcept nogil:
    cdef Slice element
    while next_element(&value, &element):
        if name_is(element, b"close", 5):
            request.close = True
        elif name_is(element, b"keep-alive", 10) and request.minor == 0:
            request.keep_alive = True
    request.keep_alive = request.keep_alive and not request.close


cdef inline bint accepts_gzip(Slice value) noexcept nogil:
    """gzip named with a weight that is not zero (RFC 9110 12.5.3)."""
    cdef Slice element
    cdef size_t i
    while next_element(&value, &element):
        if element.len >= 4 and strncasecmp(<const char *>element.data, b"gzip", 4) == 0:
            if element.len == 4:
                return True
            if element.data[4] != 59 and element.data[4] != 32 and element.data[4] != 9:
                continue
            for i in range(4, element.len):
                if 49 <= element.data[i] <= 57:
                    return True          # a digit from 1 to 9 anywhere in ";q=0.001"
            return memchr(element.data, 61, element.len) == NULL
    return False


cdef inline int _length(Slice value, Request *request) noexcept nogil:
    """A viewer's request carries no body: Content-Length may only be 0, once."""
    if request.has_length or value.len != 1 or value.data[0] != 48:
        return 400
    request.has_length = True
    return 0


cdef inline int _field(Slice name, Slice value, Request *request) noexcept nogil:
    cdef unsigned char first = name.data[0] | 0x20
    if first == 104 and name_is(name, b"host", 4):
        return _host(value, request)
    if first == 99:
        if name_is(name, b"connection", 10):
            _connection(value, request)
        elif name_is(name, b"content-length", 14):
            return _length(value, request)
        elif name_is(name, b"cdn-loop", 8):
            request.came_through = True
    elif first == 97 and name_is(name, b"accept-encoding", 15):
        request.gzip = request.gzip or accepts_gzip(value)
    elif first == 114 and name_is(name, b"range", 5):
        if request.range.data == NULL:
            request.range = value
    elif first == 105:
        if name_is(name, b"if-none-match", 13):
            request.if_none_match = value
        elif name_is(name, b"if-range", 8):
            request.if_range = value
    elif first == 116 and name_is(name, b"transfer-encoding", 17):
        return 400
    elif first == 102:
        if request.client_field == CLIENT_FIELD_FORWARDED and name_is(name, b"forwarded", 9):
            request.client = value
    elif first == 120:
        if (request.client_field == CLIENT_FIELD_X_FORWARDED_FOR
                and name_is(name, b"x-forwarded-for", 15)):
            request.client = value
    return 0


cdef inline int _field_line(Slice line, Request *request) noexcept nogil:
    """field-name ":" OWS field-value OWS; no whitespace before the colon, no folding (RFC 9112 5.1,
    5.2)."""
    cdef size_t at = 0
    cdef size_t i
    while at < line.len and char_is(line.data[at], EC_CH_TOKEN):
        at += 1
    if at == 0 or at == line.len or line.data[at] != 58:
        return 400
    for i in range(at + 1, line.len):
        if not char_is(line.data[i], EC_CH_VALUE):
            return 400
    return _field(slice_of(line.data, at), trim(slice_of(line.data + at + 1, line.len - at - 1)),
                  request)


cdef inline int request_parse(cbyte *data, size_t head_len, const Limits *limits,
                              Request *request) noexcept nogil:
    """`head_len` from request_end(). 0, or the status to refuse with; then the connection must
    close."""
    cdef cbyte *p = data
    cdef cbyte *end = data + head_len
    cdef cbyte *lf
    cdef bint first = True
    cdef int status
    memset(request, 0, sizeof(Request))
    request.head_len = head_len
    request.client_field = <uint8_t>limits.client_field
    while p < end:
        lf = <cbyte *>memchr(p, 10, end - p)
        if lf == NULL or lf == p or (lf - 1)[0] != 13:
            return 400
        if lf - 1 == p:
            break                        # the empty line
        if first:
            status = _request_line(slice_of(p, lf - 1 - p), limits, request)
            first = False
        else:
            request.fields += 1
            if request.fields > limits.header_fields:
                return 431
            status = _field_line(slice_of(p, lf - 1 - p), request)
        if status:
            return status
        p = lf + 1
    if first or (request.minor == 1 and request.host.data == NULL):
        return 400
    return 0
