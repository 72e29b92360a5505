"""Holds: what keeps the hit path off shared cache lines.

Everybody reads the same few entries, so their reference counts would be the contended lines. A
worker takes one shared reference to an entry, keeps it in a table of its own, and counts its own
uses; a hit writes no memory that another core reads (but for a visited bit that is clear, about
once an eviction round).

Law: owned by one worker. A hold with uses stays. One without may go at any sweep, over `max_holds`
at once, and with its last use when its object had not been asked for before, or when idle holds of
all workers have their share of the budget: what is idle but held takes room that eviction cannot
give back. A small cache that was scanned faster than sweeps come was full of nothing else, and
answered 503 for whatever was new. """
from libc.stdint cimport int64_t, uint64_t
from edgecache.native.base cimport (
    bits_clear, bits_set, load_acquire_ptr, load_acquire_u64, load_relaxed_u32, load_relaxed_u64,
    store_relaxed_u32, total_add,
)
from edgecache.native.context cimport HOLD_BUCKETS, Context, Exchange, Hold, Waiters
from edgecache.native.entry cimport (
    ENTRY_COMPLETE, ENTRY_FAILED, ENTRY_FILLING, ENTRY_LIVE, Entry, EntryState, entry_dead,
    entry_filled, entry_fresh, entry_is, entry_release, entry_state, entry_usable,
)
from edgecache.native.live cimport version_release
from edgecache.native.pool cimport pool_give, pool_take
from edgecache.native.store cimport store_budget, store_version
from edgecache.native.types cimport Slice


cdef enum:
    HELD_SHARE = 4                       # of the budget one in so many may be held idle


cdef extern from *:
    """
    static inline void add_relaxed_u32(uint32_t *p, int n) { __atomic_fetch_add(p, (uint32_t)n,
                                                                                __ATOMIC_RELAXED); }
    """
    void add_relaxed_u32(unsigned int *p, int n) nogil


cdef inline void waiters_add(Waiters *list_, Exchange *exchange) noexcept nogil:
    exchange.next = NULL
    exchange.prev = list_.last
    if list_.last != NULL:
        list_.last.next = exchange
    else:
        list_.first = exchange
    list_.last = exchange
    list_.count += 1


cdef inline void waiters_remove(Waiters *list_, Exchange *exchange) noexcept nogil:
    if exchange.prev != NULL:
        exchange.prev.next = exchange.next
    else:
        list_.first = exchange.next
    if exchange.next != NULL:
        exchange.next.prev = exchange.prev
    else:
        list_.last = exchange.prev
    exchange.prev = NULL
    exchange.next = NULL
    list_.count -= 1


cdef inline Hold *hold_find(Context *ctx, uint64_t hash, Slice key) noexcept nogil:
    """The worker's hold on the entry that is in the index under this key now, or NULL."""
    cdef Hold *hold = ctx.table[hash % HOLD_BUCKETS]
    while hold != NULL:
        if entry_is(hold.entry, hash, key) and not entry_dead(hold.entry):
            return hold
        hold = hold.chain
    return NULL


cdef inline Hold *hold_of(Context *ctx, Entry *entry) noexcept nogil:
    cdef Hold *hold = ctx.table[entry.hash % HOLD_BUCKETS]
    while hold != NULL and hold.entry != entry:
        hold = hold.chain
    return hold


cdef inline Entry *_owner(Entry *entry) noexcept nogil:
    """Whose visited bit counts: a part and its segment stay or go together."""
    cdef Entry *parent = <Entry *>load_acquire_ptr(<void **>&entry.parent)
    return parent if parent != NULL else entry


cdef inline uint64_t _pinned(Entry *entry) noexcept nogil:
    cdef EntryState state = entry_state(entry)
    if state != ENTRY_COMPLETE and state != ENTRY_FILLING:
        return entry.charged
    return entry.charged + entry_filled(entry)


