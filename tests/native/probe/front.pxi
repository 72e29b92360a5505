"""address.pxd, crowd.pxd, door.pxd, proxy.pxd and forwarded.pxd."""
from edgecache.native.address cimport (
    ADDRESS_TEXT_BYTES, Address, Network, address_parse, address_v6, address_write, network_has,
)
from edgecache.native.base cimport key_hash as _key_hash
from edgecache.native.crowd cimport (
    CROWD_SLOTS, Crowd, crowd_destroy, crowd_enter, crowd_init, crowd_leave,
)
from edgecache.native.door cimport (
    Door, door_destroy, door_enter, door_init, door_leave, door_trust, door_trusts,
)
from edgecache.native.forwarded cimport forwarded_client as _forwarded
from edgecache.native.proxy cimport PROXY_TOLD, ProxyHeader, ProxyVerdict, proxy_parse as _proxy
from edgecache.native.sys cimport AF_INET, AF_INET6


cdef Address an_address(str text) except *:
    cdef Address address
    cdef bytes raw = text.encode()
    cdef Slice at = as_slice(raw)
    if not address_parse(at, AF_INET6 if ":" in text else AF_INET, &address):
        raise ValueError(text)
    return address


cdef Network a_network(tuple given) except *:
    cdef Network network
    network.base = an_address(given[0])
    network.bits = given[1]
    return network


cdef str address_shown(Address address):
    cdef char text[ADDRESS_TEXT_BYTES]
    return text[:address_write(address, text)].decode()


def address_text(bytes text, bint six):
    """How it is written in a log; None: no address."""
    cdef Address address
    if not address_parse(at_the_edge(text), AF_INET6 if six else AF_INET, &address):
        return None
    return address_shown(address)


def in_network(str address, tuple network):
    """`network`: (address, bits of 128)."""
    cdef Network given = a_network(network)
    return bool(network_has(&given, an_address(address)))


def proxy_parse(bytes data):
    """(verdict: 0 partial, 1 bad, 2 local, 3 told; bytes to skip; the source)."""
    cdef Slice at = at_the_edge(data)
    cdef ProxyHeader header
    cdef ProxyVerdict verdict
    memset(&header, 0, sizeof(header))
    verdict = _proxy(at.data, at.len, &header)
    return int(verdict), header.len, address_shown(header.source) if verdict == PROXY_TOLD else ""


def forwarded_client(bytes value, bint pairs, trusted=()):
    """None: nobody told."""
    cdef Door door
    cdef Address client
    door.networks = 0
    for network in trusted:
        door_trust(&door, a_network(network))
    if not _forwarded(at_the_edge(value), pairs, &door, &client):
        return None
    return address_shown(client)


cdef class DoorOf:
    """A plane's door, without a plane."""
    cdef Door door
    cdef Limits limits

    def __cinit__(self, uint32_t most, uint32_t each, trusted=()):
        self.limits.max_connections = most
        self.limits.max_per_address = each
        if not door_init(&self.door):
            raise MemoryError
        for network in trusted:
            door_trust(&self.door, a_network(network))

    def __dealloc__(self):
        door_destroy(&self.door)

    def enter(self, str address):
        """0 full, 1 crowded, 2 counted, 3 trusted."""
        return int(door_enter(&self.door, &self.limits, an_address(address)))

    def leave(self, str address):
        cdef Address who = an_address(address)
        door_leave(&self.door, &self.limits, who, not door_trusts(&self.door, who))

    @property
    def inside(self):
        return self.door.inside

    @property
    def seed(self):
        return [self.door.crowd.seed[i] for i in range(4)]

    def slots(self):
        """Those that are not empty."""
        cdef int i
        return sum(1 for i in range(2 * CROWD_SLOTS) if self.door.crowd.slots[i])


def colliding(tuple seed, int count, int buckets):
    """So many keys that fall into one of so many buckets under this seed."""
    cdef uint64_t words[4]
    cdef char text[32]
    cdef uint64_t n = 0
    cdef int length
    for i in range(4):
        words[i] = seed[i]
    found = []
    while len(found) < count:
        n += 1
        length = snprintf(text, sizeof(text), b"/live/a/%llu.m4s", <unsigned long long>n)
        if _key_hash(<cbyte *>text, length, words) % buckets == 0:
            found.append(text[:length])
    return found
