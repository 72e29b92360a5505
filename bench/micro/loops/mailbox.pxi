"""mailbox.pxd: both boxes by one thread; no thread waits, so a bell is rung but once."""
from edgecache.native.base cimport bits_clear
from edgecache.native.entry cimport entry_new
from edgecache.native.mailbox cimport (
    MESSAGE_READY, DownBox, Message, UpBox, bell_answer, bell_ring, down_destroy, down_init,
    down_ready, down_take, up_destroy, up_init, up_post, up_take,
)


cdef class Boxes:
    """Both boxes and one entry to speak of. Closed once, by close()."""
    cdef UpBox up
    cdef DownBox down
    cdef Entry *entry
    cdef uint64_t used

    def __cinit__(self):
        if not up_init(&self.up) or not down_init(&self.down):
            raise MemoryError
        self.entry = entry_new(as_slice(b"/k"), 1, slice_of(NULL, 0), &self.used)
        if self.entry == NULL:
            raise MemoryError

    def close(self):
        up_destroy(&self.up)
        down_destroy(&self.down)
        entry_release(self.entry)

    def loop_up(self, int n):
        """MISS posted and taken. How many came through."""
        cdef uint64_t through = 0
        cdef Entry *entry
        with nogil:
            for _ in range(n):
                if not up_post(&self.up, self.entry):
                    break
                entry = up_take(&self.up)
                through += entry == self.entry
                entry_release(entry)
        return through

    def loop_down(self, int n):
        """READY posted and taken, the bell already rung. How many came through."""
        cdef uint64_t through = 0
        cdef Message message
        with nogil:
            for _ in range(n):
                down_ready(&self.down, 0, self.entry)
                if not down_take(&self.down, &message):
                    break
                through += message.kind == MESSAGE_READY
                bits_clear(&message.entry.posted, 1)
                entry_release(message.entry)
        return through

    def loop_coalesced(self, int n):
        """READY while one is under way. Messages in the box after all of them."""
        cdef Message message
        cdef uint64_t waiting
        with nogil:
            for _ in range(n):
                down_ready(&self.down, 0, self.entry)
            waiting = self.down.head - self.down.tail
            while down_take(&self.down, &message):
                bits_clear(&message.entry.posted, 1)
                entry_release(message.entry)
        return waiting

    def loop_bell(self, int n):
        """Rung and answered: two system calls. How often it was silent afterwards."""
        cdef uint64_t silent = 0
        with nogil:
            for _ in range(n):
                bell_ring(&self.down.bell)
                bell_answer(&self.down.bell)
                silent += self.down.bell.rung == 0
        return silent
