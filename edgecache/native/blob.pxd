"""Blob: reference-counted bytes, appended by one writer, read by many, never rewritten.

A small body whose size is known lives on the heap and leaves by writev; everything else in a memfd
of its own and leaves by sendfile. The kernel keeps pages of a memfd that a socket still has to send
(or resend), so a memfd is never rewritten or truncated, only closed: overwriting one in place was
measured to send the new bytes to a slow reader of the old object.

Law: one writer (control plane). `filled` is published with release; a reader may touch [0, filled)
and nothing else. Counted in *used (the store's budget) by what it really takes: heap bytes, or
whole pages. """
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from edgecache.native.base cimport (
    EC_CHECK, EC_LIVE_BLOB, live_add, load_acquire_u64, ref_acquire, ref_release, store_release_u64,
    total_add,
)
from edgecache.native.sys cimport (
    EINTR, F_ADD_SEALS, F_GET_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE,
    MFD_ALLOW_SEALING, MFD_CLOEXEC, SEEK_END, close, errno_get, fcntl, lseek, memfd_create, pwrite,
    ssize_t,
)
from edgecache.native.types cimport cbyte


cdef enum:
    BLOB_MAGIC = 0x626C6F62
    PAGE_BYTES = 4096


cdef struct Blob:
    uint32_t magic
    uint32_t refs                        # entries, and the writer
    int fd                               # memfd; -1: heap
    uint8_t *data                        # heap bytes; NULL for a memfd
    uint64_t capacity                    # heap only
    uint64_t filled                      # released by the writer
    uint64_t charged                     # what *used was told
    uint64_t *used                       # the store's byte account


cdef inline Blob *_blob_new(uint64_t *used) noexcept nogil:
    cdef Blob *blob = <Blob *>malloc(sizeof(Blob))
    if blob == NULL:
        return NULL
    memset(blob, 0, sizeof(Blob))
    blob.magic = BLOB_MAGIC
    blob.refs = 1
    blob.fd = -1
    blob.used = used
    live_add(EC_LIVE_BLOB, 1)
    return blob


cdef inline void _blob_charge(Blob *blob, uint64_t charged) noexcept nogil:
    total_add(blob.used, <long long>charged - <long long>blob.charged)
    blob.charged = charged


cdef inline Blob *blob_new_heap(uint64_t capacity, uint64_t *used) noexcept nogil:
    """A blob that will hold exactly `capacity` bytes; the caller owns one reference. NULL: no
    memory."""
    cdef Blob *blob = _blob_new(used)
    if blob == NULL:
        return NULL
    blob.data = <uint8_t *>malloc(capacity if capacity else 1)
    if blob.data == NULL:
        blob_release(blob)
        return NULL
    blob.capacity = capacity
    _blob_charge(blob, capacity + sizeof(Blob))
    return blob


cdef inline Blob *blob_new_memfd(uint64_t *used) noexcept nogil:
    """A blob of any size; the caller owns one reference. NULL: no memory or no file descriptor."""
    cdef Blob *blob = _blob_new(used)
    if blob == NULL:
        return NULL
    blob.fd = memfd_create("edgecache", MFD_CLOEXEC | MFD_ALLOW_SEALING)
    if blob.fd < 0:
        blob_release(blob)
        return NULL
    _blob_charge(blob, sizeof(Blob))
    return blob


cdef inline Blob *blob_adopt(int fd, uint64_t filled, bint sealed, uint64_t *used) noexcept nogil:
    """Of a memfd that our predecessor filled this far, and for good if `sealed`. It may not carry
    the seals: the kernel gives none while bytes of it are under way to a viewer. Takes the
    descriptor over; NULL: it is no such thing, or no memory, and the descriptor stays the
    caller's."""
    cdef int kept = F_SEAL_WRITE | F_SEAL_SHRINK
    cdef Blob *blob
    if fcntl(fd, F_GET_SEALS) < 0 or lseek(fd, 0, SEEK_END) < <long>filled:
        return NULL
    if sealed:
        fcntl(fd, F_ADD_SEALS, kept)
    blob = _blob_new(used)
    if blob == NULL:
        return NULL
    blob.fd = fd
    blob.filled = filled
    _blob_charge(blob, sizeof(Blob) + ((filled + PAGE_BYTES - 1) & ~<uint64_t>(PAGE_BYTES - 1)))
    return blob


cdef inline void blob_grown(Blob *blob, uint64_t filled) noexcept nogil:
    """Another process, which has the same memfd, appended to it."""
    store_release_u64(&blob.filled, filled)


cdef inline bint blob_append(Blob *blob, cbyte *data, uint64_t length) noexcept nogil:
    """False: no room (nothing of it becomes readable)."""
    cdef uint64_t at = blob.filled
    cdef uint64_t done = 0
    cdef ssize_t n
    EC_CHECK(blob, BLOB_MAGIC)
    if length == 0:
        return True                      # data may be NULL
    if blob.fd < 0:
        if length > blob.capacity - at:
            return False
        memcpy(blob.data + at, data, length)
    else:
        while done < length:
            n = pwrite(blob.fd, data + done, length - done, <long>(at + done))
            if n < 0:
                if errno_get() == EINTR:
                    continue
                return False
            done += <uint64_t>n
        _blob_charge(blob,
                     sizeof(Blob) + ((at + length + PAGE_BYTES - 1) & ~<uint64_t>(PAGE_BYTES - 1)))
    store_release_u64(&blob.filled, at + length)
    return True


cdef inline uint64_t blob_filled(Blob *blob) noexcept nogil:
    return load_acquire_u64(&blob.filled)


cdef inline void blob_seal(Blob *blob) noexcept nogil:
    """No more writing, by anybody who may get hold of the descriptor."""
    if blob.fd >= 0:
        fcntl(blob.fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)


cdef inline void blob_acquire(Blob *blob) noexcept nogil:
    EC_CHECK(blob, BLOB_MAGIC)
    ref_acquire(&blob.refs)


cdef inline void blob_release(Blob *blob) noexcept nogil:
    if blob == NULL:
        return
    EC_CHECK(blob, BLOB_MAGIC)
    if not ref_release(&blob.refs):
        return
    _blob_charge(blob, 0)
    if blob.fd >= 0:
        close(blob.fd)
    free(blob.data)
    blob.magic = 0
    free(blob)
    live_add(EC_LIVE_BLOB, -1)
