/* What Cython cannot say: C11 atomics on plain integers, assertions that abort, a keyed hash.
 *
 * Atomics are named by what they mean to the reader of the code, not by the instruction:
 * `load_acquire` sees everything written before the matching `store_release`; `count_add` is a
 * single-writer counter that others may read at any time (a plain add on x86, but no data race). */
#ifndef EDGECACHE_BASE_H
#define EDGECACHE_BASE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EC_LIKELY(x) __builtin_expect(!!(x), 1)
#define EC_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A bug, not an error: say where and stop. A peer's faults and lack of resources never get here. */
static inline void ec_abort(const char *what, const char *file, int line) {
    fprintf(stderr, "edgecache: assertion failed: %s (%s:%d)\n", what, file, line);
    abort();
}
#define EC_ASSERT(cond) \
    do { if (EC_UNLIKELY(!(cond))) ec_abort(#cond, __FILE__, __LINE__); } while (0)

/* Magic numbers: the first field of every long-lived struct; cleared when it is freed, so that
 * stale pointers are caught (Varnish's miniobj). */
#define EC_CHECK(obj, magic) do { \
    const uint32_t *ec_checked = (const void *)(obj); \
    EC_ASSERT(ec_checked != NULL); \
    EC_ASSERT(*ec_checked == (magic)); \
} while (0)

static inline uint32_t load_acquire_u32(const uint32_t *p) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline uint64_t load_acquire_u64(const uint64_t *p) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline void *load_acquire_ptr(void *const *p) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline void store_release_u32(uint32_t *p, uint32_t v) {
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
static inline void store_release_u64(uint64_t *p, uint64_t v) {
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
static inline void store_release_ptr(void **p, void *v) {
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
static inline uint8_t load_relaxed_u8(const uint8_t *p) {
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
static inline void store_release_u8(uint8_t *p, uint8_t v) {
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
static inline uint32_t load_relaxed_u32(const uint32_t *p) {
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
static inline uint64_t load_relaxed_u64(const uint64_t *p) {
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
static inline void store_relaxed_u32(uint32_t *p, uint32_t v) {
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}
static inline void store_relaxed_u64(uint64_t *p, uint64_t v) {
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

/* References: taking one needs no order (the taker already holds one); the last release must see
 * all writes of the others. */
static inline void ref_acquire(uint32_t *refs) {
    uint32_t before = __atomic_fetch_add(refs, 1, __ATOMIC_RELAXED);
    EC_ASSERT(before > 0 && before < UINT32_MAX / 2);
}
static inline int ref_release(uint32_t *refs) {
    uint32_t before = __atomic_fetch_sub(refs, 1, __ATOMIC_ACQ_REL);
    EC_ASSERT(before > 0);
    return before == 1;
}

/* Bit sets shared between planes: sequentially consistent, because "set my bit, then look again"
 * meets "change, then look at the bits". */
static inline uint64_t bits_set(uint64_t *p, uint64_t bits) {
    return __atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST);
}
static inline uint64_t bits_clear(uint64_t *p, uint64_t bits) {
    return __atomic_fetch_and(p, ~bits, __ATOMIC_SEQ_CST);
}
static inline uint64_t bits_get(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
static inline uint32_t flag_swap(uint32_t *p, uint32_t v) {
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}
static inline void fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* A count that many threads keep: what it is then. */
static inline uint32_t slot_add(uint32_t *p, int n) {
    return __atomic_add_fetch(p, (uint32_t)n, __ATOMIC_RELAXED);
}
static inline void total_add(uint64_t *p, int64_t n) {
    __atomic_fetch_add(p, (uint64_t)n, __ATOMIC_RELAXED);
}
static inline void count_add(uint64_t *p, uint64_t n) { /* one writer */
    __atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline uint64_t clock_us(void) { /* monotonic */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}
static inline uint64_t clock_wall_ns(void) { /* for Date and log stamps only */
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int log2_bucket(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }
static inline int lowest_bit(uint64_t value) { return __builtin_ctzll(value); }

/* Keyed 64-bit hash by folded 64x64->128 multiplication over 16-byte strides; the seed is random
 * per process, so keys that collide here collide nowhere else. */
static inline uint64_t ec_mum(uint64_t a, uint64_t b) {
    __uint128_t r = (__uint128_t)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}
static inline uint64_t ec_read64(const unsigned char *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint64_t key_hash(const unsigned char *key, size_t len, const uint64_t *seed) {
    uint64_t h = seed[0] ^ len;
    unsigned char tail[16] = {0};
    size_t left = len;
    for (; left >= 16; left -= 16, key += 16)
        h = ec_mum(ec_read64(key) ^ seed[1], ec_read64(key + 8) ^ h);
    memcpy(tail, key, left);
    h = ec_mum(ec_read64(tail) ^ seed[2], ec_read64(tail + 8) ^ h);
    return ec_mum(h ^ seed[3], len ^ seed[1]);
}

/* How many of each long-lived object exist; tests assert zero when the last plane is gone. */
enum {
    EC_LIVE_BLOB,
    EC_LIVE_HEAD,
    EC_LIVE_VERSION,
    EC_LIVE_ENTRY,
    EC_LIVE_CHUNK,
    EC_LIVE_BUFFER,
    EC_LIVE_KINDS
};
static uint64_t ec_live[EC_LIVE_KINDS];
static inline void live_add(int kind, int64_t n) { total_add(&ec_live[kind], n); }
static inline uint64_t live_get(int kind) { return load_relaxed_u64(&ec_live[kind]); }

#define EC_MACRO_STRING(x) #x
#define EC_STRING(x) EC_MACRO_STRING(x)
static inline const char *ec_compiler(void) { return "gcc " __VERSION__; }
#ifdef EC_DEBUG
static inline int ec_debug(void) { return 1; }
#else
static inline int ec_debug(void) { return 0; }
#endif

#endif
