"""HTTP/1.1 on a connection: requests in order, one exchange at a time, keep-alive, refusals,
lingering close.

http1_turn() is the only way in: it goes on with whatever the connection can do now and returns when
it must wait. Pipelined requests wait in the input behind the exchange under way, so answers leave
in order and nothing is read ahead of a viewer that does not read. """
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr
from edgecache.native.again cimport AGAIN_BYTES, request_again
from edgecache.native.base cimport EC_ASSERT
from edgecache.native.conn cimport (
    RECV_END, RECV_FULL, RECV_NONE, RecvResult, conn_deadline, conn_free, conn_give,
    conn_keeps_pace, conn_of, conn_owes, conn_queue, conn_recv, conn_stash, conn_turn_away,
    socket_reset_on_close,
)
from edgecache.native.context cimport (
    CONN_CLOSE, CONN_LINGER, CONN_PEER_DONE, CONN_PREFACE, CONN_QUEUED, CONN_READABLE,
    CONN_TRUSTED, CONN_WRITABLE, KEY_BYTES, PHASE_PARKED, PHASE_SENDING, TURN_BYTES, Conn, Context,
    Exchange,
)
from edgecache.native.door cimport ADMIT_CROWDED
from edgecache.native.entry cimport ENTRY_LIVE, ENTRY_RESERVED, Entry, entry_dead, entry_state
from edgecache.native.exchange cimport (
    exchange_decide, exchange_error, exchange_free, exchange_log, exchange_new, exchange_of,
    exchange_send, exchange_timeout, exchange_unparked, preflight_answer,
)
from edgecache.native.guest cimport GUEST_BYTES, Guest, guest_put, guest_room
from edgecache.native.hosts cimport hosts_have
from edgecache.native.keep cimport keep_is_site
from edgecache.native.loop cimport Loop, loop_closes
from edgecache.native.mailbox cimport bell_ring
from edgecache.native.proxy cimport (
    PROXY_BAD, PROXY_PARTIAL, PROXY_TOLD, ProxyHeader, ProxyVerdict, proxy_parse,
)
from edgecache.native.request cimport (
    METHOD_HEAD, METHOD_OPTIONS, Request, request_end, request_parse,
)
from edgecache.native.resolve cimport resolve_target
from edgecache.native.send cimport (
    PROGRESS_BROKEN, PROGRESS_DONE, PROGRESS_GIVEN, PROGRESS_MORE, PROGRESS_PARKED, Progress,
)
from edgecache.native.stats cimport (
    C_bad_requests, C_closed_bad_request, C_closed_header_timeout, C_closed_idle, C_closed_proxy,
    C_closed_write_timeout, C_crowded, C_handed_over, C_looped, C_misdirected, C_park_drained,
    C_park_gone, C_passed_on, C_requests, C_shed, C_unanswered, C_unfinished, stat_add,
)
from edgecache.native.sys cimport SHUT_WR, close, shutdown
from edgecache.native.target cimport Target, target_authority, target_parse
from edgecache.native.turn cimport pass_spent
from edgecache.native.types cimport Slice, cbyte, slice_of


cdef enum:
    TURN_REQUESTS = 8                    # then others get their turn
    LINGER_MS = 2000
    FIRST_MS = 500                       # for the first request of who came just before a drain
    LINGER_READS = 64                    # of RX_BYTES: what we are ready to throw away


# ---------------------------------------------------------------- closing

cdef inline void http1_close(Context *ctx, Conn *conn, int reason) noexcept nogil:
    """Now. `reason`: the counter it goes under; −1: the peer closed, or the answer said close."""
    cdef Exchange *x = conn.exchange
    if reason >= 0:
        stat_add(&ctx.stats, reason, 1)
    if x != NULL:
        if x.phase != PHASE_SENDING or x.parked_us:      # woken, and no memory for an answer
            stat_add(&ctx.stats, C_park_drained if ctx.stopping else C_park_gone, 1)
        # mid-answer: a reset, so that nobody takes the end for an end
        if x.begun:
            stat_add(&ctx.stats, C_unfinished, 1)
            socket_reset_on_close(conn.fd)
        exchange_log(ctx, x)
        exchange_free(ctx, x)
    conn_free(ctx, conn)


