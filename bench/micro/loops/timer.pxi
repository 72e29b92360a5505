"""timer.pxd: a wheel with many connections on it."""
from edgecache.native.timer cimport (
    WHEEL_TICK_MS, Timer, Wheel, timer_set, wheel_expired, wheel_init,
)


cdef class WheelOf:
    """`count` timers, all set `after_ms` from now and 1 ms apart."""
    cdef Wheel *wheel
    cdef Timer *timers
    cdef int count
    cdef uint64_t now_ms
    cdef uint64_t after_ms

    def __cinit__(self, int count, uint64_t after_ms):
        self.wheel = <Wheel *>calloc(1, sizeof(Wheel))
        self.timers = <Timer *>calloc(count, sizeof(Timer))
        if self.wheel == NULL or self.timers == NULL:
            raise MemoryError
        self.count = count
        self.now_ms = 1 << 20
        self.after_ms = after_ms
        wheel_init(self.wheel, self.now_ms)
        self._set_all()

    def __dealloc__(self):
        free(self.wheel)
        free(self.timers)

    cdef void _set_all(self) noexcept nogil:
        cdef int i
        for i in range(self.count):
            timer_set(self.wheel, &self.timers[i], self.now_ms + self.after_ms + i % 1000)

    def loop_later(self, int n):
        """A deadline moved later: what every request does. Links made anew in all."""
        cdef uint64_t relinked = 0
        cdef uint64_t slot_ms
        cdef Timer *timer
        cdef int i
        with nogil:
            for i in range(n):
                timer = &self.timers[i % self.count]
                slot_ms = timer.slot_ms
                timer_set(self.wheel, timer, timer.deadline_ms + 1)
                keep(timer)
                relinked += timer.slot_ms != slot_ms
        return relinked

    def loop_earlier(self, int n):
        """A deadline moved earlier by two ticks, which relinks. Links made anew in all."""
        cdef uint64_t relinked = 0
        cdef uint64_t slot_ms
        cdef Timer *timer
        cdef int i
        with nogil:
            for i in range(n):
                timer = &self.timers[i % self.count]
                slot_ms = timer.slot_ms
                timer_set(self.wheel, timer, timer.slot_ms - 3 * WHEEL_TICK_MS)
                keep(timer)
                relinked += timer.slot_ms != slot_ms
        return relinked

    def loop_expire(self, int rounds):
        """Time passes until all have fired, then they are set again. Timers fired in all."""
        cdef uint64_t fired = 0
        with nogil:
            for _ in range(rounds):
                self.now_ms += self.after_ms + 1000 + 2 * WHEEL_TICK_MS
                while wheel_expired(self.wheel, self.now_ms) != NULL:
                    fired += 1
                self._set_all()
        return fired

    def loop_idle(self, int n):
        """Nothing is due at the same millisecond: what a worker asks each turn. Timers fired."""
        cdef uint64_t fired = 0
        with nogil:
            for _ in range(n):
                keep(self.wheel)
                fired += wheel_expired(self.wheel, self.now_ms) != NULL
        return fired
