"""What a whole answer means to the viewer that asked for it.

Contract: each function answers 0, or the tally of the error that makes the answer a failed one.
"""
from libc.stdint cimport uint64_t
from bench.swarm.native.bodies cimport body_release, body_whole, etag_same
from bench.swarm.native.play cimport (
    lane_advance, lane_place, viewer_gained, viewer_stalls,
)
from bench.swarm.native.tally cimport (
    S_blocked, S_fetch, S_object_first, S_object_last, S_playlist_first, S_playlist_last,
    S_versions_apart, S_wait, T_error_bytes, T_error_etag, T_error_stale, T_parked, count, span,
)
from bench.swarm.native.types cimport (
    KIND_INIT, PHASE_PLAYING, Body, Conn, Lane, Playlist, Swarm, Viewer,
)
from bench.swarm.native.versions cimport playlist_of, playlist_release


cdef inline int arrive_multivariant(Swarm *swarm, Conn *conn) noexcept nogil:
    cdef int error
    playlist_release(swarm, playlist_of(
        swarm, swarm.multivariant, &conn.text, &conn.answer.etag, &error))
    conn.viewer.has_multivariant = True
    return error


cdef inline bint _is_newer(Playlist *a, uint64_t msn, uint64_t part) noexcept nogil:
    return a.ended or a.next_msn > msn or (a.next_msn == msn and a.next_part > part)


cdef inline uint64_t _reload_at(Swarm *swarm, Lane *lane, Conn *conn, bint changed) noexcept nogil:
    """Blocking reloads follow each other; polls keep the distance of RFC 8216bis 6.3.4."""
    cdef Playlist *p = lane.playlist
    cdef uint64_t pace_us = p.target_us
    if swarm.options.low_latency and p.part_target_us:
        if p.can_block:
            return swarm.now_us
        pace_us = p.part_target_us
    return conn.sent_us + (pace_us if changed else pace_us // 2)


cdef inline void _list_times(Swarm *swarm, Conn *conn, Playlist *p) noexcept nogil:
    if p.first_us == 0:
        if p.track.newest_us:
            span(&swarm.tally, S_versions_apart, p.track.newest_us, conn.answer.first_us)
        p.track.newest_us = conn.answer.first_us
    if p.first_us == 0 or conn.answer.first_us < p.first_us:
        p.first_us = conn.answer.first_us
    if not conn.work.blocking:
        return
    span(&swarm.tally, S_blocked, conn.sent_us, conn.answer.first_us)
    if conn.sent_us < p.first_us:
        count(&swarm.tally, T_parked, 1)
        span(&swarm.tally, S_playlist_first, p.first_us, conn.answer.first_us)
        span(&swarm.tally, S_playlist_last, p.first_us, conn.answer.last_us)


cdef inline int arrive_list(Swarm *swarm, Conn *conn) noexcept nogil:
    """Takes the version unless the viewer has a newer one, and says when to load the next."""
    cdef Lane *lane = &conn.viewer.lanes[conn.work.lane]
    cdef int error
    cdef bint changed
    cdef Playlist *p = playlist_of(swarm, lane.track, &conn.text, &conn.answer.etag, &error)
    if p == NULL:
        return error
    _list_times(swarm, conn, p)
    changed = p != lane.playlist
    if (conn.work.blocking and not _is_newer(p, conn.work.msn, conn.work.part)) or (
            changed and lane.playlist != NULL
            and _is_newer(lane.playlist, p.next_msn, p.next_part)):
        playlist_release(swarm, p)
        return T_error_stale
    playlist_release(swarm, lane.playlist)
    lane.playlist = p
    lane.list_at_us = _reload_at(swarm, lane, conn, changed)
    if not lane.placed:
        lane_place(swarm, lane)
    return error


cdef inline void _body_times(Swarm *swarm, Conn *conn, Body *body) noexcept nogil:
    span(&swarm.tally, S_wait, conn.sent_us, conn.answer.first_us)
    span(&swarm.tally, S_fetch, conn.sent_us, conn.answer.last_us)
    if conn.viewer.phase == PHASE_PLAYING:   # before that it fetches what is old already
        span(&swarm.tally, S_object_first, body.first_us, conn.answer.first_us)
        span(&swarm.tally, S_object_last, body.first_us, conn.answer.last_us)


cdef inline int arrive_body(Swarm *swarm, Conn *conn) noexcept nogil:
    """A body with wrong bytes is an error, and is played all the same: it did arrive."""
    cdef Viewer *viewer = conn.viewer
    cdef Lane *lane = &viewer.lanes[conn.work.lane]
    cdef Body *body = conn.work.body
    cdef int error = 0
    if conn.answer.differs or not body_whole(swarm, body, conn.answer.body_bytes):
        error = T_error_bytes
    if body.etag.size == 0:
        body.etag = conn.answer.etag
    elif not etag_same(&body.etag, &conn.answer.etag):
        error = T_error_etag
    if conn.work.kind == KIND_INIT:
        body_release(swarm, lane.init)
        lane.init = body
        body.refs += 1
        return error
    _body_times(swarm, conn, body)
    if conn.work.epoch == viewer.epoch:
        viewer_stalls(swarm, viewer, conn.answer.last_us)
        lane_advance(lane, &conn.work)
        viewer_gained(swarm, viewer, conn.answer.last_us)
    return error
