"""Worker: one thread, one listener, one epoll loop.

A turn: wait; handle the sockets that epoll named, of viewers served before; then, never nested in
each other: the mailbox, a slice of the wake queue, connections that are new, leave or have more to
do, accepting, a slice of the deadlines that passed (turn.pxd: how long each may take). Waking
ten thousand parked exchanges is one pass over a list, cut into slices of WAKE_SLICE between which
sockets are served, so that hits keep their latency meanwhile; so is answering ten thousand whose
deadline passes in the same tick, because the stream they wait for has stopped.

Law: the thread holds no GIL and takes none; only worker_free touches a Context from another thread,
after the join. """
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from edgecache.native.address cimport Address, Peer, address_of
from edgecache.native.base cimport (
    bits_clear, clock_us, load_acquire_u32, store_relaxed_u64, store_release_u32,
)
from edgecache.native.conn cimport conn_adopt, conn_idle, conn_queue, conn_turn_away, conn_welcome
from edgecache.native.context cimport (
    CONGESTION_BYTES, CONN_CLOSE, CONN_PEER_DONE, CONN_PREFACE, CONN_QUEUED, CONN_READABLE,
    CONN_WRITABLE, CONTEXT_MAGIC, HOLD_BUCKETS, KEY_BYTES, NAME_BYTES, RX_BYTES, Conn,
    Context, Exchange, Hold, Output,
)
from edgecache.native.door cimport ADMIT_FULL, ADMIT_TRUSTED, Admission
from edgecache.native.entry cimport Entry, entry_release
from edgecache.native.exchange cimport exchange_woken
from edgecache.native.guest cimport Guest, guest_box_destroy, guest_box_init, guest_take
from edgecache.native.hold cimport hold_of, hold_rotate, hold_sweep, hold_wake
from edgecache.native.http1 cimport (
    http1_close, http1_expired, http1_hand, http1_release, http1_settle, http1_turn,
)
from edgecache.native.log cimport log_destroy, log_init
from edgecache.native.mailbox cimport (
    MESSAGE_DRAIN, MESSAGE_HAND, MESSAGE_READY, MESSAGE_SHED, MESSAGE_STOP, Bell, Message, Post,
    bell_answer, bell_ring, down_destroy, down_init, down_overflowed, down_take, up_destroy,
    up_init,
)
from edgecache.native.pool cimport pool_destroy, pool_init
from edgecache.native.send cimport Progress
from edgecache.native.stats cimport (
    C_accept_paused, C_closed_idle, C_holds_now, C_loops, stat_add, stat_get,
)
from edgecache.native.store cimport Store, store_expire
from edgecache.native.sys cimport (
    AF_INET, EAGAIN, ECONNABORTED, EFD_CLOEXEC, EINTR, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL,
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, IPPROTO_TCP, SOCK_CLOEXEC, SOCK_NONBLOCK,
    SOCK_STREAM, TCP_CONGESTION, TCP_NODELAY, TCP_NOTSENT_LOWAT, accept4, block_all_signals, close,
    epoll_create1, epoll_ctl, epoll_event, epoll_get_ptr, epoll_set_ptr, epoll_wait, errno_get,
    eventfd, getsockopt, setsockopt, socket,
)
from edgecache.native.timer cimport Timer, WHEEL_TICK_MS, wheel_expired, wheel_init
from edgecache.native.turn cimport pass_begin, pass_spent
from edgecache.native.types cimport Limits, Slice, slice_of


cdef enum:
    EVENTS = 256
    ACCEPT_SLICE = 64
    ACCEPT_LEAST = 4                     # of those, however little time a pass has left
    WAKE_SLICE = 32
    READY_SLICE = 16
    EXPIRED_SLICE = 64
    ACCEPT_PAUSE_MS = 100
    SWEEP_MS = 1000
    EXPIRE_STEPS = 4096
    # What a viewer that does not read may have in the kernel, beside what is on its way: of an
    # object of 16 MiB that was 2.7 MB (tcp_wmem lets it be 4). At 128, 256 and 512 KiB the wake-ups
    # in between made 768 KiB a third to a half dearer; at 1 MiB nothing.
    UNSENT_BYTES = 1 << 20


