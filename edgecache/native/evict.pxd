"""Evict: in which order objects leave when the budget is used up. Two queues, one bit.

An object enters *probation*. The oldest there leaves, unless it was asked for again: then it is
*kept*. The oldest kept object leaves too, unless it was asked for since its last turn. The turn is
probation's while that is a third of the objects or more, so what comes and goes only passes through
there, and what is asked for often outlives it: S3-FIFO (SOSP'23) with a third instead of a tenth
and without a ghost queue, both chosen on our own mixes. Hit ratio with room for 2,048 objects, of
LRU, SIEVE, this: live 0.688 0.658 0.688, DVR 0.541 0.501 0.542, Zipf 0.573 0.620 0.618 (`eviction`
in bench/). SIEVE loses at a moving edge because what was popular keeps its place for a whole round.

A hit writes one bit, and only when it is clear. What somebody still uses is spared like what was
asked for: its bytes would not come back.

Law: under the store's lock; only objects are queued, their views live and leave with them. Every
step is O(1), but for the views of one segment. Does not know budgets. """
from libc.stdint cimport uint32_t, uint64_t
from edgecache.native.base cimport load_relaxed_u32, store_relaxed_u32
from edgecache.native.entry cimport (
    ENTRY_COMPLETE, ENTRY_FAILED, ENTRY_LIVE, Entry, EntryState, entry_state,
)


cdef enum:
    PROBATION = 0
    KEPT = 1
    PROBATION_SHARE = 3                  # at least one object in so many is on probation


cdef struct Queue:
    Entry *oldest
    Entry *newest
    Entry *cursor                        # where expiry stopped
    uint64_t count


cdef struct Order:
    Queue queues[2]                      # by entry.kept


cdef inline void order_insert(Order *order, Entry *entry) noexcept nogil:
    cdef Queue *queue = &order.queues[entry.kept]
    entry.older = queue.newest
    entry.newer = NULL
    if queue.newest != NULL:
        queue.newest.newer = entry
    else:
        queue.oldest = entry
    queue.newest = entry
    queue.count += 1


cdef inline void order_remove(Order *order, Entry *entry) noexcept nogil:
    cdef Queue *queue = &order.queues[entry.kept]
    if queue.cursor == entry:
        queue.cursor = entry.newer
    if entry.older != NULL:
        entry.older.newer = entry.newer
    else:
        queue.oldest = entry.newer
    if entry.newer != NULL:
        entry.newer.older = entry.older
    else:
        queue.newest = entry.older
    queue.count -= 1


cdef inline bint entry_settled(Entry *entry) noexcept nogil:
    """Nobody fills it and nobody is parked on it."""
    cdef EntryState state = entry_state(entry)
    if state == ENTRY_LIVE:
        return load_relaxed_u32(&entry.waiters) == 0
    return state == ENTRY_COMPLETE or state == ENTRY_FAILED


cdef inline bint _referenced(Entry *entry) noexcept nogil:
    """By more than the index and its own views."""
    cdef uint32_t known = 1
    cdef Entry *view = entry.views
    while view != NULL:
        if load_relaxed_u32(&view.refs) > 1:
            return True
        known += 1
        view = view.next_view
    return load_relaxed_u32(&entry.refs) > known


cdef inline Entry *order_turn(Order *order) noexcept nogil:
    """Whose turn it is to leave; NULL: there is nobody."""
    cdef uint64_t new = order.queues[PROBATION].count
    cdef uint64_t kept = order.queues[KEPT].count
    return order.queues[PROBATION if new * PROBATION_SHARE >= new + kept else KEPT].oldest


cdef inline bint order_spares(Order *order, Entry *entry) noexcept nogil:
    """Whether the entry whose turn it is stays: then it is the newest of the kept ones."""
    if not load_relaxed_u32(&entry.visited) and entry_settled(entry) and not _referenced(entry):
        return False
    store_relaxed_u32(&entry.visited, 0)
    order_remove(order, entry)
    entry.kept = KEPT
    order_insert(order, entry)
    return True