cdef inline void _linger(Context *ctx, Conn *conn) noexcept nogil:
    """Our FIN after the answer; then read until the peer's, or a close with bytes unread would
    reset the answer away (RFC 9112 9.6)."""
    shutdown(conn.fd, SHUT_WR)
    conn.flags |= CONN_LINGER | CONN_READABLE
    conn.requests = 0
    conn_deadline(ctx, conn, LINGER_MS)
    _linger_turn(ctx, conn)


cdef inline void _linger_turn(Context *ctx, Conn *conn) noexcept nogil:
    cdef RecvResult got
    while True:
        conn.input_off = conn.input_len
        got = conn_recv(ctx, conn)
        conn.requests += 1
        if got == RECV_NONE and conn_stash(conn):
            return
        if got == RECV_NONE or got == RECV_END or got == RECV_FULL or conn.requests > LINGER_READS:
            http1_close(ctx, conn, -1)
            return


# ---------------------------------------------------------------- one request

cdef inline bint _is_ours(Context *ctx, Request *request) noexcept nogil:
    """Is the host that it names one of ours? An absolute-form target overrides Host (RFC 9112
    3.2.2)."""
    cdef Slice named
    if not ctx.hosts.count:
        return True
    named = target_authority(request.target)
    return hosts_have(ctx.hosts, named if named.data != NULL else request.host)


cdef inline Progress _dispatch(Context *ctx, Exchange *x, Request *request,
                               Slice loop) noexcept nogil:
    cdef Target target
    cdef bint preflight = request.method == METHOD_OPTIONS
    cdef bint server = (preflight and request.target.len == 1
                        and request.target.data[0] == 42)            # "*" (RFC 9110 9.3.7)
    if not server and not target_parse(request.target, ctx.keep, ctx.key, &target):
        x.conn.flags |= CONN_CLOSE       # no viewer writes such a name: trust nothing behind it
        stat_add(&ctx.stats, C_closed_bad_request, 1)
        stat_add(&ctx.stats, C_bad_requests, 1)
        return exchange_error(ctx, x, 400, 0)
    if not _is_ours(ctx, request):
        stat_add(&ctx.stats, C_misdirected, 1)
        return exchange_error(ctx, x, 421, 0)
    if server:
        return preflight_answer(ctx, x)
    if target.bad_directives:
        stat_add(&ctx.stats, C_bad_requests, 1)
        return exchange_error(ctx, x, 400, 0)
    if preflight:
        return preflight_answer(ctx, x)
    x.want = target.want
    if not resolve_target(ctx, x, &target, loop):
        stat_add(&ctx.stats, C_shed, 1)
        return exchange_error(ctx, x, 503, 0)
    return exchange_decide(ctx, x)


cdef inline Exchange *_exchange(Context *ctx, Conn *conn) noexcept nogil:
    """For the request that was just counted. NULL: no memory, and it stays without an answer."""
    cdef Exchange *x = exchange_new(ctx, conn)
    if x == NULL:
        stat_add(&ctx.stats, C_unanswered, 1)
    return x


cdef inline Progress _refuse(Context *ctx, Conn *conn, int status) noexcept nogil:
    """A request that cannot be trusted: one answer, then close; never look for a next request in
    those bytes."""
    cdef Exchange *x = _exchange(ctx, conn)
    if x == NULL:
        return PROGRESS_BROKEN
    conn.flags |= CONN_CLOSE
    conn.input_off = conn.input_len
    stat_add(&ctx.stats, C_bad_requests, 1)
    stat_add(&ctx.stats, C_closed_bad_request, 1)
    return exchange_error(ctx, x, status, 0)


cdef inline bint _for_a_site(Context *ctx, Conn *conn, size_t head_len) noexcept nogil:
    """Is the request's target on a route that the control plane answers? Whatever the method: it
    judges the rest of the head itself."""
    cdef cbyte *line = conn.input + conn.input_off
    cdef cbyte *start = <cbyte *>memchr(line, 32, head_len)
    cdef cbyte *end
    cdef Target target
    if start == NULL:
        return False
    start += 1
    end = <cbyte *>memchr(start, 32, head_len - (start - line))
    return (end != NULL and <size_t>(end - start) <= ctx.limits.target_bytes
            and target_parse(slice_of(start, end - start), ctx.keep, ctx.key, &target)
            and keep_is_site(ctx.keep, target.path))


