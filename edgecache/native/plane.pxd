"""Plane: the data plane of one POP as the face sees it: a store, its workers, and what happens
between a change in the store and the workers that wait for it.

Every function here may be called without the GIL by the one control thread. A change is made first,
then told: the entry's state is released, a full fence, then the bits of the workers that are
interested are read; a worker sets its bit, then reads the state. One of the two always sees the
other. """
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from edgecache.native.base cimport (
    clock_us, count_add, load_acquire_u32, load_relaxed_u32, store_relaxed_u32,
)
from edgecache.native.blob cimport (
    Blob, blob_acquire, blob_append, blob_new_heap, blob_new_memfd, blob_release, blob_seal,
)
from edgecache.native.context cimport Context
from edgecache.native.door cimport Door, door_destroy, door_init
from edgecache.native.entry cimport (
    ENTRY_FILLING, ENTRY_RESERVED, Entry, entry_acquire, entry_dead, entry_filled, entry_head,
    entry_release, entry_state,
)
from edgecache.native.head cimport Head, head_etag, head_free, head_new
from edgecache.native.hosts cimport Hosts
from edgecache.native.keep cimport Keep
from edgecache.native.live cimport VARIANTS, LiveVersion, version_new, version_release
from edgecache.native.mailbox cimport (
    WORKERS_MAX, Bell, MessageKind, Post, bell_init, down_post, post_tell,
)
from edgecache.native.store cimport (
    PUT_CREATED, PUT_NO_SPACE, PUT_RESULTS, PutResult, Store, entry_begin, entry_commit,
    entry_fail, entry_renew, store_acquire, store_complete, store_destroy, store_hash, store_init,
    store_make_room, store_publish, store_purge_entry,
)
from edgecache.native.sys cimport close
from edgecache.native.types cimport Limits, Slice, cbyte, slice_of


cdef struct Plane:
    Store store
    Limits limits
    Keep keeps[2]
    uint32_t routes                      # which of them counts
    Door door
    Hosts hosts
    Bell bell                            # rung by workers
    Post post
    int workers
    Context *contexts[WORKERS_MAX]
    uint64_t puts[PUT_RESULTS]           # objects that were put, by what became of them


cdef struct Stamp:                       # how long what is stored may be served
    uint64_t ttl_ms
    uint64_t grace_ms
    uint64_t age_ms                      # how old it was when it came
    # how much longer it stays, to be validated or to stand in for an origin that fails
    uint64_t spare_ms


cdef inline bint plane_init(Plane *plane, uint64_t budget) noexcept nogil:
    memset(plane, 0, sizeof(Plane))
    if not store_init(&plane.store, budget):
        return False
    if not bell_init(&plane.bell):
        store_destroy(&plane.store)
        return False
    if not door_init(&plane.door):
        plane_destroy(plane)
        return False
    return True


cdef inline void plane_destroy(Plane *plane) noexcept nogil:
    """After every worker was freed."""
    store_destroy(&plane.store)
    door_destroy(&plane.door)
    if plane.bell.fd > 0:
        close(plane.bell.fd)


cdef inline bint plane_rerouted(Plane *plane) noexcept nogil:
    """Does every worker read by the routes that count?"""
    cdef int i
    for i in range(plane.workers):
        if load_acquire_u32(&plane.contexts[i].kept) != plane.routes:
            return False
    return True


cdef inline void plane_order(Plane *plane, MessageKind kind) noexcept nogil:
    cdef int i
    for i in range(plane.workers):
        if plane.contexts[i] != NULL:
            down_post(&plane.contexts[i].down, kind, NULL)


cdef inline Blob *_blob_for(Plane *plane, int64_t length) noexcept nogil:
    if not store_make_room(&plane.store, <uint64_t>length if length > 0 else 0):
        return NULL
    if 0 <= length <= plane.limits.heap_max_bytes:
        return blob_new_heap(<uint64_t>length, &plane.store.used)
    return blob_new_memfd(&plane.store.used)


