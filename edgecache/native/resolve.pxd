"""Resolve: which entry answers a request, and who has it filled.

A playlist stands under its path: as a live value whose versions decide what a request with delivery
directives gets, or as plain bytes. Only when it turns out to have no versions does such a request
go by its full name (path and directives), with a fill of its own. So a crowd that asks for as many
different versions of a playlist that nobody knows yet is one fill.

Law: who created an entry posts MISS for it, once; if control's box is full the entry fails, for
everybody who waits, on every worker. """
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcpy
from edgecache.native.context cimport Context, Exchange, Hold
from edgecache.native.entry cimport (
    ENTRY_COMPLETE, ENTRY_FAILED, ENTRY_FILLING, ENTRY_LIVE, Entry, entry_acquire, entry_fresh,
    entry_loop, entry_release, entry_state,
)
from edgecache.native.hold cimport hold_find, hold_new, hold_servable, hold_unuse, hold_use
from edgecache.native.log cimport CACHE_COLLAPSED, CACHE_HIT, CACHE_MISS, CACHE_STALE
from edgecache.native.mailbox cimport bell_ring, post_tell, up_post
from edgecache.native.stats cimport C_collapsed, C_misses, C_refreshes, C_shed, stat_add
from edgecache.native.store cimport entry_fail, store_ask, store_hash
from edgecache.native.target cimport Target, write_directives
from edgecache.native.types cimport Slice, slice_of


cdef inline void resolve_miss(Context *ctx, Entry *entry, int counter) noexcept nogil:
    """MISS to the control plane."""
    if up_post(&ctx.up, entry):
        bell_ring(ctx.control)
        stat_add(&ctx.stats, counter, 1)
        return
    _give_up(ctx, entry)
    stat_add(&ctx.stats, C_shed, 1)


cdef inline void _give_up(Context *ctx, Entry *entry) noexcept nogil:
    """503 for everybody who waits for it by now, on every worker."""
    entry_fail(ctx.store, entry, 503, 0)
    post_tell(ctx.post, entry)


cdef inline Hold *_lookup(Context *ctx, Slice key, Slice loop, bint *created) noexcept nogil:
    """A hold on what stands under `key`, reserved if nothing does; NULL: no memory."""
    cdef uint64_t hash = store_hash(ctx.store, key)
    cdef Hold *hold = hold_find(ctx, hash, key)
    cdef Entry *entry
    cdef Entry *refresh = NULL
    created[0] = False
    if hold != NULL and hold_servable(ctx, hold):
        return hold
    entry = store_ask(ctx.store, hash, key, loop, ctx.now_ms, True, created, &refresh)
    if refresh != NULL:
        resolve_miss(ctx, refresh, C_refreshes)
        entry_release(refresh)
    if entry == NULL:
        return NULL
    if hold != NULL and hold.entry == entry:
        entry_release(entry)
        return hold
    if not created[0]:
        return hold_new(ctx, entry)
    entry_acquire(entry)
    hold = hold_new(ctx, entry)
    if hold == NULL:                     # it would stay reserved for ever: nobody posts its MISS
        _give_up(ctx, entry)
    entry_release(entry)
    return hold


cdef inline bint _take(Context *ctx, Exchange *x, Slice key, Slice loop) noexcept nogil:
    """The exchange is for what stands under `key`; `loop`: the caches it came through. False: no
    memory."""
    cdef bint created = False
    cdef Hold *hold = _lookup(ctx, key, loop, &created)
    cdef int state
    if hold == NULL:
        return False
    hold_use(hold, created)
    x.hold = hold
    state = entry_state(hold.entry)
    if created:
        x.cache = CACHE_MISS
        resolve_miss(ctx, hold.entry, C_misses)
    elif state == ENTRY_COMPLETE:
        x.cache = CACHE_HIT if entry_fresh(hold.entry, ctx.now_ms) else CACHE_STALE
    elif state == ENTRY_LIVE or state == ENTRY_FAILED or (state == ENTRY_FILLING
                                                          and hold.entry.pushed):
        x.cache = CACHE_HIT              # what is pushed is here, as far as anywhere
    else:
        x.cache = CACHE_COLLAPSED
        stat_add(&ctx.stats, C_collapsed, 1)
    return True


cdef inline bint resolve_target(Context *ctx, Exchange *x, Target *target,
                                Slice loop) noexcept nogil:
    x.by_path = target.full.len != target.path.len
    return _take(ctx, x, target.path, loop)


cdef inline bint resolve_again(Context *ctx, Exchange *x) noexcept nogil:
    """The playlist was purged while the exchange waited: on to what stands under its name now, or
    will once it is filled; the deadline stays. False: no memory."""
    cdef Hold *before = x.hold
    cdef size_t n = before.entry.key_len
    memcpy(ctx.key, before.entry.key, n)
    if not _take(ctx, x, slice_of(ctx.key, n), entry_loop(before.entry)):
        return False
    hold_unuse(ctx, before)
    return True


cdef inline bint resolve_full(Context *ctx, Exchange *x) noexcept nogil:
    """The playlist has no versions: on to what stands under the full name. False: no memory."""
    cdef Hold *before = x.hold
    cdef size_t n = before.entry.key_len
    memcpy(ctx.key, before.entry.key, n)
    n += write_directives(&x.want, <char *>ctx.key + n,
                          memchr(before.entry.key, 63, n) != NULL)
    x.by_path = False
    if not _take(ctx, x, slice_of(ctx.key, n), entry_loop(before.entry)):
        return False
    hold_unuse(ctx, before)
    return True