cdef inline Progress _hand_over(Context *ctx, Conn *conn, size_t head_len) noexcept nogil:
    cdef Guest *guest = conn_give(ctx, conn, slice_of(NULL, 0), <uint32_t>head_len)
    if guest == NULL:
        stat_add(&ctx.stats, C_unanswered, 1)
        return PROGRESS_BROKEN
    stat_add(&ctx.stats, C_handed_over, 1)
    if not guest_put(&ctx.leaving, guest):
        stat_add(&ctx.stats, C_shed, 1)
        close(guest.fd)
        free(guest)
    conn_free(ctx, conn)
    bell_ring(ctx.control)
    return PROGRESS_GIVEN


cdef inline Progress _request(Context *ctx, Conn *conn, size_t head_len) noexcept nogil:
    cdef cbyte *head = conn.input + conn.input_off
    cdef Request request
    cdef Loop loop
    cdef Exchange *x
    cdef int status
    if ctx.keep.sites and _for_a_site(ctx, conn, head_len):
        return _hand_over(ctx, conn, head_len)
    status = request_parse(head, head_len, ctx.limits, &request)
    if status:
        return _refuse(ctx, conn, status)
    conn.input_off += <uint32_t>head_len
    conn.scanned = 0
    conn.requests += 1
    x = _exchange(ctx, conn)
    if x == NULL:
        return PROGRESS_BROKEN
    if not request.keep_alive or ctx.draining:
        conn.flags |= CONN_CLOSE
    x.method = request.method
    x.head_only = request.method == METHOD_HEAD
    x.gzip = request.gzip
    x.old_client = request.minor == 0
    x.validator = request.if_none_match
    x.range = request.range
    x.ranged = request.range.data != NULL and request.if_range.data == NULL and not x.head_only
    if (request.client.data != NULL and conn.flags & CONN_TRUSTED
            and not exchange_of(ctx, x, request.client)):
        stat_add(&ctx.stats, C_crowded, 1)
        return exchange_error(ctx, x, 429, 0)
    loop.len = 0
    if request.came_through and loop_closes(head, head_len, ctx.id, &loop):
        stat_add(&ctx.stats, C_looped, 1)
        return exchange_error(ctx, x, 508, 0)
    return _dispatch(ctx, x, &request, slice_of(<cbyte *>loop.text, loop.len))


cdef inline int _skip_crlf(Conn *conn) noexcept nogil:
    """Empty lines before a request line are ignored (RFC 9112 2.2); two at most."""
    cdef int lines = 0
    while (lines < 2 and conn.scanned == 0 and conn.input_len - conn.input_off >= 2
           and conn.input[conn.input_off] == 13 and conn.input[conn.input_off + 1] == 10):
        conn.input_off += 2
        lines += 1
    return lines


cdef inline int _head_ready(Context *ctx, Conn *conn, size_t *head_len) noexcept nogil:
    """1: a head of *head_len bytes is at the front of the input. 0: not yet. Else the status to
    refuse with."""
    cdef cbyte *data
    cdef uint32_t length
    _skip_crlf(conn)
    data = conn.input + conn.input_off
    length = conn.input_len - conn.input_off
    head_len[0] = request_end(data, conn.scanned, length) if length else 0
    if head_len[0] > ctx.limits.header_bytes or (head_len[0] == 0
                                                 and length > ctx.limits.header_bytes):
        return 414 if _line_open(data, ctx.limits.target_bytes) else 431
    if head_len[0]:
        return 1
    conn.scanned = length - 2 if length > 2 else 0
    return 0


cdef inline bint _line_open(cbyte *data, size_t length) noexcept nogil:
    cdef size_t i
    for i in range(length):
        if data[i] == 10:
            return False
    return True


# ---------------------------------------------------------------- to our successor

cdef inline bint _may_pass(Context *ctx, Conn *conn, size_t before) noexcept nogil:
    return (not conn.flags & (CONN_CLOSE | CONN_LINGER | CONN_PREFACE) and guest_room(&ctx.leaving)
            and before + conn.input_len - conn.input_off <= GUEST_BYTES)


