"""Crowd: how many connections each address has, over all workers, in memory that does not grow.

A count-min sketch: an address adds to one slot of each row, under a hash whose seed is random per
plane, and has as many as its emptier slot. So nobody gets more than the bound, and somebody below
it is turned away only where both slots are shared with crowds, which nobody can arrange who does
not know the seed.

Law: wait-free, any thread; every enter() that said yes is followed by one leave(). When two come
at once for the last place, both may be turned away. """
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from edgecache.native.address cimport Address, address_counted
from edgecache.native.base cimport key_hash, slot_add
from edgecache.native.sys cimport getrandom


cdef enum:
    CROWD_ROWS = 2
    CROWD_SLOTS = 1 << 16                # of a row: 512 KiB in all, touched where it is used


cdef struct Crowd:
    uint64_t seed[4]
    uint32_t *slots


cdef inline bint crowd_init(Crowd *crowd) noexcept nogil:
    crowd.slots = <uint32_t *>calloc(CROWD_ROWS * CROWD_SLOTS, sizeof(uint32_t))
    return crowd.slots != NULL and getrandom(crowd.seed, sizeof(crowd.seed),
                                             0) == sizeof(crowd.seed)


cdef inline void crowd_destroy(Crowd *crowd) noexcept nogil:
    free(crowd.slots)


cdef inline uint32_t _add(Crowd *crowd, Address who, int n) noexcept nogil:
    """To both of its slots; the smaller one as it is then."""
    cdef Address key = address_counted(who)
    cdef uint64_t hash = key_hash(<const unsigned char *>&key, sizeof(key), crowd.seed)
    cdef uint32_t first = slot_add(&crowd.slots[hash % CROWD_SLOTS], n)
    cdef uint32_t second = slot_add(&crowd.slots[CROWD_SLOTS + (hash >> 32) % CROWD_SLOTS], n)
    return first if first < second else second


cdef inline bint crowd_enter(Crowd *crowd, Address who, uint32_t most) noexcept nogil:
    """False: there are `most` already."""
    if _add(crowd, who, 1) <= most:
        return True
    _add(crowd, who, -1)
    return False


cdef inline void crowd_leave(Crowd *crowd, Address who) noexcept nogil:
    _add(crowd, who, -1)
