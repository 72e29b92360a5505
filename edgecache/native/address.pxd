"""Address: who is at the other end, as it is counted, trusted and logged. An IPv4 address is the
IPv6 address that maps it (RFC 4291 2.5.5.2), so there is one kind.

Law: a plain value, read left to right; :: means that nobody told. Ports and zones are not kept. """
from libc.stdint cimport UINT64_MAX, uint64_t
from libc.string cimport memchr, memcpy
from edgecache.native.sys cimport AF_INET, AF_INET6
from edgecache.native.types cimport Slice, cbyte


cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <endian.h>
    #include <netinet/in.h>
    #include <sys/socket.h>
    typedef struct sockaddr_storage ec_peer; /* what accept4() says about the other end */
    #define EC_MAPPED 0x0000ffff00000000ull /* ::ffff:0:0/96, the low half of it */
    static inline uint64_t ec_big64(const void *p) {
        uint64_t v;
        memcpy(&v, p, 8);
        return be64toh(v);
    }
    static inline uint64_t ec_mapped(const void *p) {
        uint32_t v;
        memcpy(&v, p, 4);
        return EC_MAPPED | be32toh(v);
    }
    static inline const void *ec_peer_v4(const ec_peer *p) {
        return &((const struct sockaddr_in *)p)->sin_addr;
    }
    static inline const void *ec_peer_v6(const ec_peer *p) {
        return &((const struct sockaddr_in6 *)p)->sin6_addr;
    }
    static inline int ec_peer_is(const ec_peer *p, int family) { return p->ss_family == family; }
    /* strict: no leading zeros, no short forms of IPv4, nothing behind it */
    static inline int ec_text_is(int family, const char *text, void *out) {
        return inet_pton(family, text, out) == 1;
    }
    static inline size_t ec_text(uint64_t high, uint64_t low, char *out) {
        uint64_t wide[2] = {htobe64(high), htobe64(low)};
        uint32_t narrow = htobe32((uint32_t)low);
        int mapped = high == 0 && low >> 32 == EC_MAPPED >> 32;
        const void *at = mapped ? (const void *)&narrow : wide;
        inet_ntop(mapped ? AF_INET : AF_INET6, at, out, INET6_ADDRSTRLEN);
        return strlen(out);
    }
    """
    ctypedef struct Peer "ec_peer":
        pass
    enum:
        ADDRESS_TEXT_BYTES "INET6_ADDRSTRLEN"
    uint64_t ec_big64(const void *p) nogil
    uint64_t ec_mapped(const void *p) nogil
    const void *ec_peer_v4(const Peer *peer) nogil
    const void *ec_peer_v6(const Peer *peer) nogil
    bint ec_peer_is(const Peer *peer, int family) nogil
    bint ec_text_is(int family, const char *text, void *out) nogil
    size_t ec_text(uint64_t high, uint64_t low, char *out) nogil


cdef struct Address:
    uint64_t high                        # its first eight bytes: an IPv6 network and subnet
    uint64_t low


cdef struct Network:                     # addresses whose first `bits` are those of `base`
    Address base
    int bits                             # 0 to 128


cdef inline Address address_v4(const void *four) noexcept nogil:
    cdef Address a
    a.high = 0
    a.low = ec_mapped(four)
    return a


cdef inline Address address_v6(const void *sixteen) noexcept nogil:
    cdef Address a
    a.high = ec_big64(sixteen)
    a.low = ec_big64(<cbyte *>sixteen + 8)
    return a


cdef inline Address address_of(const Peer *peer) noexcept nogil:
    """:: for what is not an Internet address."""
    cdef Address nobody
    if ec_peer_is(peer, AF_INET):
        return address_v4(ec_peer_v4(peer))
    if ec_peer_is(peer, AF_INET6):
        return address_v6(ec_peer_v6(peer))
    nobody.high = 0
    nobody.low = 0
    return nobody


cdef inline bint address_parse(Slice text, int family, Address *out) noexcept nogil:
    """Dotted IPv4 or IPv6 text, all of it, without brackets, port or zone."""
    cdef char terminated[ADDRESS_TEXT_BYTES]
    cdef unsigned char bytes[16]
    if text.len == 0 or text.len >= ADDRESS_TEXT_BYTES or memchr(text.data, 0, text.len) != NULL:
        return False
    memcpy(terminated, text.data, text.len)
    terminated[text.len] = 0
    if not ec_text_is(family, terminated, bytes):
        return False
    out[0] = address_v4(bytes) if family == AF_INET else address_v6(bytes)
    return True


cdef inline size_t address_write(Address a, char *out) noexcept nogil:
    """Its text and a NUL in ADDRESS_TEXT_BYTES of room; the length without the NUL."""
    return ec_text(a.high, a.low, out)


cdef inline Address address_counted(Address a) noexcept nogil:
    """What counts as one: an IPv4 address, or the /64 that one IPv6 subscriber picks from."""
    if a.high:
        a.low = 0
    return a


cdef inline bint network_has(const Network *network, Address a) noexcept nogil:
    cdef int bits = network.bits
    cdef uint64_t high = UINT64_MAX << (64 - bits) if 0 < bits < 64 else UINT64_MAX
    cdef uint64_t low = UINT64_MAX << (128 - bits) if 64 < bits < 128 else UINT64_MAX
    if bits == 0:
        return True
    if (a.high ^ network.base.high) & high:
        return False
    return bits <= 64 or not (a.low ^ network.base.low) & low