cdef inline bint _pass_on(Context *ctx, Conn *conn, Slice before) noexcept nogil:
    """The connection, between two requests, goes with what was read of the next one. False: not
    now; it is served here on."""
    cdef Guest *guest = NULL
    if _may_pass(ctx, conn, before.len):
        guest = conn_give(ctx, conn, before, 0)
    if guest == NULL:
        return False
    stat_add(&ctx.stats, C_passed_on, 1)
    guest_put(&ctx.leaving, guest)
    conn_free(ctx, conn)
    bell_ring(ctx.control)
    return True


cdef inline bint _comes_elsewhere(Entry *entry) noexcept nogil:
    """What is waited for comes to our successor: a version of a playlist, or a push that the
    control plane no longer waits for. A fill under way here ends here."""
    return entry_state(entry) == ENTRY_LIVE or (entry_state(entry) == ENTRY_RESERVED
                                                and entry_dead(entry))


cdef inline void http1_hand(Context *ctx, Conn *conn) noexcept nogil:
    """Let it go, if it is between two requests or waits for what comes to our successor; others
    follow when they get there."""
    cdef Exchange *x = conn.exchange
    cdef Slice before = slice_of(ctx.key, 0)
    if conn.flags & CONN_QUEUED:
        return                           # its turn comes in this turn of the loop
    if x == NULL:
        _pass_on(ctx, conn, before)
        return
    if (x.phase != PHASE_PARKED or not _comes_elsewhere(x.hold.entry)
            or x.hold.entry.key_len + AGAIN_BYTES > KEY_BYTES):
        return
    before.len = request_again(x, <char *>ctx.key)
    if not _may_pass(ctx, conn, before.len):
        return
    stat_add(&ctx.stats, C_park_drained, 1)
    exchange_free(ctx, exchange_unparked(ctx, x))
    if not _pass_on(ctx, conn, before):
        http1_close(ctx, conn, C_shed)   # no memory


# ---------------------------------------------------------------- turns

cdef inline bint _answered(Context *ctx, Conn *conn) noexcept nogil:
    """The exchange is out: free it, and say whether the connection goes on (it is closed or
    lingering otherwise)."""
    exchange_log(ctx, conn.exchange)
    exchange_free(ctx, conn.exchange)
    if not conn.flags & CONN_CLOSE:
        conn_deadline(ctx, conn, ctx.limits.keepalive_ms)
        return True
    _linger(ctx, conn)
    return False


cdef inline bint http1_settle(Context *ctx, Conn *conn, Progress progress) noexcept nogil:
    """What an exchange's progress means for its connection. True: it may go on to the next request.
    """
    if progress == PROGRESS_GIVEN:
        return False
    if progress == PROGRESS_DONE:
        return _answered(ctx, conn)
    if progress == PROGRESS_BROKEN:
        http1_close(ctx, conn, -1)
        return False
    if progress == PROGRESS_PARKED and conn.flags & CONN_PEER_DONE:
        http1_close(ctx, conn, -1)       # nobody is there to wait
        return False
    if not conn_stash(conn):
        http1_close(ctx, conn, C_shed)
    elif progress == PROGRESS_MORE:
        conn_queue(ctx, conn)
    return False


cdef inline bint _await_input(Context *ctx, Conn *conn, RecvResult got) noexcept nogil:
    """Nothing to parse. True: bytes came, try again."""
    cdef uint32_t left
    if got == RECV_END:
        http1_close(ctx, conn, -1)
        return False
    if got != RECV_NONE:
        return True
    left = conn.input_len - conn.input_off
    if not left and conn.flags & CONN_CLOSE:
        if conn.requests:                # drained between two requests
            _linger(ctx, conn)
            return False
        if conn.timer.deadline_ms > ctx.now_ms + FIRST_MS:
            conn_deadline(ctx, conn, FIRST_MS)
    if left and conn.timer.deadline_ms > ctx.now_ms + ctx.limits.header_ms:
        # from the first byte of the head, not from the last
        conn_deadline(ctx, conn, ctx.limits.header_ms)
    if not conn_stash(conn):
        http1_close(ctx, conn, C_shed)
    return False


