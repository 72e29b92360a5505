"""Deposit: which entries another process is to be told of, who keeps them for the one that comes
after us, and the marks by which it knows at any time which of them still stand.

A mark is a byte in memory that both processes map. FREE → KEPT by us, before it is told of the
entry; KEPT → LEFT by us, in the step in which the entry leaves the index, on whatever thread; LEFT
→ FREE by the other, when it has let go. So a process that is killed between any two instructions
leaves the truth behind: what was purged or replaced is never served again.

Law: under the store's lock. What is noted is referenced until it is taken, once however often it
changes. Costs a store that nobody keeps one branch a change, and a hit nothing. Bound: one entry a
mark; without a free one it is not kept. Does not know how things travel. """
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memchr
from edgecache.native.base cimport count_add, load_relaxed_u8, store_release_u8, total_add
from edgecache.native.entry cimport Entry, entry_acquire
from edgecache.native.sys cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap


cdef enum:
    MARK_FREE = 0
    MARK_KEPT = 1
    MARK_LEFT = 2


cdef struct Deposit:
    uint8_t *marks                       # NULL: nobody keeps
    size_t room                          # how many
    size_t hint                          # where a free one may be
    bint wanted                          # changes are noted
    Entry *first                         # of the noted, referenced
    Entry *last
    uint64_t left                        # of those with a mark; any thread under the lock


cdef inline bint deposit_open(Deposit *deposit, int fd, size_t room) noexcept nogil:
    """With the marks in this file. False: it cannot be mapped."""
    cdef void *found = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if found == MAP_FAILED:
        return False
    deposit.marks = <uint8_t *>found
    deposit.room = room
    deposit.wanted = True
    return True


cdef inline void deposit_close(Deposit *deposit) noexcept nogil:
    """After the last entry."""
    if deposit.marks != NULL:
        munmap(deposit.marks, deposit.room)
    deposit.marks = NULL


cdef inline void deposit_note(Deposit *deposit, Entry *entry) noexcept nogil:
    """It changed."""
    if not deposit.wanted or entry.noted or entry.dead:
        return
    entry_acquire(entry)
    entry.noted = True
    entry.next_noted = NULL
    if deposit.last != NULL:
        deposit.last.next_noted = entry
    else:
        deposit.first = entry
    deposit.last = entry


cdef inline Entry *deposit_next(Deposit *deposit) noexcept nogil:
    """What changed first, whose reference is the caller's; NULL: nothing did."""
    cdef Entry *entry = deposit.first
    if entry != NULL:
        deposit.first = entry.next_noted
        if deposit.first == NULL:
            deposit.last = NULL
        entry.noted = False
        entry.next_noted = NULL
    return entry


cdef inline uint8_t *deposit_mark(Deposit *deposit) noexcept nogil:
    """A free one; NULL: there is none."""
    cdef uint8_t *found = <uint8_t *>memchr(deposit.marks + deposit.hint, MARK_FREE,
                                            deposit.room - deposit.hint)
    if found == NULL:
        found = <uint8_t *>memchr(deposit.marks, MARK_FREE, deposit.hint)
    if found != NULL:
        deposit.hint = <size_t>(found - deposit.marks) + 1
    return found


cdef inline int64_t deposit_keep(Deposit *deposit, Entry *entry, int64_t slot,
                                 uint64_t copied) noexcept nogil:
    """See store_keep. What is copied counts for as long as the entry lives."""
    cdef uint8_t *mark = entry.mark
    cdef int64_t more = <int64_t>copied - <int64_t>entry.copied
    if entry.dead:
        return -1
    if mark == NULL:
        mark = deposit.marks + slot if slot >= 0 else deposit_mark(deposit)
    if mark == NULL:
        return -1
    entry.mark = mark
    entry.copied = copied
    entry.charged += <uint64_t>more
    total_add(entry.used, more)
    store_release_u8(mark, MARK_KEPT)
    return mark - deposit.marks


cdef inline void deposit_leaves(Deposit *deposit, Entry *entry) noexcept nogil:
    """It is not in the index any more."""
    if entry.mark != NULL:
        store_release_u8(entry.mark, MARK_LEFT)
        count_add(&deposit.left, 1)


cdef inline uint64_t deposit_kept(Deposit *deposit) noexcept nogil:
    """How many stand, as the other sees it."""
    cdef uint64_t found = 0
    cdef size_t i
    for i in range(deposit.room if deposit.marks != NULL else 0):
        found += load_relaxed_u8(&deposit.marks[i]) == MARK_KEPT
    return found
