"""mailbox.pxd and hold.pxd: one worker's context that no thread runs."""
from edgecache.native.base cimport bits_get
from edgecache.native.conn cimport conn_new, conn_pace
from edgecache.native.context cimport (
    CONN_QUEUED, CONN_READABLE, CONN_WRITABLE, Conn, Context, Hold,
)
from edgecache.native.door cimport Door, door_destroy, door_init
from edgecache.native.hold cimport (
    hold_drop, hold_find, hold_interest, hold_new, hold_of, hold_refresh, hold_sweep, hold_unuse,
    hold_use,
)
from edgecache.native.hosts cimport Hosts
from edgecache.native.http1 cimport http1_turn
from edgecache.native.keep cimport Keep
from edgecache.native.mailbox cimport (
    DOWN_SLOTS as _DOWN, MESSAGE_DRAIN, MESSAGE_READY, MESSAGE_STOP, UP_SLOTS as _UP, WORKERS_MAX,
    Bell, Post, bell_answer, bell_init, bell_ring, down_post, down_ready, up_post, up_take,
)
from edgecache.native.resolve cimport resolve_miss
from edgecache.native.stats cimport C_accepted, C_bytes_out, C_misses
from edgecache.native.timer cimport wheel_init
from edgecache.native.worker cimport (
    _accept, _expired_slice, _mail, _ready_slice, _shut, _socket_event, worker_free, worker_new,
)

DOWN_SLOTS, UP_SLOTS = _DOWN, _UP


