"""Again: the request of a parked exchange, written once more for the process that succeeds this
one. What was read of it is gone, but all that its answer depends on is in the exchange.

Law: at most AGAIN_BYTES beyond its key. Does not know connections.
"""
from libc.string cimport memchr, memcpy, strlen
from edgecache.native.context cimport RANGE_BYTES, VALIDATOR_BYTES, Exchange
from edgecache.native.hosts cimport host_again
from edgecache.native.request cimport METHOD_HEAD
from edgecache.native.target cimport QUERY_BYTES, write_directives
from edgecache.native.types cimport Slice, cbyte, slice_of


cdef enum:
    AGAIN_BYTES = 160 + QUERY_BYTES + VALIDATOR_BYTES + RANGE_BYTES


cdef inline size_t _put(char *out, Slice text) noexcept nogil:
    memcpy(out, text.data, text.len)
    return text.len


cdef inline size_t _words(char *out, const char *words) noexcept nogil:
    return _put(out, slice_of(<cbyte *>words, strlen(words)))


cdef inline size_t _field(char *out, const char *name, Slice value) noexcept nogil:
    cdef size_t n = _words(out, name)
    n += _put(out + n, value)
    return n + _words(out + n, b"\r\n")


cdef inline size_t request_again(Exchange *x, char *out) noexcept nogil:
    """Into `out`, of key_len + AGAIN_BYTES; returns its length."""
    cdef Slice key = slice_of(x.hold.entry.key, x.hold.entry.key_len)
    cdef size_t n = _words(out, b"HEAD " if x.method == METHOD_HEAD else b"GET ")
    n += _put(out + n, key)
    if x.by_path:
        n += write_directives(&x.want, out + n, memchr(key.data, 63, key.len) != NULL)
    n += _words(out + n, b" HTTP/1.1\r\nHost: ")
    n += _words(out + n, host_again())
    n += _words(out + n, b"\r\n")
    if x.gzip:
        n += _words(out + n, b"Accept-Encoding: gzip\r\n")
    if x.validator.len:
        n += _field(out + n, b"If-None-Match: ", x.validator)
    if x.ranged:
        n += _field(out + n, b"Range: ", x.range)
    return n + _words(out + n, b"\r\n")