# ---------------------------------------------------------------- accepting

cdef inline void _listen_again(Context *ctx) noexcept nogil:
    cdef epoll_event event
    ctx.accept_again_ms = 0
    if ctx.spare_fd < 0:                 # another thread was quicker to take it
        ctx.spare_fd = eventfd(0, EFD_CLOEXEC)
    # the listener is the event without a connection
    epoll_set_ptr(&event, EPOLLIN, NULL)
    if epoll_ctl(ctx.epoll_fd, EPOLL_CTL_ADD, ctx.listen_fd, &event) < 0:
        ctx.accept_again_ms = ctx.now_ms + ACCEPT_PAUSE_MS           # or it would be deaf for ever


cdef inline void _turn_some_away(Context *ctx) noexcept nogil:
    """Whom there is no descriptor for: with the spare one, in turn, they are told."""
    cdef int _i
    cdef int fd
    for _i in range(ACCEPT_SLICE):
        if ctx.spare_fd < 0:
            return
        close(ctx.spare_fd)
        fd = accept4(ctx.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            conn_turn_away(ctx, fd, ADMIT_FULL)
            close(fd)
        ctx.spare_fd = eventfd(0, EFD_CLOEXEC)
        if fd < 0:
            return


cdef inline void _listen_pause(Context *ctx) noexcept nogil:
    """No descriptors: stop listening for a moment instead of spinning on a readable listener."""
    stat_add(&ctx.stats, C_accept_paused, 1)
    _turn_some_away(ctx)
    epoll_ctl(ctx.epoll_fd, EPOLL_CTL_DEL, ctx.listen_fd, NULL)
    ctx.accept_again_ms = ctx.now_ms + ACCEPT_PAUSE_MS


cdef inline void _arrived(Context *ctx, int fd, Address address) noexcept nogil:
    cdef Admission admission
    cdef Conn *conn = conn_welcome(ctx, fd, address, &admission)
    if conn == NULL:
        conn_turn_away(ctx, fd, admission)
        close(fd)
    elif admission == ADMIT_TRUSTED and ctx.limits.proxy_protocol:
        conn.flags |= CONN_PREFACE


cdef inline void _accept(Context *ctx) noexcept nogil:
    cdef Peer peer
    cdef unsigned int length
    cdef int _i
    cdef int fd
    for _i in range(ACCEPT_SLICE):
        length = sizeof(peer)
        fd = accept4(ctx.listen_fd, <void *>&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno_get() == EINTR or errno_get() == ECONNABORTED:
                continue
            if errno_get() != EAGAIN:
                _listen_pause(ctx)
            return
        _arrived(ctx, fd, address_of(&peer))
        if _i + 1 >= ACCEPT_LEAST and pass_spent(ctx):
            return                       # the listener is level-triggered: it is named again


# ---------------------------------------------------------------- the parts of a turn

cdef inline void _socket_event(Context *ctx, Conn *conn, uint32_t events) noexcept nogil:
    """Who has been served before goes first. Who has not asked for anything yet, and who leaves,
    wait on the ready list: they come by the hundred, and closing is urgent to nobody. What
    http1_turn() tries on a broken connection fails, and that closes it."""
    cdef uint32_t broken = events & (EPOLLERR | EPOLLHUP)
    if broken | (events & EPOLLRDHUP):
        conn.flags |= CONN_PEER_DONE | CONN_READABLE
    if events & EPOLLIN:
        conn.flags |= CONN_READABLE
    if broken | (events & EPOLLOUT):
        conn.flags |= CONN_WRITABLE
    if conn.flags & CONN_PEER_DONE or conn.requests == 0:
        conn_queue(ctx, conn)
    elif not conn.flags & CONN_QUEUED:
        http1_turn(ctx, conn)


cdef inline void _listen_no_more(Context *ctx) noexcept nogil:
    if not ctx.draining and not ctx.handing and not ctx.accept_again_ms:
        epoll_ctl(ctx.epoll_fd, EPOLL_CTL_DEL, ctx.listen_fd, NULL)
    ctx.accept_again_ms = 0


cdef inline void _hand(Context *ctx) noexcept nogil:
    """Said again for as long as there are connections: their box may have been full."""
    cdef Conn *conn = ctx.conns
    cdef Conn *after
    _listen_no_more(ctx)
    ctx.handing = True
    while conn != NULL:
        after = conn.next
        http1_hand(ctx, conn)
        conn = after
    bell_ring(ctx.control)


cdef inline void _drain(Context *ctx) noexcept nogil:
    cdef Conn *conn = ctx.conns
    cdef Conn *after
    _listen_no_more(ctx)
    ctx.draining = True
    ctx.handing = False
    while conn != NULL:
        after = conn.next
        http1_release(ctx, conn)
        conn = after


cdef inline void _close_idle(Context *ctx) noexcept nogil:
    cdef Conn *conn = ctx.conns
    cdef Conn *after
    while conn != NULL:
        after = conn.next
        if conn_idle(conn):
            http1_close(ctx, conn, C_closed_idle)
        conn = after


cdef inline void _wake_everything(Context *ctx) noexcept nogil:
    cdef Hold *hold = ctx.holds
    while hold != NULL:
        bits_clear(&hold.entry.posted, <uint64_t>1 << ctx.index)         # theirs may be lost
        hold_wake(ctx, hold)
        hold = hold.next


cdef inline void _take_back(Context *ctx) noexcept nogil:
    """Connections whose request the control plane has answered."""
    cdef Guest *guest = guest_take(&ctx.coming)
    while guest != NULL:
        if ctx.draining or not conn_adopt(ctx, guest):
            close(guest.fd)
        free(guest)
        guest = guest_take(&ctx.coming)


cdef inline void worker_reroute(Context *ctx) noexcept nogil:
    """Between two requests, before what has come since is read: the other table is free from here
    on."""
    cdef uint32_t which = load_acquire_u32(ctx.routes)
    if which != ctx.kept or ctx.keep == NULL:
        ctx.keep = &ctx.keeps[which]
        store_release_u32(&ctx.kept, which)


cdef inline void _mail(Context *ctx) noexcept nogil:
    cdef Message message
    cdef Hold *hold
    bell_answer(&ctx.down.bell)
    _take_back(ctx)
    if down_overflowed(&ctx.down):
        _wake_everything(ctx)
    while down_take(&ctx.down, &message):
        if message.kind == MESSAGE_READY:
            bits_clear(&message.entry.posted, <uint64_t>1 << ctx.index)
            hold = hold_of(ctx, message.entry)
            if hold != NULL:
                hold_wake(ctx, hold)
            entry_release(message.entry)
        elif message.kind == MESSAGE_DRAIN:
            _drain(ctx)
        elif message.kind == MESSAGE_SHED:
            _close_idle(ctx)
        elif message.kind == MESSAGE_HAND:
            _hand(ctx)
        else:
            ctx.stopping = True


cdef inline void _wake_slice(Context *ctx) noexcept nogil:
    """Look at up to WAKE_SLICE parked exchanges of the first hold of the queue."""
    cdef Hold *hold = ctx.wake_first
    cdef Exchange *x
    cdef Conn *conn
    cdef int _i
    if hold == NULL:
        return
    for _i in range(WAKE_SLICE):
        if hold.wake_left == 0:
            break
        hold.wake_left -= 1
        x = hold.waiters.first
        conn = x.conn
        if http1_settle(ctx, conn, exchange_woken(ctx, x)):
            conn_queue(ctx, conn)        # a pipelined request may wait behind it
    hold_rotate(ctx)


cdef inline void _ready_slice(Context *ctx) noexcept nogil:
    """Those that are on the list now; who rejoins it waits for the next turn of the loop."""
    cdef Conn *last = ctx.ready_last
    cdef Conn *conn
    cdef int _i
    if last == NULL:
        return
    for _i in range(READY_SLICE):
        conn = ctx.ready_first
        if conn == NULL or pass_spent(ctx):
            return
        ctx.ready_first = conn.next_ready
        if ctx.ready_first == NULL:
            ctx.ready_last = NULL
        conn.flags &= ~<uint32_t>CONN_QUEUED
        http1_turn(ctx, conn)
        if conn == last:
            return


cdef inline bint _expired_slice(Context *ctx) noexcept nogil:
    """Deadlines that passed. True: there may be more."""
    cdef Timer *timer
    cdef int _i
    for _i in range(EXPIRED_SLICE):
        timer = wheel_expired(&ctx.wheel, ctx.now_ms)
        if timer == NULL:
            return False
        http1_expired(ctx, <Conn *>timer.owner)
        if pass_spent(ctx):
            break
    return True


cdef inline bint _clock(Context *ctx) noexcept nogil:
    """True: behind; come again without waiting."""
    if ctx.accept_again_ms and ctx.now_ms >= ctx.accept_again_ms:
        _listen_again(ctx)
    if ctx.now_ms >= ctx.sweep_ms:
        ctx.sweep_ms = ctx.now_ms + SWEEP_MS
        hold_sweep(ctx, False)
        store_relaxed_u64(&ctx.stats.c[C_holds_now], ctx.hold_pool.used)
        if ctx.index == 0:
            store_expire(ctx.store, ctx.now_ms, EXPIRE_STEPS)
    return _expired_slice(ctx)


cdef inline void _tell_time(Context *ctx) noexcept nogil:
    ctx.now_us = clock_us()
    ctx.now_ms = ctx.now_us // 1000


# ---------------------------------------------------------------- life

cdef inline void worker_run(Context *ctx) noexcept nogil:
    """Until STOP. Called once, by the thread that owns the worker."""
    cdef epoll_event events[EVENTS]
    cdef void *who
    cdef int n
    cdef int i
    cdef bint mail
    cdef bint knocks
    cdef bint behind = False
    block_all_signals()
    _tell_time(ctx)
    wheel_init(&ctx.wheel, ctx.now_ms)
    _listen_again(ctx)
    while not ctx.stopping:
        n = epoll_wait(ctx.epoll_fd, events, EVENTS, 0 if behind or ctx.wake_first != NULL
                       or ctx.ready_first != NULL else WHEEL_TICK_MS)
        _tell_time(ctx)
        stat_add(&ctx.stats, C_loops, 1)
        pass_begin(ctx, ctx.now_us)
        worker_reroute(ctx)
        mail = knocks = False
        for i in range(n):
            who = epoll_get_ptr(&events[i])
            if who == NULL:
                knocks = True
            elif who == ctx:
                mail = True
            else:
                _socket_event(ctx, <Conn *>who, events[i].events)
        if mail:
            _mail(ctx)
        _wake_slice(ctx)
        pass_begin(ctx, clock_us())
        _ready_slice(ctx)
        if knocks:
            _accept(ctx)
        behind = _clock(ctx)
    _shut(ctx)


cdef inline void _shut(Context *ctx) noexcept nogil:
    cdef Conn *conn
    while ctx.ready_first != NULL:
        conn = ctx.ready_first
        ctx.ready_first = conn.next_ready
        conn.flags &= ~<uint32_t>CONN_QUEUED
    while ctx.conns != NULL:
        http1_close(ctx, ctx.conns, -1)
    while ctx.wake_first != NULL:
        hold_rotate(ctx)
    hold_sweep(ctx, True)


cdef inline void listener_options(int fd) noexcept nogil:
    """Set once on the listener; accepted sockets inherit it, which saves a call a connection."""
    cdef int one = 1
    cdef int unsent = UNSENT_BYTES
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent))


