"""Entry: what the index holds under one key. An *object* is a view of a blob with a prebuilt head;
a *live value* holds the newest version of a playlist.

Life of an object (each state says what a reader may touch):
  RESERVED   somebody asked; nothing is known. Readers park.
  FILLING    head is final, blob is readable up to `filled`. Readers stream.
  COMPLETE   head and the whole body are there; nothing changes any more.
  FAILED     the fill ended without a body; `status` says how waiters are answered.
A live value is LIVE from the first publish on. `dead` is apart from the state: an entry that left
the index is dead, and readers finish on it.

Law: fields above the line are written by the control plane before the state is released, and never
after; those below are shared.
A COMPLETE object past its time may be served on until `drop_ms` (grace) while another entry of the
same name, not in the index yet, is filled to take its place: that one points to it with `stale`.
So does one that was asked for behind the grace: what it replaced has left, but may be found good.
References: the index holds one, each Fill one, each worker's hold one, each message one, each view
one on its parent, each replacement one on what it replaces. """
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset
from edgecache.native.base cimport (
    EC_CHECK, EC_LIVE_ENTRY, live_add, load_acquire_ptr, load_acquire_u32, load_acquire_u64,
    ref_acquire, ref_release, store_release_u32, total_add,
)
from edgecache.native.blob cimport Blob, blob_filled, blob_release
from edgecache.native.head cimport Head, head_free
from edgecache.native.live cimport LiveVersion, version_release
from edgecache.native.types cimport Slice, cbyte, slice_of


cdef enum:
    ENTRY_MAGIC = 0x656E7472
    LENGTH_UNKNOWN = -1


cdef enum EntryState:
    ENTRY_RESERVED
    ENTRY_FILLING
    ENTRY_COMPLETE
    ENTRY_FAILED
    ENTRY_LIVE


cdef struct Entry:
    uint32_t magic
    uint32_t refs
    uint64_t hash
    uint32_t key_len
    uint32_t loop_len                    # of the caches that the request for it came through
    int status                           # of the answer
    int failed_status                    # of the answer to who has no bytes yet, once FAILED
    Blob *blob                           # NULL while RESERVED, FAILED, LIVE
    uint64_t offset                      # of the body in the blob
    # of the body; LENGTH_UNKNOWN while FILLING without a Content-Length
    int64_t length
    # monotonic: when the head (FILLING) or the body (COMPLETE) came
    uint64_t stored_us
    uint64_t expires_ms                  # monotonic: fresh until; released with the state
    # monotonic: may be served stale until (grace), then leaves the index
    uint64_t drop_ms
    # it stays this much longer, to be validated or to stand in for an origin that fails
    uint64_t spare_ms
    bint own_tag                         # its validator is ours, not the origin's
    uint64_t charged                     # of the entry itself, in *used
    uint64_t *used
    bint pushed                          # came without being asked for upstream
    # a view (part) holds one reference on the entry (segment) it is a view of
    Entry *parent
    Entry *stale                         # what this one replaces once it is complete; referenced
    # ---- shared
    uint32_t state                       # EntryState, acquire/release
    uint32_t dead                        # left the index
    uint32_t visited                     # asked for again: set by workers when clear
    uint32_t waiters                     # exchanges parked on or streaming from it, all workers
    uint32_t taken                       # whole bodies begun, as far as workers have told
    uint64_t interest                    # bit per worker that wants READY messages
    uint64_t posted                      # bit per worker with a READY message under way
    # past its time: not to be asked for again until; UINT64_MAX: its replacement is on its way
    uint64_t refresh_ms
    # Head *, acquire/release (replaced once, when the validator becomes known)
    void *head
    Head *first_head                     # the replaced one: answers in flight still send from it
    LiveVersion *version                 # newest; store lock
    # bumped with every publish; workers compare it with their copy's
    uint64_t version_seq
    # ---- index; store lock
    Entry *chain                         # next in the bucket
    Entry *older                         # in its queue (objects only, not views)
    Entry *newer
    uint32_t kept                        # which queue, see evict.pxd
    Entry *views                         # first view of this entry
    Entry *next_view
    # ---- kept for the next process; store lock (deposit.pxd)
    uint8_t *mark                        # of what keeps it; NULL: nothing does
    bint noted                           # it is among those to be told
    Entry *next_noted
    uint64_t copied                      # bytes of it held there, within `charged`
    unsigned char key[8]                 # key_len bytes, then loop_len; the block is long enough


