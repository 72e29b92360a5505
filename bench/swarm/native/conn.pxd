"""One connection of a viewer: asks, receives, and hands what is whole to the viewer's policy.

Law: one request outstanding; its deadline is the connection's timer; whatever happens to it is
counted once. After every event viewer_drive() gives the viewer's free connections work.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset
from edgecache.native.sys cimport (
    EAGAIN, EINTR, EPOLLIN, EPOLLOUT, EPOLL_CTL_ADD, EPOLL_CTL_MOD, MSG_NOSIGNAL, close, errno_get,
    send, ssize_t,
)
from edgecache.native.types cimport Slice, cbyte, slice_of
from bench.swarm.native.answer cimport (
    CHUNK_BAD, CHUNK_DONE, answer_parse, chunk_next, head_end,
)
from bench.swarm.native.arrive cimport arrive_body, arrive_list, arrive_multivariant
from bench.swarm.native.bodies cimport body_bytes, body_release, bytes_add, bytes_free
from bench.swarm.native.play cimport viewer_end, viewer_over, viewer_pick
from bench.swarm.native.rim cimport rim_dial, rim_error, rim_mono_us, rim_recv, rim_watch
from bench.swarm.native.tally cimport (
    SAMPLES, SAMPLE_BYTES, S_own_delay, T_answered, T_asked, T_asked_blocking, T_asked_init,
    T_asked_multivariant, T_asked_part, T_asked_playlist, T_asked_segment, T_bytes_media,
    T_bytes_playlist, T_connects, T_dropped, T_ended, T_error_4xx, T_error_5xx, T_error_connect,
    T_error_http, T_error_reset, T_error_status, T_error_timeout, T_failed, T_lost, T_raced, count,
    span, sw_tally_names,
)
from bench.swarm.native.timer cimport timer_off, timer_set
from bench.swarm.native.types cimport (
    FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH, HEAD_BYTES, KIND_INIT, KIND_MULTIVARIANT,
    KIND_NONE, KIND_PART, KIND_PLAYLIST, NEVER, PHASE_AWAY, PHASE_GONE, PLAYLIST_BYTES, RX_BYTES,
    STATE_BODY, STATE_CLOSED, STATE_CONNECTING, STATE_HEAD, STATE_IDLE, Bytes, Conn, Lane, Swarm,
    Viewer, Work,
)


cdef inline bint is_list(Work *work) noexcept nogil:
    return work.kind == KIND_PLAYLIST or work.kind == KIND_MULTIVARIANT


cdef inline Bytes *conn_request(Swarm *swarm, Conn *conn) noexcept nogil:
    cdef Lane *lane = &conn.viewer.lanes[conn.work.lane]
    if conn.work.kind == KIND_MULTIVARIANT:
        return &swarm.multivariant.request
    if conn.work.kind == KIND_PLAYLIST:
        return &lane.playlist.request if lane.playlist != NULL else &lane.track.request
    return &conn.work.body.request


cdef inline void conn_close(Conn *conn) noexcept nogil:
    if conn.fd >= 0:
        close(conn.fd)
    conn.fd = -1
    conn.state = STATE_CLOSED
    conn.generation += 1
    timer_off(&conn.timer)


cdef inline void _work_over(Swarm *swarm, Conn *conn, uint64_t again_at_us) noexcept nogil:
    """What was asked for is not under way any more; it may be asked for again from then on."""
    cdef Viewer *viewer = conn.viewer
    cdef Lane *lane = &viewer.lanes[conn.work.lane]
    if conn.work.kind == KIND_MULTIVARIANT:
        viewer.loading_multivariant = False
        viewer.multivariant_at_us = again_at_us
    elif conn.work.kind == KIND_PLAYLIST:
        lane.loading_list = False
        lane.list_at_us = again_at_us
    elif conn.work.kind != KIND_NONE:
        lane.loading_body = False
        lane.body_at_us = again_at_us
        body_release(swarm, conn.work.body)
    conn.work.kind = KIND_NONE
    conn.held.size = 0
    bytes_free(&conn.text)


cdef inline void conn_sample(Swarm *swarm, Conn *conn, int which, int detail) noexcept nogil:
    """The first errors are kept in words: which, where, and a status, an errno or 0."""
    cdef Bytes *request
    cdef const char *target = b""
    cdef int shown = 0
    if swarm.tally.sample_count >= SAMPLES:
        return
    if conn.work.kind != KIND_NONE:
        request = conn_request(swarm, conn)
        while shown + 4 < <int>request.size and request.data[shown + 4] > c' ' and shown < 200:
            shown += 1
        target = <const char *>request.data + 4
    snprintf(swarm.tally.samples[swarm.tally.sample_count], SAMPLE_BYTES, "%s (%d) %.*s",
             sw_tally_names[which], detail, shown, target)
    swarm.tally.sample_count += 1


cdef inline void viewer_leave(Swarm *swarm, Viewer *viewer, int why) noexcept nogil:
    cdef uint32_t i
    cdef Conn *conn
    for i in range(swarm.options.connections):
        conn = &viewer.conns[i]
        if conn.work.kind != KIND_NONE:
            count(&swarm.tally, T_dropped, 1)
            _work_over(swarm, conn, 0)
        conn_close(conn)
        bytes_free(&conn.held)
    timer_off(&viewer.timer)
    viewer_end(swarm, viewer, why)


cdef inline void conn_failed(Swarm *swarm, Conn *conn, int which, int detail) noexcept nogil:
    """The request ended in an error, which is counted; the viewer tries again later."""
    cdef Viewer *viewer = conn.viewer
    conn_sample(swarm, conn, which, detail)
    count(&swarm.tally, which, 1)
    if conn.work.kind != KIND_NONE:
        count(&swarm.tally, T_failed, 1)
        _work_over(swarm, conn, swarm.now_us + swarm.options.retry_us)
        viewer.failures += 1
    if viewer.failures > swarm.options.tries:
        viewer_leave(swarm, viewer, T_lost)


cdef inline void conn_broken(Swarm *swarm, Conn *conn, int which, int detail) noexcept nogil:
    """The same, and the connection is of no use any more. A kept-alive one that the server closes
    while a request is on its way says nothing about the request: it is sent again."""
    cdef bint raced = (which == T_error_reset and conn.reused and conn.state == STATE_HEAD
                       and conn.held.size == 0)
    conn_close(conn)
    if raced:
        count(&swarm.tally, T_raced, 1)
        count(&swarm.tally, T_dropped, 1)
        _work_over(swarm, conn, 0)
    else:
        conn_failed(swarm, conn, which, detail)


cdef inline void _count_asked(Swarm *swarm, Work *work) noexcept nogil:
    cdef int which = T_asked_segment
    if work.kind == KIND_MULTIVARIANT:
        which = T_asked_multivariant
    elif work.kind == KIND_PLAYLIST:
        which = T_asked_playlist
    elif work.kind == KIND_INIT:
        which = T_asked_init
    elif work.kind == KIND_PART:
        which = T_asked_part
    count(&swarm.tally, T_asked, 1)
    count(&swarm.tally, which, 1)
    count(&swarm.tally, T_asked_blocking, work.blocking)


cdef inline void _send(Swarm *swarm, Conn *conn) noexcept nogil:
    cdef Bytes *request = conn_request(swarm, conn)
    cdef ssize_t sent
    memset(&conn.answer, 0, sizeof(conn.answer))
    conn.state = STATE_HEAD
    conn.sent_us = rim_mono_us()
    timer_set(&swarm.heap, &conn.timer, conn.sent_us + swarm.options.timeout_us)
    sent = send(conn.fd, request.data, request.size, MSG_NOSIGNAL)
    if sent != <ssize_t>request.size:
        conn_broken(swarm, conn, T_error_reset, errno_get() if sent < 0 else 0)


cdef inline void conn_ask(Swarm *swarm, Conn *conn, Work *work) noexcept nogil:
    cdef Lane *lane = &conn.viewer.lanes[work.lane]
    cdef uint64_t tag
    conn.work = work[0]
    if work.kind == KIND_MULTIVARIANT:
        conn.viewer.loading_multivariant = True
    elif work.kind == KIND_PLAYLIST:
        lane.loading_list = True
    else:
        lane.loading_body = True
        work.body.refs += 1
    _count_asked(swarm, work)
    conn.reused = conn.state == STATE_IDLE
    if conn.reused:
        _send(swarm, conn)
        return
    conn.fd = rim_dial(swarm.options.ip, swarm.options.port, swarm.options.source)
    if conn.fd < 0:
        conn_failed(swarm, conn, T_error_connect, -conn.fd)
        return
    conn.state = STATE_CONNECTING
    count(&swarm.tally, T_connects, 1)
    tag = <uint64_t>conn.generation << 32 | <uint64_t>(conn - swarm.conns)
    rim_watch(swarm.epoll, EPOLL_CTL_ADD, conn.fd, EPOLLIN | EPOLLOUT, tag)
    timer_set(&swarm.heap, &conn.timer, swarm.now_us + swarm.options.timeout_us)


cdef inline Conn *_free_conn(Swarm *swarm, Viewer *viewer) noexcept nogil:
    cdef Conn *closed = NULL
    cdef uint32_t i
    for i in range(swarm.options.connections):
        if viewer.conns[i].state == STATE_IDLE:
            return &viewer.conns[i]
        if viewer.conns[i].state == STATE_CLOSED and closed == NULL:
            closed = &viewer.conns[i]
    return closed


cdef inline void viewer_drive(Swarm *swarm, Viewer *viewer) noexcept nogil:
    """Give free connections work, and set the timer when there is some for later."""
    cdef Work work
    cdef Conn *conn
    cdef uint64_t later_us
    while viewer.phase != PHASE_AWAY and viewer.phase != PHASE_GONE:
        conn = _free_conn(swarm, viewer)
        if conn == NULL:
            return
        if not viewer_pick(swarm, viewer, &work, &later_us):
            if later_us != NEVER:
                timer_set(&swarm.heap, &viewer.timer, later_us)
            if viewer_over(swarm, viewer):
                viewer_leave(swarm, viewer, T_ended)
            return
        conn_ask(swarm, conn, &work)


cdef inline void _take(Swarm *swarm, Conn *conn) noexcept nogil:
    """A whole answer with status 200."""
    cdef Viewer *viewer = conn.viewer
    cdef int error = 0
    if conn.work.kind == KIND_MULTIVARIANT:
        error = arrive_multivariant(swarm, conn)
    elif conn.work.kind == KIND_PLAYLIST:
        error = arrive_list(swarm, conn)
    else:
        error = arrive_body(swarm, conn)
    if error:
        conn_failed(swarm, conn, error, conn.answer.status)
        return
    count(&swarm.tally, T_answered, 1)
    viewer.failures = 0
    # arrive_list says when the playlist may be loaded again; everything else may be at once
    _work_over(swarm, conn, viewer.lanes[conn.work.lane].list_at_us
               if conn.work.kind == KIND_PLAYLIST else 0)


cdef inline void _whole(Swarm *swarm, Conn *conn) noexcept nogil:
    cdef int status = conn.answer.status
    conn.state = STATE_IDLE
    timer_off(&conn.timer)
    if conn.answer.closes:
        conn_close(conn)
    if status == 200:
        _take(swarm, conn)
    elif 400 <= status < 500:
        conn_failed(swarm, conn, T_error_4xx, status)
    elif status >= 500:
        conn_failed(swarm, conn, T_error_5xx, status)
    else:
        conn_failed(swarm, conn, T_error_status, status)


cdef inline void _run(Swarm *swarm, Conn *conn, Slice run, uint64_t arrived_us) noexcept nogil:
    """The next bytes of the body."""
    cdef uint64_t offset = conn.answer.body_bytes
    conn.answer.body_bytes += run.len
    conn.answer.last_us = arrived_us
    if conn.answer.status != 200 or run.len == 0:
        return
    if is_list(&conn.work):
        count(&swarm.tally, T_bytes_playlist, run.len)
        if conn.text.size + run.len <= PLAYLIST_BYTES:
            bytes_add(&conn.text, run.data, run.len)
        return
    count(&swarm.tally, T_bytes_media, run.len)
    if conn.work.body.first_us == 0 or conn.answer.first_us < conn.work.body.first_us:
        conn.work.body.first_us = conn.answer.first_us
    if not conn.answer.differs:
        conn.answer.differs = not body_bytes(swarm, conn.work.body, offset, run.data, run.len)


cdef inline bint _head(Swarm *swarm, Conn *conn, Slice *data) noexcept nogil:
    """Takes the head from the front of the data; False: not whole, or refused."""
    cdef size_t size
    if conn.held.size:
        bytes_add(&conn.held, data.data, data.len)
        data[0] = slice_of(conn.held.data, conn.held.size)
    size = head_end(data.data, data.len)
    if size == 0 and data.len <= HEAD_BYTES:
        if not conn.held.size:
            bytes_add(&conn.held, data.data, data.len)
        return False
    if size == 0 or not answer_parse(&conn.answer, data.data, size):
        conn_broken(swarm, conn, T_error_http, 0)
        return False
    conn.state = STATE_BODY
    data[0] = slice_of(data.data + size, data.len - size)
    return True


cdef inline void _body(Swarm *swarm, Conn *conn, Slice data, uint64_t arrived_us) noexcept nogil:
    cdef bint whole = False
    cdef Slice run
    if conn.answer.framing == FRAMING_CHUNKED:
        run = chunk_next(&conn.answer, &data)
        while run.len:
            _run(swarm, conn, run, arrived_us)
            run = chunk_next(&conn.answer, &data)
        whole = conn.answer.chunk_state == CHUNK_DONE
    else:
        run = data
        if conn.answer.framing == FRAMING_LENGTH:
            run.len = min(data.len, <size_t>conn.answer.left)
            conn.answer.left -= run.len
            whole = conn.answer.left == 0
        _run(swarm, conn, run, arrived_us)
        data.len -= run.len
    if conn.answer.chunk_state == CHUNK_BAD or (whole and data.len):
        conn_broken(swarm, conn, T_error_http, 0)
    elif whole:
        _whole(swarm, conn)


cdef inline void _end_of_stream(Swarm *swarm, Conn *conn, int error) noexcept nogil:
    if conn.state == STATE_IDLE:
        conn_close(conn)
    elif conn.state == STATE_BODY and conn.answer.framing == FRAMING_CLOSE and error == 0:
        _whole(swarm, conn)
    else:
        conn_broken(swarm, conn, T_error_reset, error)


cdef inline void _received(Swarm *swarm, Conn *conn, size_t size, uint64_t at_us) noexcept nogil:
    cdef Slice data = slice_of(swarm.rx, size)
    if conn.state == STATE_IDLE:
        conn_broken(swarm, conn, T_error_http, 0)
        return
    if conn.state == STATE_HEAD:
        if conn.answer.first_us == 0:
            conn.answer.first_us = at_us
        if not _head(swarm, conn, &data):
            return
    _body(swarm, conn, data, at_us)


cdef inline void conn_readable(Swarm *swarm, Conn *conn) noexcept nogil:
    cdef uint64_t stamp_us, now_us, at_us
    cdef uint32_t generation = conn.generation
    cdef ssize_t got = RX_BYTES
    while got == RX_BYTES and conn.generation == generation:
        got = rim_recv(conn.fd, swarm.rx, RX_BYTES, &stamp_us)
        if got < 0 and (errno_get() == EAGAIN or errno_get() == EINTR):
            break
        if got <= 0:
            _end_of_stream(swarm, conn, errno_get() if got < 0 else 0)
            break
        now_us = rim_mono_us()
        at_us = stamp_us - swarm.wall_ahead_us if stamp_us else now_us
        span(&swarm.tally, S_own_delay, at_us, now_us)
        _received(swarm, conn, got, at_us)
    viewer_drive(swarm, conn.viewer)


cdef inline void conn_event(Swarm *swarm, Conn *conn) noexcept nogil:
    cdef int error
    cdef uint64_t tag
    if conn.state != STATE_CONNECTING:
        conn_readable(swarm, conn)
        return
    error = rim_error(conn.fd)
    if error:
        conn_broken(swarm, conn, T_error_connect, error)
        viewer_drive(swarm, conn.viewer)
        return
    tag = <uint64_t>conn.generation << 32 | <uint64_t>(conn - swarm.conns)
    rim_watch(swarm.epoll, EPOLL_CTL_MOD, conn.fd, EPOLLIN, tag)
    _send(swarm, conn)
    if conn.work.kind == KIND_NONE:      # lost already
        viewer_drive(swarm, conn.viewer)


cdef inline void conn_expired(Swarm *swarm, Conn *conn) noexcept nogil:
    conn_broken(swarm, conn, T_error_timeout, 0)
    viewer_drive(swarm, conn.viewer)
