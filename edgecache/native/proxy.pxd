"""PROXY: the header by which a load balancer says whom a connection is from, versions 1 and 2 of
the haproxy.org proxy-protocol specification (sections 2.1 and 2.2).

Contract: looks at the first bytes of a connection; consumed / partial / bad, with no state, so that
it may be called again with more. No allocation, no copy. What is no prefix of a header is bad at
once, not waited for. It does not know who may send one: the caller only looks where the peer is a
proxy of ours (door.pxd). Bounds: PROXY_V1_BYTES, PROXY_V2_BYTES. """
from libc.string cimport memchr, memcmp
from edgecache.native.address cimport Address, address_parse, address_v4, address_v6
from edgecache.native.sys cimport AF_INET, AF_INET6
from edgecache.native.types cimport Slice, cbyte, slice_of


cdef enum:
    PROXY_V1_BYTES = 107                 # the longest line, CRLF included (2.1)
    PROXY_V2_BYTES = 4096                # with its TLVs: room for a client certificate's names
    PROXY_V2_HEAD = 16
    # byte 13 of version 2, and the bytes of its address block
    PROXY_TCP4 = 0x11
    PROXY_TCP6 = 0x21


cdef enum ProxyVerdict:
    PROXY_PARTIAL
    PROXY_BAD
    PROXY_LOCAL                          # it does not say who: the connection is the proxy's own
    PROXY_TOLD


cdef struct ProxyHeader:
    size_t len                           # to skip
    Address source                       # PROXY_TOLD only


cdef inline bint _starts(cbyte *data, size_t length, const char *with_, size_t size) noexcept nogil:
    """Is one a prefix of the other?"""
    return memcmp(data, with_, length if length < size else size) == 0


cdef inline bint _word(Slice *rest, Slice *word) noexcept nogil:
    """What stands before the next space; the last word takes what is left. False: no more."""
    cdef cbyte *space
    if rest.data == NULL:
        return False
    space = <cbyte *>memchr(rest.data, 32, rest.len)
    if space == NULL:
        word[0] = rest[0]
        rest.data = NULL
        return True
    word[0] = slice_of(rest.data, space - rest.data)
    rest[0] = slice_of(space + 1, rest.data + rest.len - (space + 1))
    return True


cdef inline bint _port_ok(Slice text) noexcept nogil:
    """0 to 65535, without leading zeros."""
    cdef unsigned int n = 0
    cdef size_t i
    if not 0 < text.len <= 5 or (text.data[0] == 48 and text.len > 1):
        return False
    for i in range(text.len):
        if not 48 <= text.data[i] <= 57:
            return False
        n = n * 10 + (text.data[i] - 48)
    return n <= 65535


cdef inline ProxyVerdict _v1_line(Slice line, Address *source) noexcept nogil:
    """Behind "PROXY ", without CRLF: TCP4|TCP6 source destination port port, or UNKNOWN and
    anything."""
    cdef Slice words[5]
    cdef Slice rest = line
    cdef Address destination
    cdef int family
    cdef int n = 0
    while n < 5 and _word(&rest, &words[n]):
        n += 1
    if words[0].len == 7 and memcmp(words[0].data, b"UNKNOWN", 7) == 0:
        return PROXY_LOCAL
    if n != 5 or rest.data != NULL or words[0].len != 4 or memcmp(words[0].data, b"TCP", 3) != 0:
        return PROXY_BAD
    if words[0].data[3] != 52 and words[0].data[3] != 54:
        return PROXY_BAD
    family = AF_INET if words[0].data[3] == 52 else AF_INET6
    if (address_parse(words[1], family, source) and address_parse(words[2], family, &destination)
            and _port_ok(words[3]) and _port_ok(words[4])):
        return PROXY_TOLD
    return PROXY_BAD


cdef inline ProxyVerdict _v1(cbyte *data, size_t length, ProxyHeader *header) noexcept nogil:
    cdef size_t most = length if length < PROXY_V1_BYTES else PROXY_V1_BYTES
    cdef cbyte *lf = <cbyte *>memchr(data, 10, most)
    if lf == NULL:
        return PROXY_BAD if length >= PROXY_V1_BYTES else PROXY_PARTIAL
    if lf - data < 7 or (lf - 1)[0] != 13:
        return PROXY_BAD
    header.len = lf + 1 - data
    return _v1_line(slice_of(data + 6, lf - 1 - (data + 6)), &header.source)


cdef inline bint _tlvs_ok(cbyte *data, size_t length) noexcept nogil:
    """Each is a type, a length of two bytes and a value; together they fill what they are in."""
    cdef size_t at = 0
    while at < length:
        if length - at < 3:
            return False
        at += 3 + <size_t>(data[at + 1] << 8 | data[at + 2])
    return at == length


cdef inline ProxyVerdict _v2(cbyte *data, size_t length, ProxyHeader *header) noexcept nogil:
    cdef size_t size
    cdef size_t block
    cdef int what
    if length < PROXY_V2_HEAD:
        return PROXY_PARTIAL
    size = data[14] << 8 | data[15]
    # version 2; the commands LOCAL and PROXY; families to UNIX, protocols to DGRAM
    if data[12] >> 4 != 2 or data[12] & 15 > 1 or data[13] >> 4 > 3 or data[13] & 15 > 2:
        return PROXY_BAD
    if size > PROXY_V2_BYTES - PROXY_V2_HEAD:
        return PROXY_BAD
    if length < PROXY_V2_HEAD + size:
        return PROXY_PARTIAL
    header.len = PROXY_V2_HEAD + size
    what = data[13]
    # a health check of the proxy, or an address of a kind that no viewer over TCP has
    if data[12] & 15 == 0 or (what != PROXY_TCP4 and what != PROXY_TCP6):
        return PROXY_LOCAL
    block = 12 if what == PROXY_TCP4 else 36
    if size < block or not _tlvs_ok(data + PROXY_V2_HEAD + block, size - block):
        return PROXY_BAD
    header.source = (address_v4(data + PROXY_V2_HEAD) if what == PROXY_TCP4
                     else address_v6(data + PROXY_V2_HEAD))
    return PROXY_TOLD


cdef inline ProxyVerdict proxy_parse(cbyte *data, size_t length,
                                     ProxyHeader *header) noexcept nogil:
    cdef const char *v1 = "PROXY "
    cdef const char *v2 = "\r\n\r\n\0\r\nQUIT\n"
    if length == 0:
        return PROXY_PARTIAL
    if _starts(data, length, v1, 6):
        return _v1(data, length, header)
    if _starts(data, length, v2, 12):
        return _v2(data, length, header)
    return PROXY_BAD