cdef inline Entry *entry_new(Slice key, uint64_t hash, Slice loop, uint64_t *used) noexcept nogil:
    """RESERVED; the caller owns one reference. `loop`: see loop.pxd. NULL: no memory."""
    cdef Entry *entry = <Entry *>malloc(sizeof(Entry) + key.len + loop.len)
    if entry == NULL:
        return NULL
    memset(entry, 0, sizeof(Entry))
    entry.magic = ENTRY_MAGIC
    entry.refs = 1
    entry.hash = hash
    entry.key_len = <uint32_t>key.len
    entry.loop_len = <uint32_t>loop.len
    entry.length = LENGTH_UNKNOWN
    entry.used = used
    entry.charged = sizeof(Entry) + key.len + 768        # the head, roughly
    memcpy(entry.key, key.data, key.len)
    if loop.len:
        memcpy(<unsigned char *>entry.key + key.len, loop.data, loop.len)
    total_add(used, <int64_t>entry.charged)
    live_add(EC_LIVE_ENTRY, 1)
    return entry


cdef inline void entry_acquire(Entry *entry) noexcept nogil:
    EC_CHECK(entry, ENTRY_MAGIC)
    ref_acquire(&entry.refs)


cdef inline void entry_release(Entry *entry) noexcept nogil:
    cdef Entry *parent
    while entry != NULL:                 # a view's parent, or what was to be replaced, may go too
        EC_CHECK(entry, ENTRY_MAGIC)
        if not ref_release(&entry.refs):
            return
        parent = entry.parent if entry.parent != NULL else entry.stale   # never both
        blob_release(entry.blob)
        head_free(<Head *>entry.head)
        head_free(entry.first_head)
        version_release(entry.version)
        total_add(entry.used, -<int64_t>entry.charged)
        entry.magic = 0
        free(entry)
        live_add(EC_LIVE_ENTRY, -1)
        entry = parent


cdef inline EntryState entry_state(Entry *entry) noexcept nogil:
    return <EntryState>load_acquire_u32(&entry.state)


cdef inline Slice entry_loop(Entry *entry) noexcept nogil:
    return slice_of(<cbyte *>entry.key + entry.key_len, entry.loop_len)


cdef inline bint entry_is(Entry *entry, uint64_t hash, Slice key) noexcept nogil:
    return entry.hash == hash and entry.key_len == key.len and memcmp(entry.key, key.data,
                                                                      key.len) == 0


cdef inline bint entry_dead(Entry *entry) noexcept nogil:
    return load_acquire_u32(&entry.dead) != 0


cdef inline Head *entry_head(Entry *entry) noexcept nogil:
    return <Head *>load_acquire_ptr(&entry.head)


cdef inline uint64_t entry_filled(Entry *entry) noexcept nogil:
    """Readable body bytes now."""
    if entry.blob == NULL:
        return 0
    if entry_state(entry) == ENTRY_COMPLETE:
        return <uint64_t>entry.length
    return blob_filled(entry.blob) - entry.offset


cdef inline void entry_become(Entry *entry, EntryState state) noexcept nogil:
    store_release_u32(&entry.state, state)


cdef inline bint entry_fresh(Entry *entry, uint64_t now_ms) noexcept nogil:
    return load_acquire_u64(&entry.expires_ms) > now_ms


cdef inline bint entry_usable(Entry *entry, uint64_t now_ms) noexcept nogil:
    """COMPLETE: fresh, or stale within its grace and nobody has to ask for it now."""
    return (entry_fresh(entry, now_ms)
            or (entry.drop_ms > now_ms and load_acquire_u64(&entry.refresh_ms) > now_ms))
