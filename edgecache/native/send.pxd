"""Sending: moves the bytes of one answer to the socket.

Head and small bodies leave in one sendmsg, memfd bodies by sendfile behind a corked head
(MSG_MORE). A body whose end is not known yet is chunked, one chunk for whatever is readable. Stops
at a full socket (epoll tells when to go on) or at the end of what is filled (the hold tells).

Law: bytes of [pos, end) that are not filled are never promised inside a chunk. """
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy
from edgecache.native.base cimport EC_CHECK
from edgecache.native.blob cimport BLOB_MAGIC, Blob
from edgecache.native.conn cimport conn_watch
from edgecache.native.context cimport (
    CONN_WRITABLE, SHORT_BYTES, TURN_BYTES, Conn, Context, Exchange, Output,
)
from edgecache.native.entry cimport ENTRY_COMPLETE, ENTRY_FAILED, Entry, entry_filled, entry_state
from edgecache.native.stats cimport C_bytes_out, C_cut, stat_add
from edgecache.native.sys cimport (
    EAGAIN, EINTR, MSG_MORE, MSG_NOSIGNAL, errno_get, iovec, msghdr, off_t, send, sendfile, sendmsg,
    ssize_t,
)
from edgecache.native.turn cimport pass_spent
from edgecache.native.types cimport Slice, slice_of


cdef enum Progress:
    PROGRESS_DONE                        # the answer is out
    PROGRESS_BLOCKED                     # the socket is full
    PROGRESS_MORE                        # it may go on, when others had their turn
    PROGRESS_STARVED                     # the fill has no more for now
    PROGRESS_PARKED                      # on a hold's list
    PROGRESS_BROKEN                      # the connection must be closed now
    PROGRESS_GIVEN                       # the connection is the control plane's now, and gone here


cdef inline Progress _wrote(Context *ctx, Exchange *x, ssize_t n) noexcept nogil:
    """Account a write; PROGRESS_DONE when it moved something."""
    cdef Conn *conn = x.conn
    if n >= 0:
        x.sent += <uint64_t>n
        conn.written += <uint64_t>n
        stat_add(&ctx.stats, C_bytes_out, <uint64_t>n)
        return PROGRESS_DONE
    if errno_get() == EINTR:
        return PROGRESS_DONE
    if errno_get() != EAGAIN:
        return PROGRESS_BROKEN
    conn.flags &= ~<uint32_t>CONN_WRITABLE
    conn_watch(ctx, conn)
    return PROGRESS_BLOCKED


cdef inline uint64_t answer_available(Exchange *x) noexcept nogil:
    """Body bytes from pos that may leave now."""
    cdef uint64_t limit = entry_filled(x.hold.entry)
    if limit > x.end:
        limit = x.end
    return limit - x.pos if limit > x.pos else 0


cdef inline Progress _send_head(Context *ctx, Exchange *x) noexcept nogil:
    cdef Output *out = x.out
    cdef iovec iov[4]
    cdef msghdr message
    cdef Progress progress
    cdef ssize_t n
    cdef size_t left
    cdef int i
    cdef int count
    while True:
        count = 0
        for i in range(4):
            if out.parts[i].len:
                iov[count].iov_base = <void *>out.parts[i].data
                iov[count].iov_len = out.parts[i].len
                count += 1
        if count == 0:
            return PROGRESS_DONE
        message.msg_name = NULL
        message.msg_namelen = 0
        message.msg_control = NULL
        message.msg_controllen = 0
        message.msg_flags = 0
        message.msg_iov = iov
        message.msg_iovlen = count
        n = sendmsg(x.conn.fd, &message, MSG_NOSIGNAL | (MSG_MORE if x.pos < x.end
                                                         and answer_available(x) else 0))
        progress = _wrote(ctx, x, n)
        if progress != PROGRESS_DONE:
            return progress
        for i in range(4):
            left = <size_t>n if n > 0 else 0
            if left > out.parts[i].len:
                left = out.parts[i].len
            out.parts[i].data += left
            out.parts[i].len -= left
            n -= left


cdef inline Progress _send_frame(Context *ctx, Exchange *x, bint more) noexcept nogil:
    cdef Output *out = x.out
    cdef ssize_t n
    cdef Progress progress
    while out.frame_off < out.frame_len:
        n = send(x.conn.fd, out.frame + out.frame_off, out.frame_len - out.frame_off,
                 MSG_NOSIGNAL | (MSG_MORE if more else 0))
        progress = _wrote(ctx, x, n)
        if progress != PROGRESS_DONE:
            return progress
        if n > 0:
            out.frame_off += <uint32_t>n
    return PROGRESS_DONE