cdef inline bint _preface(Context *ctx, Conn *conn) noexcept nogil:
    """The PROXY header before the first request. True: it is done, go on. A peer that must send one
    and does not is cut without an answer: whatever it speaks, it is not what was agreed on."""
    cdef ProxyHeader header
    cdef ProxyVerdict verdict = PROXY_PARTIAL
    while True:
        verdict = proxy_parse(conn.input + conn.input_off, conn.input_len - conn.input_off,
                              &header)
        if verdict != PROXY_PARTIAL:
            break
        if not _await_input(ctx, conn, conn_recv(ctx, conn)):
            return False
    if verdict == PROXY_BAD:
        http1_close(ctx, conn, C_closed_proxy)
        return False
    conn.input_off += <uint32_t>header.len
    conn.flags &= ~<uint32_t>CONN_PREFACE
    if verdict == PROXY_TOLD and not conn_of(ctx, conn, header.source):
        conn_turn_away(ctx, conn.fd, ADMIT_CROWDED)
        http1_close(ctx, conn, -1)
        return False
    return True


cdef inline void http1_turn(Context *ctx, Conn *conn) noexcept nogil:
    """Do what can be done for this connection now. It may be gone afterwards."""
    cdef int turns = 0
    cdef int ready
    cdef size_t head_len = 0
    cdef Progress progress
    if conn.flags & (CONN_LINGER | CONN_PREFACE):
        if conn.flags & CONN_LINGER:
            _linger_turn(ctx, conn)
            return
        if not _preface(ctx, conn):
            return
    conn.turn_from = conn.written
    while turns < TURN_REQUESTS and conn.written - conn.turn_from < TURN_BYTES:
        turns += 1
        if conn.exchange != NULL:
            if conn.exchange.phase != PHASE_SENDING:
                if conn.flags & CONN_PEER_DONE:
                    http1_close(ctx, conn, -1)
                return
            if not conn.flags & CONN_WRITABLE:
                return
            progress = exchange_send(ctx, conn.exchange)
        else:
            if ctx.handing and _pass_on(ctx, conn, slice_of(NULL, 0)):
                return
            ready = _head_ready(ctx, conn, &head_len)
            if ready == 0:
                if not _await_input(ctx, conn, conn_recv(ctx, conn)):
                    return
                continue
            if ready == 1 and conn.input_len - conn.input_off > head_len and pass_spent(ctx):
                break                    # a pipeline waits like a long answer; a refusal is short
            stat_add(&ctx.stats, C_requests, 1)
            progress = _request(ctx, conn, head_len) if ready == 1 else _refuse(ctx, conn, ready)
        if not http1_settle(ctx, conn, progress):
            return
    if not conn_stash(conn):
        http1_close(ctx, conn, C_shed)
        return
    conn_queue(ctx, conn)


cdef inline void http1_expired(Context *ctx, Conn *conn) noexcept nogil:
    """Its deadline passed: what that means depends on what it was doing."""
    cdef Exchange *x = conn.exchange
    if x == NULL:
        if conn.flags & CONN_LINGER:
            http1_close(ctx, conn, -1)
        elif conn.input_len > conn.input_off:
            http1_close(ctx, conn, C_closed_header_timeout)
        elif conn_owes(conn):            # all of it is in the kernel, where it would stay
            socket_reset_on_close(conn.fd)
            http1_close(ctx, conn, C_closed_write_timeout)
        else:
            http1_close(ctx, conn, C_closed_idle)
    elif x.phase == PHASE_SENDING:
        if not conn_keeps_pace(ctx, conn):
            http1_close(ctx, conn, C_closed_write_timeout)
    elif http1_settle(ctx, conn, exchange_timeout(ctx, x)):
        conn_queue(ctx, conn)


cdef inline void http1_release(Context *ctx, Conn *conn) noexcept nogil:
    """Drain: the connection closes behind the request that it is at or came for (FIRST_MS), and at
    once between two; a parked exchange is answered 503."""
    cdef Exchange *x = conn.exchange
    if conn.flags & CONN_LINGER:
        return
    conn.flags |= CONN_CLOSE
    if x == NULL:
        conn.flags |= CONN_READABLE      # a request that has just arrived is still answered
        if not conn.flags & CONN_QUEUED:
            http1_turn(ctx, conn)
    elif x.phase == PHASE_PARKED:
        stat_add(&ctx.stats, C_park_drained, 1)
        if http1_settle(ctx, conn, exchange_error(ctx, exchange_unparked(ctx, x), 503, 0)):
            conn_queue(ctx, conn)
