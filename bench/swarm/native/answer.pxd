"""The head of an answer, and where its body ends.

Contract: head_end() finds the empty line; answer_parse() is then called once and says whether the
head is HTTP/1.x as we know it. chunk_next() walks chunked framing over arriving bytes. No copies.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset
from edgecache.native.types cimport Slice, cbyte, slice_of
from bench.swarm.native.rim cimport memmem
from bench.swarm.native.types cimport (
    ETAG_BYTES, FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH, Answer, Etag,
)


cdef extern from "strings.h" nogil:
    int strncasecmp(const char *a, const char *b, size_t n)


cdef enum ChunkState:
    CHUNK_SIZE
    CHUNK_REST                           # of the size line: extensions, CR
    CHUNK_DATA
    CHUNK_TAIL                           # CR LF behind the data
    CHUNK_TRAILER                        # at the beginning of a trailer line
    CHUNK_TRAILER_REST                   # inside one
    CHUNK_DONE
    CHUNK_BAD


cdef inline size_t head_end(cbyte *data, size_t size) noexcept nogil:
    """Bytes of the head with its empty line; 0: not all there."""
    cdef cbyte *found = <cbyte *>memmem(data, size, b"\r\n\r\n", 4)
    return found + 4 - data if found != NULL else 0


cdef inline bint _named(Slice line, const char *name, size_t size) noexcept nogil:
    return (line.len > size and line.data[size] == c':'
            and strncasecmp(<const char *>line.data, name, size) == 0)


cdef inline Slice _value(Slice line, size_t size) noexcept nogil:
    cdef Slice value = slice_of(line.data + size + 1, line.len - size - 1)
    while value.len and (value.data[0] == c' ' or value.data[0] == c'\t'):
        value.data += 1
        value.len -= 1
    while value.len and value.data[value.len - 1] <= c' ':
        value.len -= 1
    return value


cdef inline bint _says(Slice value, const char *word, size_t size) noexcept nogil:
    return value.len == size and strncasecmp(<const char *>value.data, word, size) == 0


cdef inline int64_t _length(Slice value) noexcept nogil:
    cdef int64_t n = 0
    cdef size_t i
    if value.len == 0 or value.len > 15:
        return -1
    for i in range(value.len):
        if not c'0' <= value.data[i] <= c'9':
            return -1
        n = n * 10 + (value.data[i] - c'0')
    return n


cdef inline void _etag(Etag *etag, Slice value) noexcept nogil:
    if value.len <= ETAG_BYTES:
        etag.size = <uint8_t>value.len
        memcpy(etag.text, value.data, value.len)


cdef inline bint _field(Answer *answer, Slice line) noexcept nogil:
    if _named(line, b"content-length", 14):
        answer.left = _length(_value(line, 14))
        answer.framing = FRAMING_LENGTH
        return answer.left >= 0
    if _named(line, b"transfer-encoding", 17):
        answer.framing = FRAMING_CHUNKED
        return _says(_value(line, 17), b"chunked", 7)
    if _named(line, b"connection", 10):
        answer.closes = _says(_value(line, 10), b"close", 5)
    elif _named(line, b"etag", 4):
        _etag(&answer.etag, _value(line, 4))
    return True


cdef inline bint answer_parse(Answer *answer, cbyte *head, size_t size) noexcept nogil:
    """False: not an answer to a GET that we can frame."""
    cdef cbyte *end = head + size
    cdef cbyte *p = head
    cdef cbyte *stop
    if size < 14 or memcmp(head, b"HTTP/1.", 7) != 0 or head[8] != c' ':
        return False
    answer.status = (head[9] - c'0') * 100 + (head[10] - c'0') * 10 + (head[11] - c'0')
    answer.framing = FRAMING_CLOSE
    answer.closes = head[7] == c'0'
    while True:
        stop = <cbyte *>memchr(p, c'\n', end - p)
        p = stop + 1
        if p + 2 >= end:
            break
        stop = <cbyte *>memchr(p, c'\n', end - p)
        if not _field(answer, slice_of(p, stop - 1 - p)):
            return False
    if answer.framing == FRAMING_CLOSE:
        answer.closes = True
    return 200 <= answer.status < 600


cdef inline int _hex(unsigned char c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 32
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef inline void _chunk_byte(Answer *answer, unsigned char c) noexcept nogil:
    """One byte that is not data."""
    cdef int digit
    if answer.chunk_state == CHUNK_SIZE:
        digit = _hex(c)
        if digit >= 0 and answer.left < (<int64_t>1 << 40):
            answer.left = answer.left * 16 + digit
        elif c == c'\n':
            answer.chunk_state = CHUNK_DATA if answer.left else CHUNK_TRAILER
        elif c == c'\r' or c == c';' or c == c' ':
            answer.chunk_state = CHUNK_REST
        else:
            answer.chunk_state = CHUNK_BAD
    elif answer.chunk_state == CHUNK_REST:
        if c == c'\n':
            answer.chunk_state = CHUNK_DATA if answer.left else CHUNK_TRAILER
    elif answer.chunk_state == CHUNK_TAIL:
        if c == c'\n':
            answer.chunk_state = CHUNK_SIZE
            answer.left = 0
    elif answer.chunk_state == CHUNK_TRAILER:
        if c == c'\n':
            answer.chunk_state = CHUNK_DONE
        elif c != c'\r':
            answer.chunk_state = CHUNK_TRAILER_REST
    elif c == c'\n':
        answer.chunk_state = CHUNK_TRAILER


cdef inline Slice chunk_next(Answer *answer, Slice *data) noexcept nogil:
    """The next run of body bytes, taken from the front of `data`; len 0: all of it was walked, or
    chunk_state is DONE or BAD."""
    cdef Slice run
    while data.len and answer.chunk_state < CHUNK_DONE:
        if answer.chunk_state == CHUNK_DATA:
            run = slice_of(data.data, min(data.len, <size_t>answer.left))
            data.data += run.len
            data.len -= run.len
            answer.left -= run.len
            if answer.left == 0:
                answer.chunk_state = CHUNK_TAIL
            return run
        _chunk_byte(answer, data.data[0])
        data.data += 1
        data.len -= 1
    return slice_of(data.data, 0)
