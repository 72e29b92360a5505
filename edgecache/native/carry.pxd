"""Carry: what the store of one process leaves to that of its successor on the same host.

An object goes as its head and its bytes: a memfd is passed and never copied, and its views with it.
Times are monotonic, the same for both. The order is that in which objects leave, so that a smaller
budget keeps what is worth most.

Law: the store that is read goes on as before. Who asked for a thing before it is taken has it then.
Does not know how things travel.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport strlen
from edgecache.native.blob cimport Blob, blob_grown, blob_release
from edgecache.native.entry cimport (
    ENTRY_COMPLETE, ENTRY_FILLING, ENTRY_LIVE, Entry, EntryState, entry_acquire, entry_release,
    entry_state,
)
from edgecache.native.evict cimport KEPT, PROBATION
from edgecache.native.head cimport Head, common_fields, head_fields, head_free, head_new
from edgecache.native.mailbox cimport post_tell
from edgecache.native.plane cimport Plane, plane_open
from edgecache.native.store cimport PUT_CREATED, Store, entry_begin, entry_fail, store_complete
from edgecache.native.sys cimport pthread_mutex_lock, pthread_mutex_unlock
from edgecache.native.types cimport Slice, slice_of


cdef struct Facts:                       # of an object; times as in Entry
    int status
    uint64_t offset
    int64_t length
    uint64_t stored_us
    uint64_t expires_ms
    uint64_t drop_ms
    bint pushed


cdef inline size_t _gather(Entry *entry, Entry **out, size_t room) noexcept nogil:
    """`entry` and its views, referenced."""
    cdef EntryState state = entry_state(entry)
    cdef Entry *view = entry.views
    cdef size_t n = 0
    if state != ENTRY_COMPLETE and state != ENTRY_FILLING and state != ENTRY_LIVE:
        return 0
    while entry != NULL and n < room:
        entry_acquire(entry)
        out[n] = entry
        n += 1
        entry = view
        view = view.next_view if view != NULL else NULL
    return n


cdef inline size_t store_gather(Store *store, Entry **out, size_t room) noexcept nogil:
    """All that may be carried, referenced; each view behind its parent. Returns how many."""
    cdef size_t n = 0
    cdef int queue
    cdef Entry *entry
    pthread_mutex_lock(&store.lock)
    for queue in range(PROBATION, KEPT + 1):
        entry = store.order.queues[queue].oldest
        while entry != NULL and n < room:
            n += _gather(entry, out + n, room - n)
            entry = entry.newer
    pthread_mutex_unlock(&store.lock)
    return n


cdef inline Slice head_own_fields(Head *head) noexcept nogil:
    """What head_new was given: without what it adds to every head."""
    cdef Slice fields = head_fields(head)
    fields.len -= strlen(common_fields()) + (head.etag_len + 8 if head.etag_len else 0)
    return fields


cdef inline Entry *plane_restore(Plane *plane, Slice key, Entry *parent, Blob *blob, Facts *facts,
                                 Slice fields, Slice etag) noexcept nogil:
    """An object as it was, referenced; takes over one reference of blob. NULL: no room, or its key
    is taken."""
    cdef Entry *entry = NULL
    cdef Head *head = head_new(facts.status, facts.length, fields, etag)
    if head == NULL or store_complete(
            &plane.store, key, parent, blob, facts.offset, facts.length, head, facts.status,
            facts.expires_ms, facts.drop_ms, facts.stored_us, facts.pushed,
            &entry) != PUT_CREATED:
        head_free(head)
        blob_release(blob)
        return NULL
    post_tell(&plane.post, entry)
    return entry


cdef inline Entry *plane_restore_growing(Plane *plane, Slice key, Blob *blob, Facts *facts,
                                         Slice fields) noexcept nogil:
    """The same of one that is still being filled, which the caller goes on with."""
    cdef Entry *entry = plane_open(plane, key, False)
    cdef Head *head = head_new(facts.status, -1, fields, slice_of(NULL, 0))
    if entry != NULL and head != NULL and entry_begin(
            &plane.store, entry, blob, head, facts.status, -1, facts.pushed, facts.expires_ms,
            facts.drop_ms, 0, facts.stored_us):
        post_tell(&plane.post, entry)
        return entry
    if entry != NULL:
        entry_fail(&plane.store, entry, 503, 0)
    entry_release(entry)
    head_free(head)
    blob_release(blob)
    return NULL


cdef inline void fill_grown(Plane *plane, Entry *entry, uint64_t filled) noexcept nogil:
    """Our successor appended to the body."""
    if entry_state(entry) == ENTRY_FILLING:
        blob_grown(entry.blob, filled)
        post_tell(&plane.post, entry)