cdef inline bint fill_begin(Plane *plane, Entry *entry, int status, Slice fields, int64_t length,
                            Slice etag, Stamp stamp, bint pushed) noexcept nogil:
    """False: somebody else settled the entry, or there is no room (then it fails with 503)."""
    cdef uint64_t now_us = clock_us()
    cdef uint64_t now_ms = now_us // 1000
    cdef Blob *blob = _blob_for(plane, length)
    cdef Head *head = head_new(status, length, fields, etag)
    cdef bint ours = False
    if blob == NULL or head == NULL:
        fill_fail(plane, entry, 503, 0)
    else:
        ours = entry_begin(&plane.store, entry, blob, head, status, length, pushed,
                           now_ms + stamp.ttl_ms, now_ms + stamp.ttl_ms + stamp.grace_ms,
                           stamp.spare_ms,
                           now_us - stamp.age_ms * 1000 if now_ms > stamp.age_ms else 0)
    if not ours:
        blob_release(blob)
        head_free(head)
        return False
    post_tell(&plane.post, entry)
    return True


cdef inline bint fill_append(Plane *plane, Entry *entry, cbyte *data,
                             uint64_t length) noexcept nogil:
    """False: no room for it, more than was announced, or the fill ended."""
    if entry_state(entry) != ENTRY_FILLING:
        return False
    if entry.length >= 0 and length > <uint64_t>entry.length - entry_filled(entry):
        return False
    if not store_make_room(&plane.store, length) or not blob_append(entry.blob, data, length):
        return False
    post_tell(&plane.post, entry)
    return True


cdef inline bint fill_renew(Plane *plane, Entry *entry, Slice fields, Stamp stamp,
                            uint64_t again_ms) noexcept nogil:
    """What the entry was to replace is still good: the same body, and validator, under a new head.
    `again_ms`: if it is past its time already, how long until it is asked for again. False: nothing
    to renew, somebody else settled the entry, or no memory."""
    cdef uint64_t now_us = clock_us()
    cdef uint64_t now_ms = now_us // 1000
    cdef Entry *stale = entry.stale
    cdef Slice etag
    cdef Head *head = NULL
    if stale == NULL or entry_state(entry) != ENTRY_RESERVED:
        return False
    etag = head_etag(<Head *>entry_head(stale))
    if etag.len:
        etag = slice_of(etag.data + 1, etag.len - 2)     # without the quotes
    head = head_new(stale.status, stale.length, fields, etag)
    if head == NULL or not entry_renew(
            &plane.store, entry, head, now_ms + stamp.ttl_ms,
            now_ms + stamp.ttl_ms + stamp.grace_ms, stamp.spare_ms,
            now_ms + again_ms if again_ms else 0,
            now_us - stamp.age_ms * 1000 if now_ms > stamp.age_ms else 0):
        head_free(head)
        return False
    post_tell(&plane.post, entry)
    return True


cdef inline bint fill_commit(Plane *plane, Entry *entry, Slice fields, Slice etag,
                             bint own) noexcept nogil:
    """`own`: the validator is ours. With an unknown length or a validator learnt late, a new head
    replaces the first for answers to come."""
    cdef Head *head = NULL
    cdef int64_t length
    if entry_state(entry) != ENTRY_FILLING:
        return False
    if entry.length < 0 or etag.len:
        length = <int64_t>entry_filled(entry)
        head = head_new(entry.status, length, fields, etag)
        if head == NULL:
            fill_fail(plane, entry, 503, 0)
            return False
    blob_seal(entry.blob)
    entry.own_tag = own
    entry_commit(&plane.store, entry, head)
    post_tell(&plane.post, entry)
    return True


