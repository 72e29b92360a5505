"""store.pxd and hold.pxd: the two ways from a key to an entry, and a push into the index."""
from edgecache.native.blob cimport Blob, blob_append, blob_new_heap, blob_release
from edgecache.native.context cimport Context
from edgecache.native.entry cimport Entry, entry_acquire, entry_release
from edgecache.native.hold cimport hold_find, hold_new, hold_sweep
from edgecache.native.mailbox cimport Bell, Post, bell_init
from edgecache.native.store cimport (
    PUT_CREATED, Store, store_acquire, store_complete, store_destroy, store_hash, store_init,
    store_purge_entry,
)
from edgecache.native.sys cimport close
from edgecache.native.worker cimport worker_free, worker_new


cdef uint64_t NOW_MS = 1000


cdef class Shelf:
    """A store, and a worker that no thread runs; it holds every entry. Closed once, by close()."""
    cdef Store store
    cdef Context *ctx
    cdef Bell bell
    cdef Post post
    cdef Limits limits
    cdef list keys                       # owns what `names` points to
    cdef Slice *names
    cdef int count

    def __cinit__(self, int listen_fd, list keys):
        self.keys = keys
        self.count = len(keys)
        self.names = <Slice *>calloc(self.count, sizeof(Slice))
        self.limits.max_holds = 1 << 20
        if self.names == NULL or not store_init(&self.store, 1 << 30) or not bell_init(&self.bell):
            raise MemoryError
        self.ctx = worker_new(&self.store, &self.limits, &self.bell, &self.post, as_slice(b"pop"),
                              0, listen_fd, False)
        if self.ctx == NULL:
            raise MemoryError
        for i in range(self.count):
            self.names[i] = as_slice(keys[i])
            if not self._put(self.names[i], True):
                raise MemoryError

    def close(self):
        hold_sweep(self.ctx, True)
        worker_free(self.ctx)
        close(self.bell.fd)
        store_destroy(&self.store)
        free(self.names)

    cdef bint _put(self, Slice key, bint hold) noexcept nogil:
        cdef Entry *entry = NULL
        cdef Blob *blob = blob_new_heap(1, &self.store.used)
        cdef Head *head = head_new(200, 1, slice_of(NULL, 0), slice_of(<cbyte *>b"e", 1))
        blob_append(blob, <cbyte *>b"x", 1)
        if store_complete(&self.store, key, NULL, blob, 0, 1, head, 200, UINT64_MAX, UINT64_MAX, 1,
                          True, &entry) != PUT_CREATED:
            blob_release(blob)
            head_free(head)
            entry_release(entry)
            return False
        if hold:
            return hold_new(self.ctx, entry) != NULL     # takes over the reference
        entry_release(entry)
        return True

    def loop_hash(self, int n):
        """Distinct bits seen, so that a constant would show."""
        cdef uint64_t seen = 0
        cdef uint64_t hash
        cdef int i
        with nogil:
            for i in range(n):
                hash = store_hash(&self.store, self.names[i % self.count])
                keep(&hash)
                seen |= hash
        return seen

    def loop_held(self, int n):
        """The hit path: hash and the worker's own table, no lock. How many were found."""
        cdef uint64_t found = 0
        cdef Slice key
        cdef int i
        with nogil:
            for i in range(n):
                key = self.names[i % self.count]
                found += hold_find(self.ctx, store_hash(&self.store, key), key) != NULL
        return found

    def loop_acquire(self, int n):
        """A key that the worker does not hold: hash, lock, reference and back. How many were
        found."""
        cdef uint64_t found = 0
        cdef Entry *entry
        cdef bint created = False
        cdef Slice key
        cdef int i
        with nogil:
            for i in range(n):
                key = self.names[i % self.count]
                entry = store_acquire(&self.store, store_hash(&self.store, key), key, NOW_MS, False,
                                      &created)
                found += entry != NULL
                entry_release(entry)
        return found

    def loop_absent(self, int n, bytes absent):
        """How many were found."""
        cdef uint64_t found = 0
        cdef bint created = False
        cdef Slice key = as_slice(absent)
        with nogil:
            for _ in range(n):
                found += store_acquire(&self.store, store_hash(&self.store, key), key, NOW_MS,
                                       False, &created) != NULL
        return found

    def loop_put(self, int n, bytes absent):
        """One byte with its head into the index and out again. How many were created and left."""
        cdef uint64_t created = 0
        cdef Entry *entry
        cdef Slice key = as_slice(absent)
        with nogil:
            for _ in range(n):
                created += self._put(key, False)
                entry = store_purge_entry(&self.store, key)
                created += entry != NULL
                entry_release(entry)
        return created, self.store.entries
