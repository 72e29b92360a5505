"""Fixed-size blocks from chunks, one pool per kind and worker: no malloc on the hit path.

Law: owned by one worker, no lock. Blocks are zeroed when taken. Chunks are returned only by
pool_destroy, so the high-water mark of a worker stays its own. """
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from edgecache.native.base cimport EC_ASSERT, EC_LIVE_CHUNK, live_add


cdef enum:
    POOL_CHUNK_BLOCKS = 64


cdef struct PoolLink:
    PoolLink *next


cdef struct Pool:
    PoolLink *free_blocks
    PoolLink *chunks
    size_t block_bytes
    uint64_t used                        # blocks handed out now


cdef inline void pool_init(Pool *pool, size_t block_bytes) noexcept nogil:
    pool.free_blocks = NULL
    pool.chunks = NULL
    pool.block_bytes = (block_bytes + 15) & ~<size_t>15
    pool.used = 0


cdef inline bint _pool_grow(Pool *pool) noexcept nogil:
    cdef size_t head = 16
    cdef char *chunk = <char *>malloc(head + pool.block_bytes * POOL_CHUNK_BLOCKS)
    cdef PoolLink *block
    cdef int i
    if chunk == NULL:
        return False
    live_add(EC_LIVE_CHUNK, 1)
    (<PoolLink *>chunk).next = pool.chunks
    pool.chunks = <PoolLink *>chunk
    for i in range(POOL_CHUNK_BLOCKS):
        block = <PoolLink *>(chunk + head + i * pool.block_bytes)
        block.next = pool.free_blocks
        pool.free_blocks = block
    return True


cdef inline void *pool_take(Pool *pool) noexcept nogil:
    """A zeroed block, or NULL when memory is out."""
    cdef PoolLink *block = pool.free_blocks
    if block == NULL:
        if not _pool_grow(pool):
            return NULL
        block = pool.free_blocks
    pool.free_blocks = block.next
    pool.used += 1
    memset(block, 0, pool.block_bytes)
    return block


cdef inline void pool_give(Pool *pool, void *block) noexcept nogil:
    memset(block, 0, 8)                  # a stale pointer meets a cleared magic number
    (<PoolLink *>block).next = pool.free_blocks
    pool.free_blocks = <PoolLink *>block
    pool.used -= 1


cdef inline void pool_destroy(Pool *pool) noexcept nogil:
    cdef PoolLink *chunk = pool.chunks
    EC_ASSERT(pool.used == 0)
    while chunk != NULL:
        pool.chunks = chunk.next
        free(chunk)
        live_add(EC_LIVE_CHUNK, -1)
        chunk = pool.chunks
