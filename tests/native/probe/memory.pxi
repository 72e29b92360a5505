"""base.h, pool.pxd, blob.pxd, timer.pxd, log.pxd and stats.pxd."""
from edgecache.native.base cimport (
    EC_LIVE_BLOB, EC_LIVE_CHUNK, EC_LIVE_ENTRY, EC_LIVE_HEAD, EC_LIVE_VERSION, key_hash as _hash,
    live_get, log2_bucket,
)
from edgecache.native.blob cimport (
    Blob, blob_acquire, blob_append, blob_filled, blob_new_heap, blob_new_memfd, blob_release,
    blob_seal,
)
from edgecache.native.log cimport (
    LOG_SLOTS, LOG_TARGET_BYTES, LogRecord, LogRing, log_claim, log_commit, log_destroy, log_init,
    log_next, log_peek, log_target,
)
from edgecache.native.pool cimport (
    POOL_CHUNK_BLOCKS, Pool, pool_destroy, pool_give, pool_init, pool_take,
)
from edgecache.native.stats cimport (
    BUCKETS, C_status_2xx, Stats, stat_add, stat_get, stat_status, stat_time,
)
from edgecache.native.sys cimport close, pread
from edgecache.native.timer cimport (
    WHEEL_SLOTS, WHEEL_TICK_MS, Timer, Wheel, timer_cancel, timer_set, wheel_expired, wheel_init,
)

SLOTS, TICK_MS, CHUNK_BLOCKS = WHEEL_SLOTS, WHEEL_TICK_MS, POOL_CHUNK_BLOCKS
RING_SLOTS, RING_TARGET = LOG_SLOTS, LOG_TARGET_BYTES


def alive():
    """What this extension itself has not freed."""
    return {"blobs": live_get(EC_LIVE_BLOB), "heads": live_get(EC_LIVE_HEAD),
            "versions": live_get(EC_LIVE_VERSION), "entries": live_get(EC_LIVE_ENTRY),
            "chunks": live_get(EC_LIVE_CHUNK)}


def key_hash(bytes key, tuple seed):
    cdef uint64_t words[4]
    for i in range(4):
        words[i] = seed[i]
    cdef Slice at = at_the_edge(key)
    return _hash(at.data, at.len, words)


def bucket(uint64_t value):
    return log2_bucket(value)


cdef class PoolOf:
    cdef Pool pool
    cdef list taken

    def __cinit__(self, size_t block_bytes):
        pool_init(&self.pool, block_bytes)

    def take(self):
        """(address, is all zero); the block is then filled with rubbish."""
        cdef unsigned char *block = <unsigned char *>pool_take(&self.pool)
        zero = all(block[i] == 0 for i in range(self.pool.block_bytes))
        memset(block, 0xAB, self.pool.block_bytes)
        return <size_t>block, zero

    def give(self, size_t block):
        pool_give(&self.pool, <void *>block)

    @property
    def used(self):
        return self.pool.used

    @property
    def block_bytes(self):
        return self.pool.block_bytes

    def destroy(self):
        pool_destroy(&self.pool)


cdef class BlobOf:
    cdef Blob *blob
    cdef uint64_t used

    def __cinit__(self, capacity):
        """capacity None: a memfd."""
        self.blob = blob_new_memfd(&self.used) if capacity is None else blob_new_heap(
            capacity, &self.used)

    def __dealloc__(self):
        blob_release(self.blob)

    def append(self, bytes data):
        return bool(blob_append(self.blob, <cbyte *>PyBytes_AS_STRING(data), len(data)))

    def seal(self):
        blob_seal(self.blob)

    def share(self):
        """One more reference, and let go of it."""
        blob_acquire(self.blob)
        blob_release(self.blob)

    @property
    def filled(self):
        return blob_filled(self.blob)

    @property
    def charged(self):
        return self.used

    @property
    def fd(self):
        return self.blob.fd

    def content(self):
        if self.blob.fd < 0:
            return self.blob.data[:self.blob.filled]
        room = bytearray(self.blob.filled + 1)
        cdef unsigned char[::1] view = room
        return bytes(room[:pread(self.blob.fd, &view[0], len(room), 0)])


cdef class WheelOf:
    """Timers by number; `expired` runs the wheel up to a time."""
    cdef Wheel *wheel
    cdef Timer *timers
    cdef int count

    def __cinit__(self, int count, uint64_t now_ms):
        self.wheel = <Wheel *>calloc(1, sizeof(Wheel))
        self.timers = <Timer *>calloc(count, sizeof(Timer))
        self.count = count
        for i in range(count):
            self.timers[i].owner = <void *><size_t>(i + 1)
        wheel_init(self.wheel, now_ms)

    def __dealloc__(self):
        free(self.wheel)
        free(self.timers)

    def set(self, int number, uint64_t deadline_ms):
        timer_set(self.wheel, &self.timers[number], deadline_ms)

    def cancel(self, int number):
        timer_cancel(&self.timers[number])

    def expired(self, uint64_t now_ms):
        found = []
        cdef Timer *timer = wheel_expired(self.wheel, now_ms)
        while timer != NULL:
            found.append(<int><size_t>timer.owner - 1)
            timer = wheel_expired(self.wheel, now_ms)
        return found


cdef class RingOf:
    cdef LogRing ring

    def __cinit__(self, bint on=True):
        if not log_init(&self.ring, on):
            raise MemoryError

    def __dealloc__(self):
        log_destroy(&self.ring)

    def write(self, int status, bytes target):
        cdef LogRecord *record = log_claim(&self.ring)
        if record == NULL:
            return False
        record.status = status
        log_target(record, as_slice(target))
        log_commit(&self.ring)
        return True

    def read(self):
        cdef LogRecord *record = log_peek(&self.ring)
        if record == NULL:
            return None
        found = record.status, record.target[:record.target_len]
        log_next(&self.ring)
        return found


cdef class StatsOf:
    cdef Stats stats

    def add(self, int counter, uint64_t n):
        stat_add(&self.stats, counter, n)

    def get(self, int counter):
        return stat_get(&self.stats, counter)

    def statuses(self, list statuses):
        for status in statuses:
            stat_status(&self.stats, status)
        return [stat_get(&self.stats, C_status_2xx + i) for i in range(4)]

    def time(self, int histogram, uint64_t value_us):
        stat_time(&self.stats, histogram, value_us)
        return ([self.stats.h[histogram].counts[i] for i in range(BUCKETS)],
                self.stats.h[histogram].sum_us)
