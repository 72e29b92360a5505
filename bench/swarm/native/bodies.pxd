"""Bytes, and the reference copies of media objects that every viewer's bytes are compared with.

Whoever is furthest ahead in an object extends its copy; everybody else's bytes are compared with
it as they arrive, so no viewer keeps a body. A complete copy is handed to Python once, which checks
it against the ETag when that is the xxh3-128 of the body.

Law: a Body lives while a playlist, a request or the check refers to it: memory is the live window.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy
from edgecache.native.base cimport EC_ASSERT, key_hash
from bench.swarm.native.tally cimport (
    T_bytes_compared, T_bytes_first, T_copies, T_objects, count,
)
from bench.swarm.native.types cimport Body, Bytes, Etag, Swarm, cbyte


cdef inline void bytes_room(Bytes *bytes, size_t room) noexcept nogil:
    cdef size_t wanted = bytes.room if bytes.room else 256
    if room <= bytes.room:
        return
    while wanted < room:
        wanted *= 2
    bytes.data = <unsigned char *>realloc(bytes.data, wanted)
    EC_ASSERT(bytes.data != NULL)
    bytes.room = wanted


cdef inline void bytes_add(Bytes *bytes, const void *data, size_t size) noexcept nogil:
    bytes_room(bytes, bytes.size + size)
    if size:
        memcpy(bytes.data + bytes.size, data, size)
    bytes.size += size


cdef inline void bytes_free(Bytes *bytes) noexcept nogil:
    free(bytes.data)
    bytes.data = NULL
    bytes.size = 0
    bytes.room = 0


cdef inline bint etag_same(const Etag *a, const Etag *b) noexcept nogil:
    return a.size == b.size and memcmp(a.text, b.text, a.size) == 0


cdef inline void request_render(Swarm *swarm, Bytes *out, cbyte *path, size_t size) noexcept nogil:
    out.size = 0
    bytes_add(out, b"GET ", 4)
    bytes_add(out, path, size)
    bytes_add(out, swarm.fields.data, swarm.fields.size)


cdef inline Body *body_find(Swarm *swarm, cbyte *path, size_t size) noexcept nogil:
    """The object of that path, new if need be; the caller owns the reference."""
    cdef uint64_t hash = key_hash(path, size, swarm.seed)
    cdef Body **bucket = &swarm.buckets[hash & swarm.bucket_mask]
    cdef Body *body = bucket[0]
    while body != NULL:
        if (body.hash == hash and body.path.size == size
                and memcmp(body.path.data, path, size) == 0):
            body.refs += 1
            return body
        body = body.next
    body = <Body *>calloc(1, sizeof(Body))
    EC_ASSERT(body != NULL)
    body.hash = hash
    body.refs = 1
    body.total = -1
    bytes_add(&body.path, path, size)
    request_render(swarm, &body.request, path, size)
    body.next = bucket[0]
    bucket[0] = body
    count(&swarm.tally, T_objects, 1)
    return body


cdef inline void body_release(Swarm *swarm, Body *body) noexcept nogil:
    cdef Body **at
    if body == NULL:
        return
    EC_ASSERT(body.refs > 0)
    body.refs -= 1
    if body.refs:
        return
    at = &swarm.buckets[body.hash & swarm.bucket_mask]
    while at[0] != body:
        at = &at[0].next
    at[0] = body.next
    bytes_free(&body.path)
    bytes_free(&body.request)
    bytes_free(&body.copy)
    free(body)


cdef inline bint body_bytes(
    Swarm *swarm, Body *body, uint64_t offset, cbyte *data, size_t size,
) noexcept nogil:
    """Bytes of somebody's body from `offset` on, in order. False: they differ from the copy."""
    cdef size_t known = 0
    if offset < body.copy.size:
        known = min(size, body.copy.size - offset)
        if memcmp(body.copy.data + offset, data, known) != 0:
            return False
        count(&swarm.tally, T_bytes_compared, known)
    if known < size:
        if body.total >= 0 and body.copy.size + size - known > <size_t>body.total:
            return False
        bytes_add(&body.copy, data + known, size - known)
        count(&swarm.tally, T_bytes_first, size - known)
    return True


cdef inline bint body_whole(Swarm *swarm, Body *body, uint64_t size) noexcept nogil:
    """Somebody's body ended at `size`. False: another one was longer or shorter."""
    if body.total < 0:
        body.total = <int64_t>size
    if <uint64_t>body.total != size or body.copy.size != size:
        return False
    if not body.queued:
        body.queued = True
        count(&swarm.tally, T_copies, 1)
        body.refs += 1
        body.next_unchecked = swarm.unchecked
        swarm.unchecked = body
    return True