cdef inline void fill_fail(Plane *plane, Entry *entry, int status, uint64_t ttl_ms) noexcept nogil:
    entry_fail(&plane.store, entry, status, clock_us() // 1000 + ttl_ms if ttl_ms else 0)
    post_tell(&plane.post, entry)


cdef inline PutResult fill_view(Plane *plane, Entry *parent, Slice key, uint64_t offset,
                                uint64_t length, Slice fields, Slice etag,
                                Stamp stamp) noexcept nogil:
    """[offset, offset + length) of the parent's body, filled already, as an entry of its own."""
    blob_acquire(parent.blob)
    return _complete(plane, key, parent, parent.blob, offset, <int64_t>length, 200, fields, etag,
                     stamp)


cdef inline PutResult plane_put(Plane *plane, Slice key, Slice body, int status, Slice fields,
                                Slice etag, Stamp stamp) noexcept nogil:
    cdef Blob *blob = _blob_for(plane, <int64_t>body.len)
    if blob == NULL or not blob_append(blob, body.data, body.len):
        blob_release(blob)
        return _counted(plane, PUT_NO_SPACE)
    blob_seal(blob)
    return _complete(plane, key, NULL, blob, 0, <int64_t>body.len, status, fields, etag, stamp)


cdef inline PutResult _complete(Plane *plane, Slice key, Entry *parent, Blob *blob, uint64_t offset,
                                int64_t length, int status, Slice fields,
                                Slice etag, Stamp stamp) noexcept nogil:
    """Consumes one reference of blob."""
    cdef uint64_t now_us = clock_us()
    cdef uint64_t expires_ms = now_us // 1000 + stamp.ttl_ms
    cdef Entry *entry = NULL
    cdef PutResult result = PUT_NO_SPACE
    cdef Head *head = head_new(status, length, fields, etag)
    if head != NULL:
        result = store_complete(&plane.store, key, parent, blob, offset, length, head, status,
                                expires_ms, expires_ms + stamp.grace_ms,
                                now_us, True, &entry)
    if result != PUT_CREATED:
        blob_release(blob)
        head_free(head)
        return _counted(plane, result)
    post_tell(&plane.post, entry)
    entry_release(entry)
    return _counted(plane, result)


cdef inline PutResult _counted(Plane *plane, PutResult result) noexcept nogil:
    count_add(&plane.puts[<int>result], 1)
    return result


cdef inline PutResult plane_publish(Plane *plane, Slice key, LiveVersion *version,
                                    uint64_t ttl_ms, uint64_t age_ms) noexcept nogil:
    """Consumes the caller's reference of `version`, which was `age_ms` old when it came."""
    cdef uint64_t now_us = clock_us()
    cdef Entry *entry = NULL
    cdef PutResult result
    version.published_us = now_us - 1000 * age_ms if age_ms < now_us // 1000 else 0
    result = store_publish(&plane.store, key, version, now_us // 1000 + ttl_ms, &entry)
    if result != PUT_CREATED:
        version_release(version)
        return result
    post_tell(&plane.post, entry)
    entry_release(entry)
    return result


cdef inline Entry *plane_open(Plane *plane, Slice key, bint unasked) noexcept nogil:
    """A reserved entry to be filled by a push, referenced; NULL when the key is complete, live, or
    somebody is filling it. `unasked`: NULL too when somebody has asked for it, whose miss is under
    way."""
    cdef bint created = False
    cdef Entry *entry = store_acquire(&plane.store, store_hash(&plane.store, key), key,
                                      clock_us() // 1000, True, &created)
    if entry != NULL and (entry_state(entry) != ENTRY_RESERVED or (unasked and not created)):
        entry_release(entry)
        return NULL
    return entry


cdef inline bint plane_asked(Plane *plane, Slice key) noexcept nogil:
    """Has a viewer asked for it since this was last called, or waits now? Takes the SIEVE bit,
    which the next hit sets again."""
    cdef Entry *entry = plane_find(plane, key)
    cdef bint asked
    if entry == NULL:
        return False
    asked = load_relaxed_u32(&entry.visited) != 0 or load_relaxed_u32(&entry.waiters) != 0
    store_relaxed_u32(&entry.visited, 0)
    entry_release(entry)
    return asked


cdef inline Entry *plane_find(Plane *plane, Slice key) noexcept nogil:
    cdef bint created
    return store_acquire(&plane.store, store_hash(&plane.store, key), key, 0, False, &created)


cdef inline bint plane_purge(Plane *plane, Slice key) noexcept nogil:
    """Whoever is parked on it is told: a fill that goes on still answers them, a live value is
    asked for again."""
    cdef Entry *entry = store_purge_entry(&plane.store, key)
    if entry == NULL:
        return False
    post_tell(&plane.post, entry)
    entry_release(entry)
    return True
