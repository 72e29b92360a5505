"""store.pxd and entry.pxd without a worker."""
from edgecache.native.entry cimport (
    Entry, entry_acquire, entry_dead, entry_filled, entry_release, entry_state,
)
from edgecache.native.store cimport (
    EVICT_STEPS, LEFT_EVICTED, LEFT_EXPIRED, LEFT_FAILED, LEFT_PURGED, LEFT_REPLACED,
    STORE_BUCKETS, Store, entry_begin, entry_commit, entry_fail, store_acquire, store_complete,
    store_destroy, store_expire, store_hash, store_init, store_make_room, store_publish,
    store_purge_entry, store_purge_prefix,
)


cdef class EntryRef:
    """One reference on an entry, as a worker or a Fill holds it."""
    cdef StoreOf store
    cdef Entry *entry

    def __dealloc__(self):
        entry_release(self.entry)

    @property
    def state(self):
        return entry_state(self.entry)

    @property
    def dead(self):
        return bool(entry_dead(self.entry))

    @property
    def refs(self):
        return self.entry.refs

    @property
    def filled(self):
        return entry_filled(self.entry)

    def visit(self):
        self.entry.visited = 1

    def begin(self, int64_t length=-1, uint64_t expires_ms=UINT64_MAX):
        cdef Blob *blob = blob_new_memfd(&self.store.store.used)
        cdef Head *made = head_new(200, length, as_slice(b""), as_slice(b""))
        if entry_begin(&self.store.store, self.entry, blob, made, 200, length, False,
                       expires_ms, expires_ms, 0, 1):
            return True
        blob_release(blob)
        head_free(made)
        return False

    def append(self, bytes data):
        return bool(blob_append(self.entry.blob, <cbyte *>PyBytes_AS_STRING(data), len(data)))

    def commit(self):
        entry_commit(&self.store.store, self.entry, NULL)

    def fail(self, int status, uint64_t expires_ms=0):
        entry_fail(&self.store.store, self.entry, status, expires_ms)


cdef EntryRef a_ref(StoreOf store, Entry *entry):
    cdef EntryRef ref = EntryRef.__new__(EntryRef)
    ref.store = store
    ref.entry = entry
    return ref


cdef class StoreOf:
    cdef Store store

    def __cinit__(self, uint64_t budget):
        if not store_init(&self.store, budget):
            raise MemoryError

    def __dealloc__(self):
        store_destroy(&self.store)

    def acquire(self, bytes key, bint reserve=False, uint64_t now_ms=1):
        """(EntryRef or None, created)."""
        cdef bint created
        cdef Slice name = as_slice(key)
        cdef Entry *entry = store_acquire(&self.store, store_hash(&self.store, name), name, now_ms,
                                          reserve, &created)
        return (a_ref(self, entry) if entry != NULL else None), bool(created)

    def put(self, bytes key, bytes body, bytes etag=b"e", uint64_t expires_ms=UINT64_MAX,
            uint64_t drop_ms=0, EntryRef parent=None, uint64_t offset=0, bint memfd=False):
        """A PutResult; `parent`: a view of it."""
        cdef Entry *entry = NULL
        cdef Entry *above = parent.entry if parent is not None else NULL
        cdef Blob *blob
        if above != NULL:
            blob = above.blob
            blob_acquire(blob)
        else:
            blob = (blob_new_memfd(&self.store.used) if memfd
                    else blob_new_heap(len(body), &self.store.used))
            blob_append(blob, <cbyte *>PyBytes_AS_STRING(body), len(body))
        cdef Head *made = head_new(200, len(body), as_slice(b""), as_slice(etag))
        result = store_complete(&self.store, as_slice(key), above, blob, offset, len(body), made,
                                200, expires_ms, drop_ms or expires_ms, 1, True, &entry)
        if entry == NULL:
            blob_release(blob)
            head_free(made)
        entry_release(entry)
        return result

    def publish(self, bytes key, uint64_t msn, uint32_t parts, uint64_t expires_ms=UINT64_MAX):
        cdef Entry *entry = NULL
        cdef Slice body[VARIANTS]
        cdef Slice nothing[VARIANTS]
        cdef Slice same[VARIANTS]
        for i in range(VARIANTS):
            body[i] = same[i] = slice_of(NULL, 0)
            nothing[i] = as_slice(b"")
        body[0] = as_slice(b"text")
        cdef LiveVersion *version = version_new(body, nothing, same, nothing, &self.store.used)
        version.msn, version.parts, version.hold_ms = msn, parts, 1000
        result = store_publish(&self.store, as_slice(key), version, expires_ms, &entry)
        if entry == NULL:
            version_release(version)
        entry_release(entry)
        return result

    def purge(self, bytes key):
        cdef Entry *entry = store_purge_entry(&self.store, as_slice(key))
        entry_release(entry)
        return entry != NULL

    def purge_prefix(self, bytes prefix):
        return store_purge_prefix(&self.store, as_slice(prefix))

    def expire(self, uint64_t now_ms, int steps=1 << 20):
        store_expire(&self.store, now_ms, steps)

    @property
    def seed(self):
        return tuple(self.store.seed[i] for i in range(4))

    def longest_chain(self):
        """Of entries in one bucket of the index."""
        cdef Entry *entry
        cdef int i
        longest = 0
        for i in range(STORE_BUCKETS):
            length = 0
            entry = self.store.buckets[i]
            while entry != NULL:
                length += 1
                entry = entry.chain
            longest = max(longest, length)
        return longest

    def make_room(self, uint64_t more):
        return bool(store_make_room(&self.store, more))

    def figures(self):
        return {"used": self.store.used, "entries": self.store.entries,
                "created": self.store.created, "evicted": self.store.left[LEFT_EVICTED],
                "expired": self.store.left[LEFT_EXPIRED], "purged": self.store.left[LEFT_PURGED],
                "replaced": self.store.left[LEFT_REPLACED],
                "failed": self.store.left[LEFT_FAILED], "refused": self.store.refused}
