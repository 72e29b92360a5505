"""Conn: the transport of one viewer. Socket, input buffer, deadline. Hands bytes to the protocol;
knows no objects and no HTTP.

An idle connection owns no buffer: reads land in the worker's scratch, and only what is left over
when the turn ends (a partial head, or requests pipelined behind one that waits) is copied into a
borrowed buffer. Edge-triggered: one epoll registration for life, and a read is only tried when the
last one filled its buffer or an event came.

Law of slow viewers: from the moment its socket is full, a viewer must acknowledge min_rate_bytes_s
on the average of every window of write_ms, or it is cut at the end of that window. Counted is what
its TCP acknowledged, not what our kernel took: an event of a full socket only comes when a third of
the send buffer is free, and megabytes of buffer are minutes of a slow viewer. """
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, strlen
from edgecache.native.address cimport Address
from edgecache.native.base cimport EC_CHECK, EC_LIVE_BUFFER, live_add
from edgecache.native.context cimport (
    CONN_BORROWED, CONN_COUNTED, CONN_INSIDE, CONN_LINGER, CONN_MAGIC, CONN_PACED, CONN_PEER_DONE,
    CONN_QUEUED, CONN_READABLE, CONN_SHARED, CONN_TIMED, CONN_TRUSTED, CONN_WRITABLE,
    RX_BYTES, SMALL_BUFFER_BYTES, Conn, Context,
)
from edgecache.native.door cimport (
    ADMIT_COUNTED, ADMIT_CROWDED, ADMIT_FULL, ADMIT_TRUSTED, Admission, door_enter, door_judge,
    door_leave,
)
from edgecache.native.guest cimport Guest, guest_new
from edgecache.native.pool cimport pool_give, pool_take
from edgecache.native.stats cimport (
    C_accepted, C_bytes_in, C_closed, C_closed_crowded, C_closed_refused, C_connections_now,
    C_taken_back, stat_add,
)
from edgecache.native.sys cimport (
    EAGAIN, EINTR, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP,
    IPPROTO_TCP, MSG_DONTWAIT, MSG_NOSIGNAL, SO_MAX_PACING_RATE, SOL_SOCKET, TCP_CONGESTION, close,
    epoll_ctl, epoll_event, epoll_set_ptr, errno_get, recv, send, setsockopt, socket_unacked,
    ssize_t,
)
from edgecache.native.timer cimport timer_cancel, timer_set
from edgecache.native.types cimport Slice, slice_of


cdef extern from *:
    """
    static inline void socket_reset_on_close(int fd) {
        struct linger l = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    }
    """
    void socket_reset_on_close(int fd) nogil


cdef enum:
    PACE_FROM_BYTES = 256 << 10          # bodies beyond this are paced


cdef enum RecvResult:
    RECV_SOME
    RECV_NONE                            # nothing now
    RECV_END                             # the peer is done, or the socket broke
    RECV_FULL                            # no room: the head is larger than allowed


