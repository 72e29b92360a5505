"""Mailboxes between the planes: the only crossing.

Up (worker → control): a ring of entries that somebody asked for and nobody fills (MISS). One
producer, one consumer, no lock. Full: the entry fails with 503 for everybody who waits (shed).
Down (control → worker, or a worker that failed an entry): a ring of messages. READY (an entry
changed), SHED, HAND, DRAIN, STOP. Producers take a
mutex for a few instructions. READY is coalesced by the entry's `posted` bits, so the ring holds at
most one per entry; should it be full all the same, `overflow` makes the worker look at everything
it holds.
Each message carries a reference on its entry. Both sides are woken by an eventfd, written only when
the sleeper may be asleep. """
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from edgecache.native.base cimport (
    EC_ASSERT, bits_get, bits_set, fence_full, flag_swap, load_acquire_u64, load_relaxed_u64,
    lowest_bit, store_release_u64,
)
from edgecache.native.entry cimport Entry, entry_acquire, entry_release
from edgecache.native.sys cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, close, eventfd, pthread_mutex_destroy, pthread_mutex_init,
    pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock, read, write,
)


cdef enum:
    WORKERS_MAX = 64                     # one bit each in entry.interest
    UP_SLOTS = 16384
    DOWN_SLOTS = 16384


cdef enum MessageKind:
    MESSAGE_READY = 1
    MESSAGE_SHED
    MESSAGE_HAND
    MESSAGE_DRAIN
    MESSAGE_STOP


cdef struct Message:
    MessageKind kind
    Entry *entry                         # READY: referenced


cdef struct Bell:                        # an eventfd that is rung once until it is answered
    int fd
    uint32_t rung


cdef struct UpBox:
    Entry **slots
    uint64_t head                        # next to write; worker
    uint64_t tail                        # next to read; control


cdef struct DownBox:
    pthread_mutex_t lock
    Message *slots
    uint64_t head
    uint64_t tail
    bint overflow
    Bell bell


cdef struct Post:                        # how everybody who waits is told; NULL: no such worker
    DownBox *boxes[WORKERS_MAX]


cdef inline bint bell_init(Bell *bell) noexcept nogil:
    bell.rung = 0
    bell.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    return bell.fd >= 0


cdef inline void bell_ring(Bell *bell) noexcept nogil:
    cdef uint64_t one = 1
    if not flag_swap(&bell.rung, 1):
        EC_ASSERT(write(bell.fd, &one, sizeof(one)) == sizeof(one))


cdef inline void bell_answer(Bell *bell) noexcept nogil:
    """Before reading the box: what comes later rings again."""
    cdef uint64_t count
    cdef bint rang = read(bell.fd, &count, sizeof(count)) == sizeof(count)
    if rang:
        flag_swap(&bell.rung, 0)


cdef inline bint up_init(UpBox *box) noexcept nogil:
    box.slots = <Entry **>calloc(UP_SLOTS, sizeof(Entry *))
    box.head = 0
    box.tail = 0
    return box.slots != NULL


cdef inline bint up_post(UpBox *box, Entry *entry) noexcept nogil:
    """Takes a reference of its own. False: full."""
    cdef uint64_t head = load_relaxed_u64(&box.head)
    if head - load_acquire_u64(&box.tail) >= UP_SLOTS:
        return False
    entry_acquire(entry)
    box.slots[head % UP_SLOTS] = entry
    store_release_u64(&box.head, head + 1)
    return True


cdef inline Entry *up_take(UpBox *box) noexcept nogil:
    """The caller owns the reference. NULL: empty."""
    cdef uint64_t tail = load_relaxed_u64(&box.tail)
    cdef Entry *entry
    if tail == load_acquire_u64(&box.head):
        return NULL
    entry = box.slots[tail % UP_SLOTS]
    store_release_u64(&box.tail, tail + 1)
    return entry


cdef inline void up_destroy(UpBox *box) noexcept nogil:
    cdef Entry *entry = up_take(box)
    while entry != NULL:
        entry_release(entry)
        entry = up_take(box)
    free(box.slots)


cdef inline bint down_init(DownBox *box) noexcept nogil:
    box.slots = <Message *>calloc(DOWN_SLOTS, sizeof(Message))
    box.head = 0
    box.tail = 0
    box.overflow = False
    pthread_mutex_init(&box.lock, NULL)
    return box.slots != NULL and bell_init(&box.bell)


cdef inline void down_post(DownBox *box, MessageKind kind, Entry *entry) noexcept nogil:
    """The other kinds find room by taking the place of the newest READY, which overflow covers."""
    cdef Entry *dropped = NULL
    cdef uint64_t at
    if entry != NULL:
        entry_acquire(entry)
    pthread_mutex_lock(&box.lock)
    if box.head - box.tail >= DOWN_SLOTS:
        box.overflow = True
        if kind == MESSAGE_READY:
            dropped = entry
        else:
            at = (box.head - 1) % DOWN_SLOTS
            dropped = box.slots[at].entry
            box.slots[at].kind = kind
            box.slots[at].entry = entry
    else:
        at = box.head % DOWN_SLOTS
        box.slots[at].kind = kind
        box.slots[at].entry = entry
        box.head += 1
    pthread_mutex_unlock(&box.lock)
    entry_release(dropped)
    bell_ring(&box.bell)


cdef inline void down_ready(DownBox *box, int worker, Entry *entry) noexcept nogil:
    """Tell a worker that the entry changed, unless a message that says so is under way."""
    if not bits_set(&entry.posted, <uint64_t>1 << worker) & (<uint64_t>1 << worker):
        down_post(box, MESSAGE_READY, entry)


cdef inline void post_tell(Post *post, Entry *entry) noexcept nogil:
    """The entry changed: READY to every worker that is interested. The fence pairs with
    hold_interest: a worker sets its bit, then reads the state."""
    cdef uint64_t bits
    cdef int worker
    fence_full()
    bits = bits_get(&entry.interest)
    while bits:
        worker = lowest_bit(bits)
        bits &= bits - 1
        if post.boxes[worker] != NULL:
            down_ready(post.boxes[worker], worker, entry)


cdef inline bint down_take(DownBox *box, Message *out) noexcept nogil:
    cdef bint some
    pthread_mutex_lock(&box.lock)
    some = box.head != box.tail
    if some:
        out[0] = box.slots[box.tail % DOWN_SLOTS]
        box.tail += 1
    pthread_mutex_unlock(&box.lock)
    return some


cdef inline bint down_overflowed(DownBox *box) noexcept nogil:
    cdef bint overflow
    pthread_mutex_lock(&box.lock)
    overflow = box.overflow
    box.overflow = False
    pthread_mutex_unlock(&box.lock)
    return overflow


cdef inline void down_destroy(DownBox *box) noexcept nogil:
    cdef Message message
    while down_take(box, &message):
        entry_release(message.entry)
    free(box.slots)
    close(box.bell.fd)
    pthread_mutex_destroy(&box.lock)
