"""Request target → canonical key: one spelling for one object, or 400.

The key is the path with percent-encoding normalised (RFC 3986 6.2.2: unreserved characters bare,
everything else encoded in upper case), and for playlists the LL-HLS delivery directives in the
order the specification asks for (RFC 8216bis 6.2.5), percent-encoding resolved. No other part of a
query reaches the key or an origin, but for parameters that a route names (keep.pxd): tokens, CMCD
and what else players add never split a cache. Dot segments, empty segments, encoded slashes,
backslashes and control bytes are refused.
"""
from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcmp, memset
from edgecache.native.keep cimport Keep, keep_write
from edgecache.native.live cimport Want
from edgecache.native.request cimport EC_CH_HOST, EC_CH_PATH, EC_CH_UNRESERVED, char_is, hex_value
from edgecache.native.types cimport Slice, cbyte, slice_of


cdef enum:
    QUERY_BYTES = 96                     # canonical directives, at most
    PART_MAX = 1 << 20
    # the longest directive is _HLS_msn= and 18 digits; what is longer is none, or a bad one
    DIRECTIVE_BYTES = 40


cdef struct Target:
    # canonical, in the caller's buffer; with the parameters that a route keeps
    Slice path
    Slice full                           # path, and directives if there are any
    Want want
    bint playlist                        # ends in .m3u8
    bint bad_directives                  # refused for a playlist (400)


cdef inline size_t _escape(unsigned char c, unsigned char *out) noexcept nogil:
    cdef const char *digits = "0123456789ABCDEF"
    out[0] = 37
    out[1] = <unsigned char>digits[c >> 4]
    out[2] = <unsigned char>digits[c & 15]
    return 3


cdef inline ssize_t _path(Slice raw, unsigned char *out) noexcept nogil:
    """Length of the canonical path, or −1. `out` holds three bytes for each of raw."""
    cdef size_t i = 0
    cdef size_t n = 0
    cdef int high
    cdef int low
    cdef unsigned char c
    while i < raw.len:
        c = raw.data[i]
        i += 1
        if c == 37:                      # '%'
            if i + 2 > raw.len:
                return -1
            high = hex_value(raw.data[i])
            low = hex_value(raw.data[i + 1])
            if high < 0 or low < 0:
                return -1
            i += 2
            c = <unsigned char>(high * 16 + low)
            if c < 32 or c == 127 or c == 47 or c == 92:
                return -1
            if char_is(c, EC_CH_UNRESERVED):
                out[n] = c
                n += 1
            else:
                n += _escape(c, out + n)
        elif char_is(c, EC_CH_PATH):
            out[n] = c
            n += 1
        elif c <= 32 or c >= 127 or c == 92 or c == 35:
            return -1
        else:
            n += _escape(c, out + n)
    return n


cdef inline bint _segments_ok(cbyte *path, size_t length) noexcept nogil:
    """Starts with "/", and no segment but the last is empty, ".", or ".."."""
    cdef size_t start = 1
    cdef size_t i
    if length == 0 or path[0] != 47:
        return False
    for i in range(1, length + 1):
        if i < length and path[i] != 47:
            continue
        if i == start and i < length:
            return False
        if i - start <= 2 and i > start and path[start] == 46 and (i - start == 1
                                                                   or path[start + 1] == 46):
            return False
        start = i + 1
    return True


cdef inline bint _query_ok(Slice query) noexcept nogil:
    """Visible bytes, and no fragment: ignored or not, it was part of a request line."""
    cdef size_t i
    for i in range(query.len):
        if query.data[i] <= 32 or query.data[i] >= 127 or query.data[i] == 35:
            return False
    return True


cdef inline bint _number(Slice value, uint64_t *out) noexcept nogil:
    cdef size_t i
    cdef uint64_t n = 0
    if value.len == 0 or value.len > 18:
        return False
    for i in range(value.len):
        if not 48 <= value.data[i] <= 57:
            return False
        n = n * 10 + (value.data[i] - 48)
    out[0] = n
    return True


cdef inline Slice _plain(Slice pair, unsigned char *out) noexcept nogil:
    """With its percent-encoding resolved, cut at DIRECTIVE_BYTES."""
    cdef size_t i = 0
    cdef size_t n = 0
    if memchr(pair.data, 37, pair.len) == NULL:
        return pair
    while i < pair.len and n < DIRECTIVE_BYTES:
        out[n] = pair.data[i]
        if (out[n] == 37 and i + 2 < pair.len and hex_value(pair.data[i + 1]) >= 0
                and hex_value(pair.data[i + 2]) >= 0):
            out[n] = <unsigned char>(hex_value(pair.data[i + 1]) * 16
                                     + hex_value(pair.data[i + 2]))
            i += 2
        i += 1
        n += 1
    return slice_of(out, n)


