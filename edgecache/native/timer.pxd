"""Timer wheel: one lazy deadline per connection.

A Timer sits in the slot of the earliest time it may fire. Moving a deadline later (what every
request does) writes one word and leaves the links alone: the wheel finds out when the slot comes up
and files the timer again. Only an earlier deadline relinks. Resolution is one tick; deadlines
beyond the horizon go round again.

Law: owned by one worker. Times are monotonic milliseconds. A timer with deadline 0 never fires.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset


cdef enum:
    WHEEL_SLOTS = 1024
    WHEEL_TICK_MS = 64                   # horizon 65 s


cdef struct Timer:
    Timer *prev
    Timer *next
    uint64_t deadline_ms                 # may be moved later at any time
    uint64_t slot_ms                     # what the links were made for; 0: not linked
    void *owner


cdef struct Wheel:
    Timer slots[WHEEL_SLOTS]             # list heads
    uint64_t tick                        # the next tick to run


cdef inline void wheel_init(Wheel *wheel, uint64_t now_ms) noexcept nogil:
    cdef int i
    memset(wheel, 0, sizeof(Wheel))
    for i in range(WHEEL_SLOTS):
        wheel.slots[i].prev = &wheel.slots[i]
        wheel.slots[i].next = &wheel.slots[i]
    wheel.tick = now_ms // WHEEL_TICK_MS + 1


cdef inline void timer_cancel(Timer *timer) noexcept nogil:
    if timer.slot_ms:
        timer.prev.next = timer.next
        timer.next.prev = timer.prev
        timer.slot_ms = 0
    timer.deadline_ms = 0


cdef inline void _timer_link(Wheel *wheel, Timer *timer) noexcept nogil:
    cdef uint64_t tick = timer.deadline_ms // WHEEL_TICK_MS + 1
    cdef Timer *head
    if tick < wheel.tick:
        tick = wheel.tick
    if tick >= wheel.tick + WHEEL_SLOTS:
        tick = wheel.tick + WHEEL_SLOTS - 1
    head = &wheel.slots[tick % WHEEL_SLOTS]
    timer.slot_ms = tick * WHEEL_TICK_MS
    timer.prev = head.prev
    timer.next = head
    head.prev.next = timer
    head.prev = timer


cdef inline void timer_set(Wheel *wheel, Timer *timer, uint64_t deadline_ms) noexcept nogil:
    timer.deadline_ms = deadline_ms
    if timer.slot_ms:
        if timer.slot_ms <= deadline_ms + WHEEL_TICK_MS:
            return
        timer.prev.next = timer.next
        timer.next.prev = timer.prev
    _timer_link(wheel, timer)


cdef inline Timer *wheel_expired(Wheel *wheel, uint64_t now_ms) noexcept nogil:
    """The next timer that is due, unlinked, or NULL when all ticks up to now have run."""
    cdef uint64_t now_tick = now_ms // WHEEL_TICK_MS
    cdef Timer *head
    cdef Timer *timer
    while wheel.tick <= now_tick:
        head = &wheel.slots[wheel.tick % WHEEL_SLOTS]
        while head.next != head:
            timer = head.next
            timer.prev.next = timer.next
            timer.next.prev = timer.prev
            timer.slot_ms = 0
            if timer.deadline_ms == 0:
                continue
            if timer.deadline_ms <= now_ms:
                return timer
            _timer_link(wheel, timer)    # a later deadline is in a later slot, never in this one
        wheel.tick += 1
    return NULL
