"""Store: the index of one POP. Key hash → entry, a byte budget, eviction, expiry by age.

Law: one mutex over the index, taken by the control plane for every change and by a worker only for
a key that it does not hold already; never held across a system call (what leaves is freed after the
lock), never taken while holding the GIL. The first write wins: a complete name keeps its bytes.

The budget counts what blobs, entries and versions really take. Over it, objects leave in the order
of evict.pxd. What left but is still being sent counts until the last reader lets go; a write that
would go beyond the budget by more than a sixteenth is refused (PUT_NO_SPACE)."""
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset
from edgecache.native.base cimport (
    EC_ASSERT, count_add, key_hash, load_relaxed_u64, store_release_ptr, store_release_u32,
    store_release_u64, total_add,
)
from edgecache.native.blob cimport Blob, blob_acquire, blob_filled
from edgecache.native.deposit cimport (
    Deposit, deposit_close, deposit_keep, deposit_leaves, deposit_next, deposit_note,
)
from edgecache.native.entry cimport (
    ENTRY_COMPLETE, ENTRY_FAILED, ENTRY_FILLING, ENTRY_LIVE, ENTRY_RESERVED, Entry, EntryState,
    entry_acquire, entry_become, entry_is, entry_new, entry_release, entry_state,
)
from edgecache.native.evict cimport (
    KEPT, PROBATION, Order, Queue, entry_settled, order_insert, order_remove, order_spares,
    order_turn,
)
from edgecache.native.head cimport Head, head_etag, head_free, head_new
from edgecache.native.live cimport LiveVersion, version_acquire, version_newer, version_release
from edgecache.native.sys cimport (
    getrandom, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t,
    pthread_mutex_unlock,
)
from edgecache.native.types cimport Slice, slice_equal, slice_of


cdef enum:
    STORE_BUCKETS = 65536
    EVICT_STEPS = 64                     # entries looked at under one lock
    # locks taken by one write, so that it never walks the whole index
    EVICT_ROUNDS = 64


cdef enum PutResult:
    PUT_CREATED
    PUT_SAME
    PUT_CONFLICT
    PUT_NO_SPACE
    PUT_STALE
    PUT_RESULTS


cdef enum:                               # why an entry is not in the index any more
    LEFT_EVICTED                         # for space
    LEFT_EXPIRED
    LEFT_PURGED
    LEFT_REPLACED                        # by what was filled or pushed in its place
    LEFT_FAILED                          # its fill ended without a body, and nobody is to know
    LEFT_REASONS


cdef struct Store:
    pthread_mutex_t lock
    uint64_t seed[4]
    uint64_t budget
    uint64_t used                        # bytes taken now; blobs, entries and versions keep it
    uint64_t held                        # of `used`, what workers hold while it is idle
    uint64_t entries                     # in the index
    uint64_t created                     # = entries + all of `left`
    uint64_t left[LEFT_REASONS]
    uint64_t refused                     # writes for which there was no room
    Order order                          # in which objects leave
    Deposit deposit                      # what changed, for who keeps it
    Entry *graveyard                     # left the index under the lock, released after it
    Entry **buckets


cdef inline bint store_init(Store *store, uint64_t budget) noexcept nogil:
    memset(store, 0, sizeof(Store))
    store.buckets = <Entry **>calloc(STORE_BUCKETS, sizeof(Entry *))
    if store.buckets == NULL or getrandom(store.seed, sizeof(store.seed), 0) != sizeof(store.seed):
        free(store.buckets)
        return False
    store.budget = budget
    pthread_mutex_init(&store.lock, NULL)
    return True


cdef inline uint64_t store_hash(Store *store, Slice key) noexcept nogil:
    return key_hash(key.data, key.len, store.seed)


cdef inline Entry *_find(Store *store, uint64_t hash, Slice key) noexcept nogil:
    cdef Entry *entry = store.buckets[hash % STORE_BUCKETS]
    while entry != NULL and not entry_is(entry, hash, key):
        entry = entry.chain
    return entry


