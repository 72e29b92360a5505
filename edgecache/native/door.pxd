"""Door: who may come in. How many connections there are in all and from each address, and which
addresses are proxies of ours, whose word about a viewer's address is taken.

Law: networks are filled in before the workers start and read-only from then on; the counts are
shared by all workers and touched when a connection comes or goes, never by a request of a viewer.
A proxy of ours is not counted by its address: those behind it are, as far as it names them.
Bounds: DOOR_NETWORKS; max_connections and max_per_address of Limits. """
from libc.stdint cimport uint32_t
from libc.string cimport memset
from edgecache.native.address cimport Address, Network, network_has
from edgecache.native.base cimport load_relaxed_u32, slot_add
from edgecache.native.crowd cimport Crowd, crowd_destroy, crowd_enter, crowd_init, crowd_leave
from edgecache.native.types cimport Limits


cdef enum:
    DOOR_NETWORKS = 64


cdef enum Admission:
    ADMIT_FULL                           # no more connections at all
    ADMIT_CROWDED                        # no more from this address
    ADMIT_COUNTED
    ADMIT_TRUSTED                        # a proxy of ours: not counted by its address


cdef struct Door:
    int networks
    Network trusted[DOOR_NETWORKS]
    Crowd crowd
    uint32_t inside                      # connections, all workers


cdef inline bint door_init(Door *door) noexcept nogil:
    memset(door, 0, sizeof(Door))
    return crowd_init(&door.crowd)


cdef inline void door_destroy(Door *door) noexcept nogil:
    crowd_destroy(&door.crowd)


cdef inline bint door_trust(Door *door, Network network) noexcept nogil:
    """False: one too many."""
    if door.networks == DOOR_NETWORKS:
        return False
    door.trusted[door.networks] = network
    door.networks += 1
    return True


cdef inline bint door_trusts(const Door *door, Address who) noexcept nogil:
    cdef int i
    for i in range(door.networks):
        if network_has(&door.trusted[i], who):
            return True
    return False


cdef inline Admission door_judge(Door *door, const Limits *limits, Address who) noexcept nogil:
    """Count it by its address, unless it is a proxy of ours. ADMIT_COUNTED is given back by
    crowd_leave()."""
    if door_trusts(door, who):
        return ADMIT_TRUSTED
    if limits.max_per_address and not crowd_enter(&door.crowd, who, limits.max_per_address):
        return ADMIT_CROWDED
    return ADMIT_COUNTED


cdef inline void door_forget(Door *door, const Limits *limits, Address who) noexcept nogil:
    """Of one that was ADMIT_COUNTED."""
    if limits.max_per_address:
        crowd_leave(&door.crowd, who)


cdef inline Admission door_enter(Door *door, const Limits *limits, Address who) noexcept nogil:
    """A connection. Counted or trusted: it is inside, and door_leave() follows."""
    cdef Admission admission = ADMIT_FULL
    if slot_add(&door.inside, 1) <= load_relaxed_u32(&limits.max_connections):
        admission = door_judge(door, limits, who)
    if admission <= ADMIT_CROWDED:
        slot_add(&door.inside, -1)
    return admission


cdef inline void door_leave(Door *door, const Limits *limits, Address who,
                            bint counted) noexcept nogil:
    slot_add(&door.inside, -1)
    if counted:
        door_forget(door, limits, who)