cdef class Worker:
    """A worker as the control plane made it, before its thread starts. `hold` numbers are keys."""
    cdef StoreOf store
    cdef Context *ctx
    cdef Bell bell
    cdef Limits limits
    cdef Keep keep
    cdef Hosts hosts
    cdef Door door
    cdef Post post

    def __cinit__(self, StoreOf store, int listen_fd, uint32_t max_holds=16384, int index=0):
        self.store = store
        self.limits.max_holds = max_holds
        self.limits.header_bytes = self.limits.target_bytes = 4096
        self.limits.header_fields = 64
        bell_init(&self.bell)
        self.ctx = worker_new(&store.store, &self.limits, &self.bell, &self.post, as_slice(b"pop"),
                              index, listen_fd, False)
        if self.ctx == NULL:
            raise MemoryError
        self.ctx.keep = &self.keep
        self.ctx.hosts = &self.hosts
        self.ctx.door = &self.door
        self.limits.max_connections = 1000
        wheel_init(&self.ctx.wheel, 0)
        if not door_init(&self.door):
            raise MemoryError

    def close(self):
        if self.ctx != NULL:
            _shut(self.ctx)
            worker_free(self.ctx)
            door_destroy(&self.door)
            close(self.bell.fd)
            self.ctx = NULL

    # -- holds

    def hold(self, EntryRef ref):
        """A hold on it, whose reference is one more."""
        entry_acquire(ref.entry)
        return hold_new(self.ctx, ref.entry) != NULL

    def holds(self):
        """Keys held, newest first."""
        found = []
        cdef Hold *hold = self.ctx.holds
        while hold != NULL:
            found.append(hold.entry.key[:hold.entry.key_len])
            hold = hold.next
        return found

    def found(self, bytes key):
        """Is there a hold on what is in the index under this key?"""
        cdef Slice name = as_slice(key)
        return hold_find(self.ctx, store_hash(&self.store.store, name), name) != NULL

    def use(self, EntryRef ref, bint fetched=False):
        hold_use(hold_of(self.ctx, ref.entry), fetched)

    def unuse(self, EntryRef ref):
        hold_unuse(self.ctx, hold_of(self.ctx, ref.entry))

    def interest(self, EntryRef ref):
        hold_interest(self.ctx, hold_of(self.ctx, ref.entry))

    def refresh(self, EntryRef ref):
        """(msn, parts) of the version that the hold has now."""
        cdef Hold *hold = hold_of(self.ctx, ref.entry)
        hold_refresh(self.ctx, hold)
        return hold.version.msn, hold.version.parts

    def sweep(self, bint all_idle=False):
        hold_sweep(self.ctx, all_idle)

    def bits(self, EntryRef ref):
        """(interest, posted, visited) of the entry."""
        return bits_get(&ref.entry.interest), bits_get(&ref.entry.posted), ref.entry.visited

    # -- mailboxes

    def ready(self, EntryRef ref):
        down_ready(&self.ctx.down, self.ctx.index, ref.entry)

    def order(self, bint stop):
        down_post(&self.ctx.down, MESSAGE_STOP if stop else MESSAGE_DRAIN, NULL)

    def mail(self):
        """What the worker does with its box. (draining, stopping)."""
        _mail(self.ctx)
        return bool(self.ctx.draining), bool(self.ctx.stopping)

    @property
    def waiting(self):
        return self.ctx.down.head - self.ctx.down.tail

    def ask(self, EntryRef ref):
        return bool(up_post(&self.ctx.up, ref.entry))

    def asked(self):
        cdef Entry *entry = up_take(&self.ctx.up)
        return a_ref(self.store, entry) if entry != NULL else None

    def meet(self, Worker other):
        """From now on each tells the other when an entry that it knows changed."""
        for worker in (self, other):
            (<Worker>worker).post.boxes[self.ctx.index] = &self.ctx.down
            (<Worker>worker).post.boxes[other.ctx.index] = &other.ctx.down

    def miss(self, EntryRef ref):
        """What a worker does for an entry that it created."""
        resolve_miss(self.ctx, ref.entry, C_misses)

    # -- deadlines

    def accept(self, int fd):
        """A connection that has sent nothing, with a deadline in the first tick of the wheel."""
        self.limits.first_byte_ms = 1
        return conn_new(self.ctx, fd) != NULL

    def pace(self, uint64_t rate):
        """The newest connection, as before its first large body."""
        self.limits.pacing_bytes_s = rate
        conn_pace(self.ctx, self.ctx.conns)

    def expire(self, uint64_t now_ms, *, spent=False):
        """One turn's share of deadlines at a later time: (connections left, behind)."""
        cdef bint behind
        self.ctx.now_ms = now_ms
        self.ctx.pass_until_us = 0 if spent else UINT64_MAX
        behind = _expired_slice(self.ctx)
        return self.ctx.conn_pool.used, bool(behind)

    def serve(self, *, spent):
        """A turn of the newest connection in a pass that has time, or has none left: (bytes out so
        far, does it wait for the next one)."""
        cdef Conn *conn = self.ctx.conns
        conn.flags |= CONN_READABLE | CONN_WRITABLE
        conn.flags &= ~<uint32_t>CONN_QUEUED
        self.ctx.ready_first = self.ctx.ready_last = NULL
        self.ctx.pass_until_us = 0 if spent else UINT64_MAX
        http1_turn(self.ctx, conn)
        return self.ctx.stats.c[C_bytes_out], bool(conn.flags & CONN_QUEUED)

    def arrive(self, *, spent):
        """The listener was named: how many have been accepted so far."""
        self.ctx.pass_until_us = 0 if spent else UINT64_MAX
        _accept(self.ctx)
        return self.ctx.stats.c[C_accepted]

    def named(self, uint32_t events, *, spent):
        """epoll named the newest connection: (connections left, does it wait for the second pass,
        bytes out so far)."""
        cdef Conn *conn = self.ctx.conns
        self.ctx.pass_until_us = 0 if spent else UINT64_MAX
        _socket_event(self.ctx, conn, events)
        return (self.ctx.conn_pool.used, self.ctx.ready_first != NULL,
                self.ctx.stats.c[C_bytes_out])

    def second(self, *, spent):
        """The second pass: (connections left, does any wait for the next turn, bytes out)."""
        self.ctx.pass_until_us = 0 if spent else UINT64_MAX
        _ready_slice(self.ctx)
        return (self.ctx.conn_pool.used, self.ctx.ready_first != NULL,
                self.ctx.stats.c[C_bytes_out])

    # -- bell

    def ring(self):
        bell_ring(&self.bell)

    def answer(self):
        bell_answer(&self.bell)

    @property
    def bell_fd(self):
        return self.bell.fd