cdef inline void _unlock(Store *store) noexcept nogil:
    cdef Entry *dead = store.graveyard
    cdef Entry *after
    store.graveyard = NULL
    pthread_mutex_unlock(&store.lock)
    while dead != NULL:
        after = dead.chain
        entry_release(dead)
        dead = after


cdef inline void _insert(Store *store, Entry *entry) noexcept nogil:
    """The index takes over the caller's reference."""
    cdef Entry **bucket = &store.buckets[entry.hash % STORE_BUCKETS]
    entry.chain = bucket[0]
    bucket[0] = entry
    count_add(&store.entries, 1)
    count_add(&store.created, 1)
    order_insert(&store.order, entry)


cdef inline void _chain_remove(Store *store, Entry *entry, int why) noexcept nogil:
    cdef Entry **link = &store.buckets[entry.hash % STORE_BUCKETS]
    while link[0] != entry:
        EC_ASSERT(link[0] != NULL)
        link = &link[0].chain
    link[0] = entry.chain
    count_add(&store.entries, <uint64_t>-1)
    count_add(&store.left[why], 1)
    store_release_u32(&entry.dead, 1)
    deposit_leaves(&store.deposit, entry)
    entry.chain = store.graveyard
    store.graveyard = entry


cdef inline void _view_link(Store *store, Entry *view, Entry *parent) noexcept nogil:
    """From the queue to the views of `parent`: it lives and leaves with it."""
    order_remove(&store.order, view)
    entry_acquire(parent)
    store_release_ptr(<void **>&view.parent, parent)     # workers may hold the entry already
    view.next_view = parent.views
    parent.views = view


cdef inline void _view_unlink(Entry *view) noexcept nogil:
    cdef Entry **link = &view.parent.views
    while link[0] != view:
        link = &link[0].next_view
    link[0] = view.next_view


cdef inline void _remove(Store *store, Entry *entry, int why) noexcept nogil:
    """Out of the index, with its views: dead. Readers that hold it go on."""
    cdef Entry *view
    if entry.parent != NULL:
        _view_unlink(entry)
    else:
        while entry.views != NULL:
            view = entry.views
            entry.views = view.next_view
            _chain_remove(store, view, why)
        order_remove(&store.order, entry)
    _chain_remove(store, entry, why)


cdef inline Entry *_find_fresh(Store *store, uint64_t hash, Slice key, uint64_t now_ms, bint stale,
                               Entry **past) noexcept nogil:
    """What may still be served under `key`, with `stale` past its time within its grace; what may
    not leaves the index. *past (unless it is NULL): the latter, referenced, if it is not too old to
    be found good."""
    cdef Entry *entry = _find(store, hash, key)
    cdef uint64_t until_ms = 0
    if entry != NULL:
        until_ms = entry.drop_ms if stale else load_relaxed_u64(&entry.expires_ms)
    if entry != NULL and entry_settled(entry) and until_ms <= now_ms:
        if (past != NULL and entry_state(entry) == ENTRY_COMPLETE
                and entry.drop_ms + entry.spare_ms > now_ms):
            entry_acquire(entry)
            past[0] = entry
        _remove(store, entry, LEFT_EXPIRED)
        return NULL
    return entry


cdef inline uint64_t store_budget(Store *store) noexcept nogil:
    """It may change under pressure."""
    return load_relaxed_u64(&store.budget)


cdef inline bint _over(Store *store, uint64_t more, uint64_t limit) noexcept nogil:
    return load_relaxed_u64(&store.used) + more > limit


