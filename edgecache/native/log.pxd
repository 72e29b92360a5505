"""Access-log ring: one per worker, fixed-size records, drained by the control plane. Full: the
record is dropped and counted. Off: one load per answer.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from edgecache.native.address cimport Address
from edgecache.native.base cimport load_acquire_u64, load_relaxed_u64, store_release_u64
from edgecache.native.types cimport Slice


cdef enum:
    LOG_SLOTS = 8192
    LOG_TARGET_BYTES = 216


# how the answer came about; RFC 9211 words are made of it in response.pxd
cdef enum CacheWord:
    CACHE_HIT
    CACHE_MISS
    CACHE_COLLAPSED
    CACHE_LIVE
    CACHE_WOKEN
    CACHE_ERROR
    CACHE_STALE


cdef struct LogRecord:
    uint64_t wall_ns
    uint64_t bytes_out
    uint32_t duration_us
    int status
    uint8_t cache                        # CacheWord
    uint8_t method                       # Method
    Address client
    uint32_t target_len
    unsigned char target[LOG_TARGET_BYTES]


cdef struct LogRing:
    uint32_t on
    LogRecord *slots
    uint64_t head                        # next to write; worker
    uint64_t tail                        # next to read; control


cdef inline bint log_init(LogRing *ring, bint on) noexcept nogil:
    ring.on = on
    ring.head = 0
    ring.tail = 0
    ring.slots = <LogRecord *>calloc(LOG_SLOTS, sizeof(LogRecord)) if on else NULL
    return not on or ring.slots != NULL


cdef inline LogRecord *log_claim(LogRing *ring) noexcept nogil:
    """The slot to fill, or NULL when the ring is full; log_commit publishes it."""
    if ring.head - load_acquire_u64(&ring.tail) >= LOG_SLOTS:
        return NULL
    return &ring.slots[ring.head % LOG_SLOTS]


cdef inline void log_target(LogRecord *record, Slice target) noexcept nogil:
    record.target_len = <uint32_t>target.len if target.len < LOG_TARGET_BYTES else LOG_TARGET_BYTES
    memcpy(record.target, target.data, record.target_len)


cdef inline void log_commit(LogRing *ring) noexcept nogil:
    store_release_u64(&ring.head, ring.head + 1)


cdef inline LogRecord *log_peek(LogRing *ring) noexcept nogil:
    """Control plane: the oldest record, or NULL."""
    if not ring.on or load_relaxed_u64(&ring.tail) == load_acquire_u64(&ring.head):
        return NULL
    return &ring.slots[ring.tail % LOG_SLOTS]


cdef inline void log_next(LogRing *ring) noexcept nogil:
    store_release_u64(&ring.tail, ring.tail + 1)


cdef inline void log_destroy(LogRing *ring) noexcept nogil:
    free(ring.slots)