cdef inline void _host_congestion(Context *ctx) noexcept nogil:
    """What conn_pace() goes back to: a fresh socket tells the host's. Empty: nothing to go back to.
    """
    cdef char listeners[CONGESTION_BYTES]
    cdef unsigned int length = CONGESTION_BYTES
    cdef int fresh = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)
    memset(listeners, 0, CONGESTION_BYTES)
    getsockopt(fresh, IPPROTO_TCP, TCP_CONGESTION, ctx.host_congestion, &length)
    length = CONGESTION_BYTES
    getsockopt(ctx.listen_fd, IPPROTO_TCP, TCP_CONGESTION, listeners, &length)
    if memcmp(listeners, ctx.host_congestion, CONGESTION_BYTES) == 0:
        ctx.host_congestion[0] = 0
    if fresh >= 0:
        close(fresh)


cdef inline bint _worker_parts(Context *ctx, bint log_on) noexcept nogil:
    cdef epoll_event event
    pool_init(&ctx.conn_pool, sizeof(Conn))
    pool_init(&ctx.exchange_pool, sizeof(Exchange))
    pool_init(&ctx.output_pool, sizeof(Output))
    pool_init(&ctx.hold_pool, sizeof(Hold))
    ctx.table = <Hold **>calloc(HOLD_BUCKETS, sizeof(Hold *))
    ctx.rx = <unsigned char *>malloc(RX_BYTES)
    ctx.key = <unsigned char *>malloc(KEY_BYTES)
    ctx.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
    ctx.spare_fd = eventfd(0, EFD_CLOEXEC)
    if (ctx.table == NULL or ctx.rx == NULL or ctx.key == NULL or ctx.epoll_fd < 0
            or ctx.spare_fd < 0):
        return False
    guest_box_init(&ctx.leaving)
    guest_box_init(&ctx.coming)
    if not up_init(&ctx.up) or not down_init(&ctx.down) or not log_init(&ctx.log, log_on):
        return False
    epoll_set_ptr(&event, EPOLLIN, ctx)
    return epoll_ctl(ctx.epoll_fd, EPOLL_CTL_ADD, ctx.down.bell.fd, &event) == 0