cdef inline void _directive(Slice pair, Target *target) noexcept nogil:
    cdef unsigned char plain[DIRECTIVE_BYTES]
    cdef uint64_t number = 0
    pair = _plain(pair, plain)
    if pair.len >= 9 and memcmp(pair.data, b"_HLS_msn=", 9) == 0:
        if target.want.has_msn or not _number(slice_of(pair.data + 9, pair.len - 9), &number):
            target.bad_directives = True
        target.want.has_msn = True
        target.want.msn = number
    elif pair.len >= 10 and memcmp(pair.data, b"_HLS_part=", 10) == 0:
        if target.want.has_part or not _number(slice_of(pair.data + 10, pair.len - 10),
                                               &number) or number > PART_MAX:
            target.bad_directives = True
            number = 0
        target.want.has_part = True
        target.want.part = <unsigned int>number
    elif pair.len >= 10 and memcmp(pair.data, b"_HLS_skip=", 10) == 0:
        pair = slice_of(pair.data + 10, pair.len - 10)
        if pair.len == 3 and memcmp(pair.data, b"YES", 3) == 0:
            target.want.delta = True
        elif pair.len == 2 and memcmp(pair.data, b"v2", 2) == 0:
            target.want.delta = True
            target.want.v2 = True


cdef inline void _directives(Slice query, Target *target) noexcept nogil:
    cdef cbyte *amp
    while query.data != NULL:
        amp = <cbyte *>memchr(query.data, 38, query.len)
        if amp == NULL:
            _directive(query, target)
            break
        _directive(slice_of(query.data, amp - query.data), target)
        query.len -= amp + 1 - query.data
        query.data = amp + 1
    if target.want.has_part and not target.want.has_msn:
        target.bad_directives = True     # 6.2.5.2: 400


cdef inline size_t write_directives(Want *want, char *out, bint more) noexcept nogil:
    """?_HLS_msn=…&_HLS_part=…&_HLS_skip=YES|v2, in this order; `more`: behind others."""
    cdef int n = 0
    if want.has_msn:
        n = snprintf(out, QUERY_BYTES, b"?_HLS_msn=%llu", <unsigned long long>want.msn)
        if want.has_part:
            n += snprintf(out + n, QUERY_BYTES - n, b"&_HLS_part=%u", want.part)
    if want.delta:
        n += snprintf(out + n, QUERY_BYTES - n, b"%s_HLS_skip=%s",
                      <const char *>b"&" if n else <const char *>b"?",
                      <const char *>b"v2" if want.v2 else <const char *>b"YES")
    if n and more:
        out[0] = 38
    return n


cdef inline Slice target_authority(Slice raw) noexcept nogil:
    """Of an absolute-form target (RFC 9112 3.2.2), as it stands there; data NULL: it has another
    form."""
    cdef cbyte *slash
    cdef size_t scheme = 0
    if raw.len > 7 and memcmp(raw.data, b"http://", 7) == 0:
        scheme = 7
    elif raw.len > 8 and memcmp(raw.data, b"https://", 8) == 0:
        scheme = 8
    if not scheme:
        return slice_of(NULL, 0)
    slash = <cbyte *>memchr(raw.data + scheme, 47, raw.len - scheme)
    if slash == NULL:
        slash = raw.data + raw.len
    return slice_of(raw.data + scheme, slash - (raw.data + scheme))


cdef inline Slice _origin_form(Slice raw) noexcept nogil:
    """The path and query of an absolute-form target, empty if it is none of a server; anything else
    as it is."""
    cdef Slice authority = target_authority(raw)
    cdef cbyte *path
    cdef size_t i
    if authority.data == NULL:
        return raw
    path = authority.data + authority.len
    for i in range(authority.len):
        if not char_is(authority.data[i], EC_CH_HOST):   # no userinfo; "?" before "/" is a query
            return slice_of(raw.data, 0)
    return slice_of(path, raw.data + raw.len - path if authority.len else 0)


cdef inline bint target_parse(Slice raw, Keep *keep, unsigned char *buffer,
                              Target *target) noexcept nogil:
    """False: 400. `keep` may be NULL: nothing is. `buffer` has room for 3 × raw.len + QUERY_BYTES;
    the slices of *target point into it."""
    cdef cbyte *mark
    cdef Slice query
    cdef ssize_t n
    memset(target, 0, sizeof(Target))
    raw = _origin_form(raw)
    query = slice_of(NULL, 0)
    mark = <cbyte *>memchr(raw.data, 63, raw.len)
    if mark != NULL:
        query = slice_of(mark + 1, raw.data + raw.len - (mark + 1))
        raw.len = mark - raw.data
    n = _path(raw, buffer)
    if n <= 0 or not _segments_ok(buffer, n) or not _query_ok(query):
        return False
    target.path = slice_of(buffer, n)
    target.playlist = n >= 5 and memcmp(buffer + n - 5, b".m3u8", 5) == 0
    if query.data != NULL and keep != NULL:
        target.path.len += keep_write(keep, target.path, query, buffer + n)
    target.full = target.path
    if target.playlist and query.data != NULL:
        _directives(query, target)
        target.full.len += write_directives(&target.want, <char *>buffer + target.path.len,
                                            target.path.len > <size_t>n)
    return True