cdef inline Conn *conn_new(Context *ctx, int fd) noexcept nogil:
    """Registered with epoll. NULL: no room (the caller closes fd)."""
    cdef epoll_event event
    cdef Conn *conn = <Conn *>pool_take(&ctx.conn_pool)
    if conn == NULL:
        return NULL
    conn.magic = CONN_MAGIC
    conn.fd = fd
    conn.flags = CONN_WRITABLE
    conn.timer.owner = conn
    epoll_set_ptr(&event, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, conn)
    if epoll_ctl(ctx.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
        pool_give(&ctx.conn_pool, conn)
        return NULL
    conn.next = ctx.conns
    if ctx.conns != NULL:
        ctx.conns.prev = conn
    ctx.conns = conn
    stat_add(&ctx.stats, C_accepted, 1)
    stat_add(&ctx.stats, C_connections_now, 1)
    timer_set(&ctx.wheel, &conn.timer, ctx.now_ms + ctx.limits.first_byte_ms)
    return conn


cdef inline void conn_pace(Context *ctx, Conn *conn) noexcept nogil:
    """Once, before the first large body. Unpaced, 768 KiB bodies overran receivers: 230 us a
    request with the retransmissions, 62 paced. Small ones fit in what a receiver can take, and
    under BBR without the fq qdisc a paced 64 KiB answer was seen to stall for 100 ms at times.
    From here on the socket has its timer, so the listener's choice of a congestion control without
    one is taken back: 768 KiB at 30 MB/s cost 126 us under CUBIC, 95 under the host's BBR."""
    cdef uint64_t rate = ctx.limits.pacing_bytes_s
    conn.flags |= CONN_PACED
    if rate:
        setsockopt(conn.fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof(rate))
        if ctx.host_congestion[0]:
            setsockopt(conn.fd, IPPROTO_TCP, TCP_CONGESTION, ctx.host_congestion,
                       <unsigned int>strlen(ctx.host_congestion))


cdef inline void conn_deadline(Context *ctx, Conn *conn, uint32_t after_ms) noexcept nogil:
    conn.flags &= ~<uint32_t>CONN_TIMED
    timer_set(&ctx.wheel, &conn.timer, ctx.now_ms + after_ms)


cdef inline uint64_t _acknowledged(Conn *conn) noexcept nogil:
    """Bytes that reached the peer, in the connection's life."""
    return conn.written - socket_unacked(conn.fd)


cdef inline bint conn_owes(Conn *conn) noexcept nogil:
    """Does the kernel still have bytes that the peer did not acknowledge?"""
    return socket_unacked(conn.fd) != 0


cdef inline void conn_watch(Context *ctx, Conn *conn) noexcept nogil:
    """The socket is full: the minimum rate counts, unless it does already."""
    if conn.flags & CONN_TIMED:
        return
    conn.acked = _acknowledged(conn)
    conn_deadline(ctx, conn, ctx.limits.write_ms)
    conn.flags |= CONN_TIMED


cdef inline bint conn_keeps_pace(Context *ctx, Conn *conn) noexcept nogil:
    """At the end of a window, which a tick of the wheel may have made longer. True: it took enough,
    and the next window has begun."""
    cdef uint64_t window_ms = ctx.now_ms - conn.timer.deadline_ms + ctx.limits.write_ms
    cdef uint64_t took = _acknowledged(conn) - conn.acked
    if took == 0 or took * 1000 < ctx.limits.min_rate_bytes_s * window_ms:
        return False
    conn.flags &= ~<uint32_t>CONN_TIMED
    conn_watch(ctx, conn)
    return True


cdef inline void _buffer_free(Conn *conn) noexcept nogil:
    if conn.flags & CONN_BORROWED:
        free(conn.input)
        live_add(EC_LIVE_BUFFER, -1)
        conn.flags &= ~<uint32_t>CONN_BORROWED
    conn.input = NULL
    conn.input_cap = 0


cdef inline void _unqueue(Context *ctx, Conn *conn) noexcept nogil:
    """Rare (closed by a deadline or a drain between two turns), so a walk will do."""
    cdef Conn *before = NULL
    cdef Conn *at = ctx.ready_first
    while at != conn:
        before = at
        at = at.next_ready
    if before != NULL:
        before.next_ready = conn.next_ready
    else:
        ctx.ready_first = conn.next_ready
    if ctx.ready_last == conn:
        ctx.ready_last = before


cdef inline void conn_free(Context *ctx, Conn *conn) noexcept nogil:
    """The exchange, if any, is gone already."""
    EC_CHECK(conn, CONN_MAGIC)
    if conn.flags & CONN_QUEUED:
        _unqueue(ctx, conn)
    timer_cancel(&conn.timer)
    if conn.flags & CONN_INSIDE:
        door_leave(ctx.door, ctx.limits, conn.address, (conn.flags & CONN_COUNTED) != 0)
    if conn.flags & CONN_SHARED and conn.fd >= 0:
        epoll_ctl(ctx.epoll_fd, EPOLL_CTL_DEL, conn.fd, NULL)
    if conn.fd >= 0:
        close(conn.fd)
    _buffer_free(conn)
    if conn.prev != NULL:
        conn.prev.next = conn.next
    else:
        ctx.conns = conn.next
    if conn.next != NULL:
        conn.next.prev = conn.prev
    stat_add(&ctx.stats, C_closed, 1)
    stat_add(&ctx.stats, C_connections_now, <uint64_t>-1)
    pool_give(&ctx.conn_pool, conn)


cdef inline Guest *conn_give(Context *ctx, Conn *conn, Slice before,
                             uint32_t head_len) noexcept nogil:
    """Take its descriptor out of this worker, with `before` and unread bytes (a head first); the
    rest is to be freed once the guest is where it is counted. NULL: no memory, and nothing has
    changed."""
    cdef Guest *guest = guest_new(conn.fd, conn.address, before,
                                  slice_of(conn.input + conn.input_off,
                                           conn.input_len - conn.input_off), head_len)
    if guest == NULL:
        return NULL
    epoll_ctl(ctx.epoll_fd, EPOLL_CTL_DEL, conn.fd, NULL)
    conn.fd = -1
    return guest


cdef inline void _let_in(Conn *conn, Address address, Admission admission) noexcept nogil:
    conn.address = address
    conn.flags |= CONN_INSIDE | (CONN_TRUSTED if admission == ADMIT_TRUSTED else CONN_COUNTED)


cdef inline Conn *conn_welcome(Context *ctx, int fd, Address address,
                               Admission *admission) noexcept nogil:
    """A connection of this address, if the door has room. NULL: *admission says why (the caller
    closes fd)."""
    cdef Conn *conn
    admission[0] = door_enter(ctx.door, ctx.limits, address)
    if admission[0] <= ADMIT_CROWDED:
        return NULL
    conn = conn_new(ctx, fd)
    if conn == NULL:
        door_leave(ctx.door, ctx.limits, address, admission[0] == ADMIT_COUNTED)
        admission[0] = ADMIT_FULL
        return NULL
    _let_in(conn, address, admission[0])
    return conn


cdef inline bint conn_of(Context *ctx, Conn *conn, Address source) noexcept nogil:
    """The proxy at its other end says whose it is. False: that address has its share."""
    cdef Admission admission = door_judge(ctx.door, ctx.limits, source)
    if admission == ADMIT_CROWDED:
        return False
    conn.flags &= ~<uint32_t>CONN_TRUSTED
    _let_in(conn, source, admission)
    return True


cdef inline void conn_turn_away(Context *ctx, int fd, Admission why) noexcept nogil:
    """Say so, or reset; the caller closes fd. What has come is read first, or the close would reset
    the answer away."""
    cdef const char *full = (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\n"
        b"Cache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n")
    cdef const char *crowded = (
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 5\r\n"
        b"Cache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n")
    cdef const char *answer = crowded if why == ADMIT_CROWDED else full
    stat_add(&ctx.stats, C_closed_crowded if why == ADMIT_CROWDED else C_closed_refused, 1)
    if ctx.limits.reset_beyond:
        socket_reset_on_close(fd)
        return
    recv(fd, ctx.rx, RX_BYTES, MSG_DONTWAIT)
    send(fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT)


cdef inline bint conn_adopt(Context *ctx, Guest *guest) noexcept nogil:
    """A connection that comes back, with what has been read of its next request. False: no room
    (the caller closes its fd)."""
    cdef Admission admission
    cdef Slice unread = slice_of(guest.bytes, guest.len)
    cdef Conn *conn = conn_welcome(ctx, guest.fd, guest.address, &admission)
    if conn == NULL:
        return False
    if unread.len:
        if not _buffer_grow(conn, <uint32_t>unread.len if unread.len > SMALL_BUFFER_BYTES
                            else SMALL_BUFFER_BYTES):
            conn.fd = -1
            conn_free(ctx, conn)
            return False
        memcpy(conn.input, unread.data, unread.len)
        conn.input_len = <uint32_t>unread.len
    conn.flags |= CONN_READABLE | CONN_SHARED
    stat_add(&ctx.stats, C_taken_back, 1)
    conn_queue(ctx, conn)
    return True


cdef inline bint conn_idle(Conn *conn) noexcept nogil:
    """Between two requests, and nothing has come of the next."""
    return (conn.exchange == NULL and conn.input_len == conn.input_off
            and not conn.flags & (CONN_LINGER | CONN_QUEUED))


cdef inline void conn_queue(Context *ctx, Conn *conn) noexcept nogil:
    """More can be done for it without waiting; others first."""
    if conn.flags & CONN_QUEUED:
        return
    conn.flags |= CONN_QUEUED
    conn.next_ready = NULL
    if ctx.ready_last != NULL:
        ctx.ready_last.next_ready = conn
    else:
        ctx.ready_first = conn
    ctx.ready_last = conn


cdef inline bint _buffer_grow(Conn *conn, uint32_t capacity) noexcept nogil:
    """Move what is left into a borrowed buffer of at least `capacity`. False: no memory."""
    cdef uint8_t *buffer = <uint8_t *>malloc(capacity)
    cdef uint32_t left = conn.input_len - conn.input_off
    if buffer == NULL:
        return False
    if left:
        memcpy(buffer, conn.input + conn.input_off, left)
    _buffer_free(conn)
    live_add(EC_LIVE_BUFFER, 1)
    conn.flags |= CONN_BORROWED
    conn.input = buffer
    conn.input_cap = capacity
    conn.input_off = 0
    conn.input_len = left
    return True


cdef inline bint _input_room(Context *ctx, Conn *conn) noexcept nogil:
    """Make sure there is room to read into: scratch when nothing is left over, else the borrowed
    buffer, larger if need be."""
    cdef uint32_t left = conn.input_len - conn.input_off
    if not conn.flags & CONN_BORROWED:
        if left == 0:
            conn.input = ctx.rx
            conn.input_cap = RX_BYTES
            conn.input_off = 0
            conn.input_len = 0
        return True
    if conn.input_off and left:
        memmove(conn.input, conn.input + conn.input_off, left)
    conn.input_off = 0
    conn.input_len = left
    if conn.input_len < conn.input_cap:
        return True
    return _buffer_grow(conn, RX_BYTES)


cdef inline RecvResult conn_recv(Context *ctx, Conn *conn) noexcept nogil:
    """One read behind what is there."""
    cdef ssize_t n
    cdef size_t room
    if not conn.flags & CONN_READABLE:
        return RECV_NONE
    if not _input_room(ctx, conn):
        return RECV_END
    room = conn.input_cap - conn.input_len
    if room == 0:
        return RECV_FULL
    while True:
        n = recv(conn.fd, conn.input + conn.input_len, room, 0)
        if n > 0:
            conn.input_len += <uint32_t>n
            if <size_t>n < room and not conn.flags & CONN_PEER_DONE:
                conn.flags &= ~<uint32_t>CONN_READABLE
            stat_add(&ctx.stats, C_bytes_in, <uint64_t>n)
            return RECV_SOME
        if n == 0:
            return RECV_END
        if errno_get() == EINTR:
            continue
        if errno_get() == EAGAIN:
            conn.flags &= ~<uint32_t>CONN_READABLE
            return RECV_NONE
        return RECV_END


cdef inline bint conn_stash(Conn *conn) noexcept nogil:
    """End of turn: nothing may point into the worker's scratch any more. False: no memory to keep
    what is left over."""
    cdef uint32_t left = conn.input_len - conn.input_off
    if left == 0:
        _buffer_free(conn)
        conn.input_off = 0
        conn.input_len = 0
        return True
    if conn.flags & CONN_BORROWED:
        return True
    return _buffer_grow(conn, SMALL_BUFFER_BYTES if left < SMALL_BUFFER_BYTES else RX_BYTES)