cdef inline bint store_make_room(Store *store, uint64_t more) noexcept nogil:
    """Called without the lock, before a write of `more` bytes. False: even after evicting there is
    no room."""
    cdef int rounds = 0
    cdef int _step
    cdef Entry *entry
    while _over(store, more, store_budget(store)) and rounds < EVICT_ROUNDS:
        rounds += 1
        pthread_mutex_lock(&store.lock)
        for _step in range(EVICT_STEPS):
            entry = order_turn(&store.order)
            if entry == NULL:
                break
            if not order_spares(&store.order, entry):
                _remove(store, entry, LEFT_EVICTED)
                break
        _unlock(store)
    if _over(store, more, store_budget(store) // 16 * 17):
        total_add(&store.refused, 1)     # outside the lock
        return False
    return True


cdef inline Entry *_replacement(Store *store, Entry *stale, Slice loop,
                                uint64_t now_ms) noexcept nogil:
    """A RESERVED entry that is to take the place of `stale`, referenced; NULL: not needed, under
    way, or no memory."""
    cdef Entry *entry
    if (entry_state(stale) != ENTRY_COMPLETE or load_relaxed_u64(&stale.expires_ms) > now_ms
            or load_relaxed_u64(&stale.refresh_ms) > now_ms):
        return NULL
    entry = entry_new(slice_of(stale.key, stale.key_len), stale.hash, loop, &store.used)
    if entry != NULL:
        entry_acquire(stale)
        entry.stale = stale
        store_release_u64(&stale.refresh_ms, UINT64_MAX)
    return entry


cdef inline Entry *store_acquire(Store *store, uint64_t hash, Slice key, uint64_t now_ms,
                                 bint reserve, bint *created) noexcept nogil:
    """store_ask for who has no use for what is past its time."""
    return store_ask(store, hash, key, slice_of(NULL, 0), now_ms, reserve, created, NULL)


cdef inline Entry *store_ask(Store *store, uint64_t hash, Slice key, Slice loop, uint64_t now_ms,
                             bint reserve, bint *created, Entry **refresh) noexcept nogil:
    """A referenced entry, or NULL (absent and not `reserve`, or no memory). One that may not be
    served any more is replaced.

    With `reserve` an absent key gets a RESERVED entry, *created is set, and the caller must see
    that it is filled. With `refresh` (which needs `reserve`) an object within its grace is returned
    as well, and *refresh is what the caller must have filled to replace it, referenced, or NULL.
    `loop`: the caches that the request came through, told to who fills it."""
    cdef Entry *entry
    cdef Entry *past = NULL
    created[0] = False
    if reserve and _over(store, 0, store_budget(store)):
        store_make_room(store, 0)
    pthread_mutex_lock(&store.lock)
    entry = _find_fresh(store, hash, key, now_ms, refresh != NULL, &past)
    if refresh != NULL:
        refresh[0] = _replacement(store, entry, loop, now_ms) if entry != NULL else NULL
    if entry == NULL and reserve and not _over(store, 0, store_budget(store) // 16 * 17):
        entry = entry_new(key, hash, loop, &store.used)
        if entry != NULL:
            entry.stale = past
            past = NULL
            _insert(store, entry)
            created[0] = True
    if entry != NULL:
        entry_acquire(entry)
    _unlock(store)
    entry_release(past)
    return entry


cdef inline bint _indexed(Store *store, Entry *entry) noexcept nogil:
    return _find(store, entry.hash, slice_of(entry.key, entry.key_len)) == entry


cdef inline void _take_over(Store *store, Entry *entry, Entry *stale) noexcept nogil:
    """Into the index in the place of `stale`, unless something else happened to that."""
    if not stale.dead:
        _remove(store, stale, LEFT_REPLACED)
        entry_acquire(entry)
        _insert(store, entry)


cdef inline bint entry_ended(Entry *entry) noexcept nogil:
    cdef EntryState state = entry_state(entry)
    return state == ENTRY_COMPLETE or state == ENTRY_FAILED


cdef inline LiveVersion *store_version(Store *store, Entry *entry, uint64_t *seq) noexcept nogil:
    """The newest version with a reference for the caller."""
    cdef LiveVersion *version
    pthread_mutex_lock(&store.lock)
    version = entry.version
    seq[0] = entry.version_seq
    version_acquire(version)
    _unlock(store)
    return version


cdef inline bint entry_begin(Store *store, Entry *entry, Blob *blob, Head *head, int status,
                             int64_t length, bint pushed,
                             uint64_t expires_ms, uint64_t drop_ms, uint64_t spare_ms,
                             uint64_t now_us) noexcept nogil:
    """RESERVED → FILLING: takes over blob and head. False: the entry is not ours to fill any more
    (both stay the caller's)."""
    cdef bint ours
    pthread_mutex_lock(&store.lock)
    ours = entry_state(entry) == ENTRY_RESERVED
    if ours:
        entry.status = status
        entry.blob = blob
        entry.length = length
        entry.head = head
        entry.pushed = pushed
        entry.stored_us = now_us
        entry.expires_ms = expires_ms
        entry.drop_ms = drop_ms
        entry.spare_ms = spare_ms
        entry_become(entry, ENTRY_FILLING)
    _unlock(store)
    return ours


cdef inline void entry_commit(Store *store, Entry *entry, Head *head) noexcept nogil:
    """FILLING → COMPLETE; `head` replaces the first one (its length and validator are known now).
    What it was to replace leaves, if it is still there."""
    cdef Entry *stale = entry.stale
    pthread_mutex_lock(&store.lock)
    entry.length = <int64_t>(blob_filled(entry.blob) - entry.offset)
    if head != NULL:
        entry.first_head = <Head *>entry.head            # answers in flight still send from it
        store_release_ptr(&entry.head, head)
    if stale != NULL:
        entry.stale = NULL
        _take_over(store, entry, stale)
    entry_become(entry, ENTRY_COMPLETE)
    if _indexed(store, entry):
        deposit_note(&store.deposit, entry)
    _unlock(store)
    entry_release(stale)


cdef inline bint entry_renew(Store *store, Entry *entry, Head *head, uint64_t expires_ms,
                             uint64_t drop_ms, uint64_t spare_ms, uint64_t again_ms,
                             uint64_t now_us) noexcept nogil:
    """RESERVED → COMPLETE with the body of what it was to replace; takes over head. False: it is
    not ours to fill any more, or replaces nothing."""
    cdef Entry *stale
    cdef bint ours
    pthread_mutex_lock(&store.lock)
    stale = entry.stale
    ours = entry_state(entry) == ENTRY_RESERVED and stale != NULL
    if ours:
        blob_acquire(stale.blob)
        entry.status = stale.status
        entry.blob = stale.blob
        entry.offset = stale.offset
        entry.length = stale.length
        entry.own_tag = stale.own_tag
        entry.head = head
        entry.stored_us = now_us
        entry.expires_ms = expires_ms
        entry.drop_ms = drop_ms
        entry.spare_ms = spare_ms
        entry.refresh_ms = again_ms
        entry.stale = NULL
        _take_over(store, entry, stale)
        entry_become(entry, ENTRY_COMPLETE)
        if _indexed(store, entry):
            deposit_note(&store.deposit, entry)
    _unlock(store)
    if ours:
        entry_release(stale)
    return ours


cdef inline void entry_fail(Store *store, Entry *entry, int status,
                            uint64_t expires_ms) noexcept nogil:
    """RESERVED or FILLING → FAILED. With expires_ms in the future it stays in the index as a
    negative entry. What it was to replace is served on when the origin is in trouble (5xx; asked
    again after expires_ms), and leaves when the origin says that it is gone."""
    cdef Entry *stale = NULL
    pthread_mutex_lock(&store.lock)
    if not entry_ended(entry) and entry_state(entry) != ENTRY_LIVE:
        stale = entry.stale
        entry.stale = NULL
        if stale != NULL and status < 500:
            _take_over(store, entry, stale)
        elif stale != NULL:
            store_release_u64(&stale.refresh_ms, expires_ms)
        entry.failed_status = status     # `status` may be in use by answers in mid-body
        store_release_u64(&entry.expires_ms, expires_ms)
        entry.drop_ms = expires_ms
        entry_become(entry, ENTRY_FAILED)
        if expires_ms == 0 and _indexed(store, entry):
            _remove(store, entry, LEFT_FAILED)
    _unlock(store)
    entry_release(stale)


cdef inline PutResult store_complete(
        Store *store, Slice key, Entry *parent, Blob *blob, uint64_t offset, int64_t length,
        Head *head, int status, uint64_t expires_ms, uint64_t drop_ms, uint64_t now_us, bint pushed,
        Entry **out) noexcept nogil:
    """Publish a whole body under `key` at once; takes over head and one reference of blob when
    PUT_CREATED. *out: the entry, referenced."""
    cdef uint64_t hash = store_hash(store, key)
    cdef Entry *entry
    cdef PutResult result = PUT_CREATED
    cdef Entry *stale = NULL
    cdef bint room = store_make_room(store, 0)
    out[0] = NULL
    pthread_mutex_lock(&store.lock)
    entry = _find_fresh(store, hash, key, now_us // 1000, False, NULL)
    if entry != NULL and entry_state(entry) == ENTRY_COMPLETE:
        result = PUT_SAME if slice_equal(head_etag(<Head *>entry.head),
                                         head_etag(head)) else PUT_CONFLICT
    elif entry != NULL and (entry_state(entry) == ENTRY_LIVE or entry == parent):
        result = PUT_CONFLICT
    elif not room or (parent != NULL and parent.dead):
        result = PUT_NO_SPACE
    else:
        if entry != NULL and entry_state(entry) != ENTRY_RESERVED:
            # a negative entry, or a fill that lost the race: its own readers finish on it
            _remove(store, entry, LEFT_REPLACED)
            entry = NULL
        if entry == NULL:
            entry = entry_new(key, hash, slice_of(NULL, 0), &store.used)
            if entry != NULL:
                _insert(store, entry)
        if entry == NULL:
            result = PUT_NO_SPACE
        else:
            stale = entry.stale
            entry.stale = NULL
            if parent != NULL:
                _view_link(store, entry, parent)
            entry.status = status
            entry.blob = blob
            entry.offset = offset
            entry.length = length
            entry.head = head
            entry.stored_us = now_us
            entry.expires_ms = expires_ms
            entry.drop_ms = drop_ms
            entry.pushed = pushed
            entry_become(entry, ENTRY_COMPLETE)
            if parent != NULL:
                deposit_note(&store.deposit, parent)
            deposit_note(&store.deposit, entry)
            entry_acquire(entry)
            out[0] = entry
    _unlock(store)
    entry_release(stale)
    return result


cdef inline PutResult store_publish(Store *store, Slice key, LiveVersion *version,
                                    uint64_t expires_ms, Entry **out) noexcept nogil:
    """Make `version` the newest of `key`; takes over one reference when PUT_CREATED. A pulled copy
    under the same key gives way."""
    cdef uint64_t hash = store_hash(store, key)
    cdef Entry *entry
    cdef LiveVersion *old = NULL
    cdef Entry *stale = NULL
    cdef PutResult result = PUT_CREATED
    cdef bint room = store_make_room(store, 0)
    out[0] = NULL
    pthread_mutex_lock(&store.lock)
    entry = _find_fresh(store, hash, key, version.published_us // 1000, False, NULL)
    if entry != NULL and entry_state(entry) != ENTRY_LIVE and entry_state(entry) != ENTRY_RESERVED:
        _remove(store, entry, LEFT_REPLACED)
        entry = NULL
    if entry == NULL and room:
        entry = entry_new(key, hash, slice_of(NULL, 0), &store.used)
        if entry != NULL:
            _insert(store, entry)
    if entry == NULL:
        result = PUT_NO_SPACE
    elif entry.version != NULL and not version_newer(version.msn, version.parts, version.ended,
                                                     entry.version):
        result = PUT_STALE
    else:
        stale = entry.stale
        entry.stale = NULL
        old = entry.version
        entry.version = version
        store_release_u64(&entry.expires_ms, expires_ms)
        entry.drop_ms = expires_ms
        store_release_u64(&entry.version_seq, entry.version_seq + 1)
        entry_become(entry, ENTRY_LIVE)
        deposit_note(&store.deposit, entry)
        entry_acquire(entry)
        out[0] = entry
    _unlock(store)
    entry_release(stale)
    version_release(old)
    return result


cdef inline Entry *store_purge_entry(Store *store, Slice key) noexcept nogil:
    """What left, with a reference for the caller; NULL: nothing there."""
    cdef uint64_t hash = store_hash(store, key)
    cdef Entry *entry
    pthread_mutex_lock(&store.lock)
    entry = _find(store, hash, key)
    if entry != NULL:
        entry_acquire(entry)
        _remove(store, entry, LEFT_PURGED)
    _unlock(store)
    return entry


cdef inline uint64_t store_purge_prefix(Store *store, Slice prefix) noexcept nogil:
    """Walks the index in slices, so that no worker waits long for the lock. Returns how many left.
    """
    cdef uint64_t count = 0
    cdef uint64_t before
    cdef Entry *entry
    cdef Entry *chain
    cdef int bucket
    for bucket in range(STORE_BUCKETS):
        if bucket % 1024 == 0:
            pthread_mutex_lock(&store.lock)
        entry = store.buckets[bucket]
        while entry != NULL:
            chain = entry.chain
            if entry.key_len >= prefix.len and memcmp(entry.key, prefix.data, prefix.len) == 0:
                before = store.entries
                _remove(store, entry, LEFT_PURGED)
                count += before - store.entries
                chain = store.buckets[bucket]            # views of it may have left this bucket too
            entry = chain
        if bucket % 1024 == 1023:
            _unlock(store)
    return count


cdef inline void _expire_queue(Store *store, Queue *queue, uint64_t now_ms,
                               int steps) noexcept nogil:
    cdef Entry *entry = queue.cursor if queue.cursor != NULL else queue.oldest
    cdef Entry *newer
    while entry != NULL and steps > 0:
        newer = entry.newer
        queue.cursor = newer
        if entry.drop_ms + entry.spare_ms <= now_ms and entry_settled(entry):
            _remove(store, entry, LEFT_EXPIRED)
        entry = newer
        steps -= 1


cdef inline void store_expire(Store *store, uint64_t now_ms, int steps) noexcept nogil:
    """One bounded walk over each queue: what may not be served any more leaves. Called by a
    worker's clock, so it goes on when Python hangs."""
    pthread_mutex_lock(&store.lock)
    _expire_queue(store, &store.order.queues[PROBATION], now_ms, steps)
    _expire_queue(store, &store.order.queues[KEPT], now_ms, steps)
    _unlock(store)


cdef inline Entry *store_noted(Store *store) noexcept nogil:
    """What changed first, with a reference for the caller; NULL: nothing did."""
    cdef Entry *entry
    pthread_mutex_lock(&store.lock)
    entry = deposit_next(&store.deposit)
    _unlock(store)
    return entry


cdef inline int64_t store_keep(Store *store, Entry *entry, int64_t slot,
                               uint64_t copied) noexcept nogil:
    """Where the mark is that it is kept under from now on: as before, at `slot`, or (-1) anywhere.
    `copied`: its bytes that are there a second time. -1: it has left, or no mark is free."""
    cdef int64_t found
    pthread_mutex_lock(&store.lock)
    found = deposit_keep(&store.deposit, entry, slot, copied)
    _unlock(store)
    return found


cdef inline void store_destroy(Store *store) noexcept nogil:
    """What is kept elsewhere stays so: it does not leave with this process."""
    cdef Entry *entry = store_noted(store)
    cdef size_t bucket
    while entry != NULL:
        entry_release(entry)
        entry = store_noted(store)
    pthread_mutex_lock(&store.lock)
    for bucket in range(STORE_BUCKETS):
        entry = store.buckets[bucket]
        while entry != NULL:
            entry.mark = NULL
            entry = entry.chain
    while order_turn(&store.order) != NULL:
        _remove(store, order_turn(&store.order), LEFT_PURGED)
    _unlock(store)
    EC_ASSERT(store.entries == 0)
    deposit_close(&store.deposit)
    free(store.buckets)
    store.buckets = NULL
    pthread_mutex_destroy(&store.lock)
