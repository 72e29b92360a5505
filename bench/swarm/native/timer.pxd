"""Timers in one binary heap, lazily: a deadline moved later (as every request does) writes a word.

Law: never more timers than the heap was made for, so nothing here allocates after heap_init.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from edgecache.native.base cimport EC_ASSERT
from bench.swarm.native.types cimport NEVER, Heap, Timer


cdef inline bint heap_init(Heap *heap, uint32_t room) noexcept nogil:
    heap.slots = <Timer **>calloc(room + 1, sizeof(Timer *))
    heap.size = 0
    heap.room = room
    return heap.slots != NULL


cdef inline void heap_destroy(Heap *heap) noexcept nogil:
    free(heap.slots)


cdef inline void _put(Heap *heap, uint32_t place, Timer *timer) noexcept nogil:
    heap.slots[place] = timer
    timer.place = place


cdef inline void _up(Heap *heap, uint32_t place) noexcept nogil:
    cdef Timer *timer = heap.slots[place]
    while place > 1 and heap.slots[place // 2].at_us > timer.at_us:
        _put(heap, place, heap.slots[place // 2])
        place = place // 2
    _put(heap, place, timer)


cdef inline void _down(Heap *heap, uint32_t place) noexcept nogil:
    cdef Timer *timer = heap.slots[place]
    cdef uint32_t child = 2 * place
    while child <= heap.size:
        if child < heap.size and heap.slots[child + 1].at_us < heap.slots[child].at_us:
            child += 1
        if heap.slots[child].at_us >= timer.at_us:
            break
        _put(heap, place, heap.slots[child])
        place = child
        child = 2 * place
    _put(heap, place, timer)


cdef inline void timer_set(Heap *heap, Timer *timer, uint64_t due_us) noexcept nogil:
    timer.due_us = due_us
    if timer.place == 0:
        EC_ASSERT(heap.size < heap.room)
        heap.size += 1
        timer.at_us = due_us
        _put(heap, heap.size, timer)
        _up(heap, heap.size)
    elif due_us < timer.at_us:
        timer.at_us = due_us
        _up(heap, timer.place)


cdef inline void timer_off(Timer *timer) noexcept nogil:
    timer.due_us = NEVER


cdef inline Timer *heap_due(Heap *heap, uint64_t now_us) noexcept nogil:
    """The next timer that is due, taken out; NULL: none."""
    cdef Timer *timer
    while heap.size and heap.slots[1].at_us <= now_us:
        timer = heap.slots[1]
        if timer.due_us > now_us:        # was moved later
            timer.at_us = timer.due_us
            _down(heap, 1)
            continue
        timer.place = 0
        heap.size -= 1
        if heap.size:
            _put(heap, 1, heap.slots[heap.size + 1])
            _down(heap, 1)
        if timer.due_us != NEVER:
            timer.due_us = NEVER
            return timer
    return NULL
