"""Cython's view of base.h: atomics, assertions, clocks, the keyed hash. No state but the
live-object counters.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "base.h" nogil:
    bint EC_LIKELY(bint cond)
    bint EC_UNLIKELY(bint cond)
    void EC_ASSERT(bint cond)
    void EC_CHECK(const void *obj, uint32_t magic)

    uint32_t load_acquire_u32(const uint32_t *p)
    uint64_t load_acquire_u64(const uint64_t *p)
    void *load_acquire_ptr(void **p)
    uint8_t load_relaxed_u8(const uint8_t *p)
    void store_release_u8(uint8_t *p, uint8_t v)
    void store_release_u32(uint32_t *p, uint32_t v)
    void store_release_u64(uint64_t *p, uint64_t v)
    void store_release_ptr(void **p, void *v)
    uint32_t load_relaxed_u32(const uint32_t *p)
    uint64_t load_relaxed_u64(const uint64_t *p)
    void store_relaxed_u32(uint32_t *p, uint32_t v)
    void store_relaxed_u64(uint64_t *p, uint64_t v)
    void ref_acquire(uint32_t *refs)
    bint ref_release(uint32_t *refs)
    uint64_t bits_set(uint64_t *p, uint64_t bits)
    uint64_t bits_clear(uint64_t *p, uint64_t bits)
    uint64_t bits_get(const uint64_t *p)
    uint32_t flag_swap(uint32_t *p, uint32_t v)
    void fence_full()
    uint32_t slot_add(uint32_t *p, int n)
    void total_add(uint64_t *p, int64_t n)
    void count_add(uint64_t *p, uint64_t n)

    uint64_t clock_us()
    uint64_t clock_wall_ns()
    int log2_bucket(uint64_t value)
    int lowest_bit(uint64_t value)
    uint64_t key_hash(const unsigned char *key, size_t len, const uint64_t *seed)

    enum:
        EC_LIVE_BLOB
        EC_LIVE_HEAD
        EC_LIVE_VERSION
        EC_LIVE_ENTRY
        EC_LIVE_CHUNK
        EC_LIVE_BUFFER
        EC_LIVE_KINDS
    void live_add(int kind, int64_t n)
    uint64_t live_get(int kind)
    const char *ec_compiler()
    int ec_debug()