cdef inline void _frame_set(Output *out, int length) noexcept nogil:
    out.frame_off = 0
    out.frame_len = length


cdef inline Progress _send_body(Context *ctx, Exchange *x, uint64_t length) noexcept nogil:
    """Up to `length` readable bytes at pos; moves pos by what left."""
    cdef Entry *entry = x.hold.entry
    cdef Blob *blob = entry.blob
    cdef Progress progress
    cdef off_t at
    cdef ssize_t n
    EC_CHECK(blob, BLOB_MAGIC)
    if length > TURN_BYTES:
        length = TURN_BYTES
    if length > SHORT_BYTES and pass_spent(ctx):
        return PROGRESS_MORE
    if blob.fd >= 0:
        at = <off_t>(entry.offset + x.pos)
        n = sendfile(x.conn.fd, blob.fd, &at, length)
        # the file is shorter than it said: cannot happen to a sealed memfd
        if n == 0:
            return PROGRESS_BROKEN
    else:
        n = send(x.conn.fd, blob.data + entry.offset + x.pos, length, MSG_NOSIGNAL)
    if n > 0:
        x.pos += <uint64_t>n
        x.out.chunk_left -= <uint64_t>n if x.chunked else 0
    progress = _wrote(ctx, x, n)
    # a chunk's end is framed before anything else
    if (progress == PROGRESS_DONE and x.pos < x.end and (x.out.chunk_left or not x.chunked)
            and x.conn.written - x.conn.turn_from >= TURN_BYTES):
        return PROGRESS_MORE
    return progress


cdef inline Progress _fill_ended(Context *ctx, Exchange *x) noexcept nogil:
    """All that is readable is out. Is that the end of the body, of the fill, or neither? The state
    is read before the length."""
    cdef Entry *entry = x.hold.entry
    cdef int state = entry_state(entry)
    if state == ENTRY_COMPLETE:
        if x.end == UINT64_MAX or x.end > <uint64_t>entry.length:
            x.end = <uint64_t>entry.length
        return PROGRESS_DONE
    if state == ENTRY_FAILED:            # an honest cut: reset, no last chunk
        stat_add(&ctx.stats, C_cut, 1)
        return PROGRESS_BROKEN
    return PROGRESS_STARVED


cdef inline Progress _send_plain(Context *ctx, Exchange *x) noexcept nogil:
    cdef uint64_t available
    cdef Progress progress
    while x.pos < x.end:
        available = answer_available(x)
        progress = _send_body(ctx, x, available) if available else _fill_ended(ctx, x)
        if progress != PROGRESS_DONE:
            return progress
    return PROGRESS_DONE


cdef inline Progress _send_chunked(Context *ctx, Exchange *x) noexcept nogil:
    """RFC 9112 7.1. The frame holds a chunk's size line, or the end of one, or the last chunk."""
    cdef Output *out = x.out
    cdef uint64_t available
    cdef Progress progress
    while True:
        progress = _send_frame(ctx, x, out.chunk_left > 0)
        if progress != PROGRESS_DONE:
            return progress
        if out.chunk_left:
            progress = _send_body(ctx, x, out.chunk_left)
            if progress != PROGRESS_DONE:
                return progress
            if out.chunk_left == 0:
                memcpy(out.frame, b"\r\n", 2)
                _frame_set(out, 2)
            continue
        if x.pos == x.end:
            x.chunked = False
            memcpy(out.frame, b"0\r\n\r\n", 5)
            _frame_set(out, 5)
            return _send_frame(ctx, x, False)
        available = answer_available(x)
        if available:
            out.chunk_left = available if available < TURN_BYTES else TURN_BYTES
            _frame_set(out, snprintf(<char *>out.frame, sizeof(out.frame), b"%llx\r\n",
                                     <unsigned long long>out.chunk_left))
            continue
        progress = _fill_ended(ctx, x)
        if progress != PROGRESS_DONE:
            return progress


cdef inline Progress send_answer(Context *ctx, Exchange *x) noexcept nogil:
    """As far as it goes. The head parts of x.out and the bounds pos/end are set."""
    cdef Progress progress = _send_head(ctx, x)
    if progress != PROGRESS_DONE:
        return progress
    if x.chunked:
        return _send_chunked(ctx, x)
    progress = _send_frame(ctx, x, False)                # what is left of a last chunk
    if progress != PROGRESS_DONE:
        return progress
    return _send_plain(ctx, x)