cdef inline Context *worker_new(Store *store, const Limits *limits, Bell *control, Post *post,
                                Slice name, int index, int listen_fd,
                                bint log_on) noexcept nogil:
    """NULL: no memory or no descriptors. The listener stays the caller's to close."""
    cdef Context *ctx = <Context *>calloc(1, sizeof(Context))
    if ctx == NULL:
        return NULL
    ctx.magic = CONTEXT_MAGIC
    ctx.index = index
    ctx.listen_fd = listen_fd
    ctx.store = store
    ctx.limits = limits
    ctx.control = control
    ctx.post = post
    memcpy(ctx.name_text, name.data, name.len if name.len < NAME_BYTES else NAME_BYTES)
    ctx.name = slice_of(ctx.name_text, name.len if name.len < NAME_BYTES else NAME_BYTES)
    listener_options(listen_fd)
    _host_congestion(ctx)
    if not _worker_parts(ctx, log_on):
        worker_free(ctx)
        return NULL
    return ctx


cdef inline void worker_free(Context *ctx) noexcept nogil:
    """After the thread has been joined."""
    pool_destroy(&ctx.conn_pool)
    pool_destroy(&ctx.exchange_pool)
    pool_destroy(&ctx.output_pool)
    pool_destroy(&ctx.hold_pool)
    if ctx.up.slots != NULL:
        up_destroy(&ctx.up)
    if ctx.down.slots != NULL:
        down_destroy(&ctx.down)
    guest_box_destroy(&ctx.leaving)
    guest_box_destroy(&ctx.coming)
    log_destroy(&ctx.log)
    if ctx.epoll_fd > 0:
        close(ctx.epoll_fd)
    if ctx.spare_fd > 0:
        close(ctx.spare_fd)
    free(ctx.table)
    free(ctx.rx)
    free(ctx.key)
    ctx.magic = 0
    free(ctx)