cdef inline void _keep(Context *ctx, Hold *hold) noexcept nogil:
    """Beyond its last use, if it is asked for again and there is room for that."""
    cdef uint64_t size = _pinned(hold.entry)
    if (load_relaxed_u32(&_owner(hold.entry).visited)
            and load_relaxed_u64(&ctx.store.held) + size <= store_budget(ctx.store) // HELD_SHARE):
        hold.kept_bytes = size
        total_add(&ctx.store.held, <int64_t>size)


cdef inline Hold *hold_new(Context *ctx, Entry *entry) noexcept nogil:
    """Takes over the caller's reference. NULL: no memory (the reference is released)."""
    cdef Hold *hold
    if ctx.hold_pool.used >= ctx.limits.max_holds:
        hold_sweep(ctx, False)
    hold = <Hold *>pool_take(&ctx.hold_pool)
    if hold == NULL:
        entry_release(entry)
        return NULL
    hold.entry = entry
    _keep(ctx, hold)
    hold.chain = ctx.table[entry.hash % HOLD_BUCKETS]
    ctx.table[entry.hash % HOLD_BUCKETS] = hold
    hold.next = ctx.holds
    if ctx.holds != NULL:
        ctx.holds.prev = hold
    ctx.holds = hold
    return hold


cdef inline void _tell_taken(Hold *hold) noexcept nogil:
    """Once a sweep: counting is no reason to write a line that others read."""
    if hold.taken:
        add_relaxed_u32(&hold.entry.taken, <int>hold.taken)
        hold.taken = 0


cdef inline void hold_drop(Context *ctx, Hold *hold) noexcept nogil:
    """Only without uses."""
    cdef Hold **link = &ctx.table[hold.entry.hash % HOLD_BUCKETS]
    _tell_taken(hold)
    while link[0] != hold:
        link = &link[0].chain
    link[0] = hold.chain
    if hold.prev != NULL:
        hold.prev.next = hold.next
    else:
        ctx.holds = hold.next
    if hold.next != NULL:
        hold.next.prev = hold.prev
    if hold.interested:
        bits_clear(&hold.entry.interest, <uint64_t>1 << ctx.index)
    total_add(&ctx.store.held, -<int64_t>hold.kept_bytes)
    version_release(hold.version)
    entry_release(hold.entry)
    pool_give(&ctx.hold_pool, hold)


cdef inline void hold_use(Hold *hold, bint fetched) noexcept nogil:
    """`fetched`: by the request that makes us fetch it, which is no reason to keep it."""
    cdef Entry *owner = _owner(hold.entry)
    hold.uses += 1
    hold.touched = True
    if not fetched and not load_relaxed_u32(&owner.visited):
        store_relaxed_u32(&owner.visited, 1)


cdef inline void _settle(Context *ctx, Hold *hold) noexcept nogil:
    """After its last use, or its turn on the wake queue."""
    if hold.uses == 0 and not hold.queued and (not hold.kept_bytes or entry_dead(hold.entry)):
        hold_drop(ctx, hold)


cdef inline void hold_unuse(Context *ctx, Hold *hold) noexcept nogil:
    hold.uses -= 1
    _settle(ctx, hold)


cdef inline void hold_interest(Context *ctx, Hold *hold) noexcept nogil:
    """From now on changes of the entry reach this worker as READY. The caller reads the state after
    this, not before."""
    if not hold.interested:
        hold.interested = True
        # one that was lost to a full box would keep all others back
        bits_clear(&hold.entry.posted, <uint64_t>1 << ctx.index)
        bits_set(&hold.entry.interest, <uint64_t>1 << ctx.index)


cdef inline void hold_refresh(Context *ctx, Hold *hold) noexcept nogil:
    """LIVE: bring hold.version up to date; one shared load when it is."""
    if hold.version != NULL and hold.version_seq == load_acquire_u64(&hold.entry.version_seq):
        return
    version_release(hold.version)
    hold.version = store_version(ctx.store, hold.entry, &hold.version_seq)


cdef inline bint hold_servable(Context *ctx, Hold *hold) noexcept nogil:
    """False: the entry ended and is past its time; the index must be asked again (and says whether
    it is served stale while it is refreshed)."""
    cdef int state = entry_state(hold.entry)
    if state == ENTRY_COMPLETE:
        return entry_usable(hold.entry, ctx.now_ms)
    if state == ENTRY_FAILED or state == ENTRY_LIVE:
        return entry_fresh(hold.entry, ctx.now_ms)
    return True


cdef inline void hold_sweep(Context *ctx, bint all_idle) noexcept nogil:
    """Let go of what was not used since the last sweep, or is dead, or (all_idle) is merely idle.
    """
    cdef Hold *hold = ctx.holds
    cdef Hold *after
    while hold != NULL:
        after = hold.next
        _tell_taken(hold)
        if hold.uses == 0 and not hold.queued and (all_idle or not hold.touched
                                                   or entry_dead(hold.entry)):
            hold_drop(ctx, hold)
        else:
            hold.touched = hold.uses > 0
            if entry_dead(hold.entry) and entry_state(hold.entry) == ENTRY_LIVE:
                hold_wake(ctx, hold)     # purged with a prefix: nobody else tells who waits
        hold = after


cdef inline void hold_park(Hold *hold, Exchange *exchange) noexcept nogil:
    waiters_add(&hold.waiters, exchange)
    add_relaxed_u32(&hold.entry.waiters, 1)


cdef inline void hold_unpark(Hold *hold, Exchange *exchange) noexcept nogil:
    waiters_remove(&hold.waiters, exchange)
    add_relaxed_u32(&hold.entry.waiters, -1)
    if hold.wake_left > hold.waiters.count:
        hold.wake_left = hold.waiters.count


cdef inline void hold_wake(Context *ctx, Hold *hold) noexcept nogil:
    """All waiters are to be looked at, in order; who has to wait on joins the end of the list."""
    hold.wake_left = hold.waiters.count
    if hold.wake_left and not hold.queued:
        _wake_enqueue(ctx, hold)


cdef inline void hold_rotate(Context *ctx) noexcept nogil:
    """The first hold of the wake queue leaves it, or goes to its end while it has more to be looked
    at: wide fan-outs take turns."""
    cdef Hold *hold = ctx.wake_first
    ctx.wake_first = hold.next_wake
    if ctx.wake_first == NULL:
        ctx.wake_last = NULL
    hold.queued = False
    if hold.wake_left:
        _wake_enqueue(ctx, hold)
    else:
        _settle(ctx, hold)


cdef inline void _wake_enqueue(Context *ctx, Hold *hold) noexcept nogil:
    hold.queued = True
    hold.next_wake = NULL
    if ctx.wake_last != NULL:
        ctx.wake_last.next_wake = hold
    else:
        ctx.wake_first = hold
    ctx.wake_last = hold
