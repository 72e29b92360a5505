"""What a viewer wants next, and what it makes of what it gets. Decides; never touches a socket.

A viewer plays one or two lanes (video, audio). It starts HOLD-BACK (PART-HOLD-BACK) from the edge
at an independent unit, and its clock runs once everything up to the edge it saw has been fetched.
From then on a unit that comes later than the distance it started with leaves it dry: a stall, which
moves the clock. It ends when two parts (or one target duration) are at hand: with less, every later
unit would come in the instant the buffer runs dry and count again. Nothing is skipped to catch up;
a viewer whose next unit has left the playlist starts again at the edge, and is counted.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from bench.swarm.native.bodies cimport body_release
from bench.swarm.native.tally cimport (
    S_stall, S_startup, T_ended, T_error_behind, T_gaps, T_joined, T_stall_us, T_stalled_viewers,
    T_stalls, T_started, count, span,
)
from bench.swarm.native.types cimport (
    KIND_INIT, KIND_MULTIVARIANT, KIND_NONE, KIND_PART, KIND_PLAYLIST, KIND_SEGMENT, NEVER,
    PHASE_GONE, PHASE_PLAYING, PHASE_STARTING, SLACK_US, Lane, Part, Playlist, Segment, Swarm,
    Viewer, Work,
)
from bench.swarm.native.versions cimport playlist_release


cdef enum Next:
    NEXT_WAIT                            # not listed yet
    NEXT_UNIT
    NEXT_GAP
    NEXT_BEHIND


cdef inline Next lane_next(Swarm *swarm, Lane *lane, Work *work) noexcept nogil:
    """The unit at the cursor, moving it over the end of a complete segment."""
    cdef Playlist *p = lane.playlist
    cdef Segment *segment
    cdef Part *part
    if lane.msn < p.first_msn:
        return NEXT_BEHIND
    while lane.msn < p.first_msn + p.segment_count:
        segment = &p.segments[lane.msn - p.first_msn]
        if swarm.options.low_latency and segment.part_count:
            if lane.part < segment.part_count:
                part = &p.parts[segment.part_at + lane.part]
                work.kind = KIND_PART
                work.body = part.body
                work.duration_us = part.duration_us
                return NEXT_UNIT if part.body != NULL else NEXT_GAP
            if not segment.complete:
                return NEXT_WAIT
            # what the rounded durations of its parts lack of the segment's, or 20 µs would be
            # lost with each: a stall after some hours
            part = &p.parts[segment.part_at + segment.part_count - 1]
            lane.ahead_us += <int64_t>(segment.start_us + segment.duration_us
                                       - part.start_us - part.duration_us)
            lane.msn += 1
            lane.part = 0
            continue
        if lane.part > 0:                # its parts are not listed any more
            return NEXT_BEHIND
        if not segment.complete:
            return NEXT_WAIT
        work.kind = KIND_SEGMENT
        work.body = segment.body
        work.duration_us = segment.duration_us
        return NEXT_UNIT if segment.body != NULL else NEXT_GAP
    return NEXT_WAIT


cdef inline void lane_advance(Lane *lane, Work *work) noexcept nogil:
    lane.ahead_us += work.duration_us
    if work.kind == KIND_PART:
        lane.part += 1
    else:
        lane.msn += 1
        lane.part = 0


cdef inline void _place_at(Lane *lane, Segment *segment, uint32_t index, uint32_t part,
                           int64_t ahead_us) noexcept nogil:
    lane.msn = lane.playlist.first_msn + index
    lane.part = part
    lane.ahead_us = ahead_us


cdef inline void lane_place(Swarm *swarm, Lane *lane) noexcept nogil:
    """The newest independent unit that begins no later than the hold back from the edge; the
    oldest one when the playlist is shorter."""
    cdef Playlist *p = lane.playlist
    cdef bint parts = swarm.options.low_latency and p.part_target_us > 0
    cdef uint64_t edge = p.end_us if parts else p.complete_us
    cdef uint64_t hold = p.part_hold_us if parts else p.hold_us
    cdef uint64_t playhead = edge - hold if edge > hold else 0
    cdef Segment *segment
    cdef Part *part
    cdef uint32_t i, j
    lane.placed = True
    lane.resume_us = <int64_t>(2 * p.part_target_us if parts else p.target_us)
    lane.full_us = <int64_t>hold         # a stream that has just begun is waited for
    _place_at(lane, &p.segments[0], 0, 0, -<int64_t>playhead)
    for i in range(p.segment_count):
        segment = &p.segments[i]
        if segment.start_us > playhead:
            break
        if not (parts and segment.part_count):
            if segment.complete:
                _place_at(lane, segment, i, 0, <int64_t>segment.start_us - <int64_t>playhead)
            continue
        for j in range(segment.part_count):
            part = &p.parts[segment.part_at + j]
            if part.start_us <= playhead and part.independent:
                _place_at(lane, segment, i, j, <int64_t>part.start_us - <int64_t>playhead)


cdef inline int64_t viewer_ahead(Viewer *viewer) noexcept nogil:
    """Media time up to which every lane has been fetched."""
    cdef int64_t least = viewer.lanes[0].ahead_us
    if viewer.lane_count == 2 and viewer.lanes[1].ahead_us < least:
        least = viewer.lanes[1].ahead_us
    return least


cdef inline void viewer_stalls(Swarm *swarm, Viewer *viewer, uint64_t now_us) noexcept nogil:
    """Call before what has arrived is taken into account, and at the end of the run."""
    cdef uint64_t dry_us = viewer.zero_us + viewer_ahead(viewer)
    if viewer.phase == PHASE_PLAYING and not viewer.stalled and now_us > dry_us:
        viewer.stalled = True
        viewer.dry_us = dry_us
        count(&swarm.tally, T_stalls, 1)
        count(&swarm.tally, T_stalled_viewers, not viewer.has_stalled)
        viewer.has_stalled = True


cdef inline void viewer_resumes(Swarm *swarm, Viewer *viewer, uint64_t now_us) noexcept nogil:
    """After a stall the clock goes on from where it stood."""
    cdef uint64_t late_us = now_us - viewer.dry_us if now_us > viewer.dry_us else 0
    viewer.stalled = False
    viewer.zero_us += late_us
    count(&swarm.tally, T_stall_us, late_us)
    span(&swarm.tally, S_stall, viewer.dry_us, now_us)


cdef inline void viewer_gained(Swarm *swarm, Viewer *viewer, uint64_t now_us) noexcept nogil:
    """Call after a lane got ahead."""
    cdef uint64_t held_us = viewer.zero_us + viewer_ahead(viewer)
    cdef int i
    if viewer.stalled and held_us >= viewer.dry_us + viewer.lanes[0].resume_us:
        viewer_resumes(swarm, viewer, now_us)
    if viewer.phase != PHASE_STARTING:
        return
    for i in range(viewer.lane_count):
        if (not viewer.lanes[i].placed
                or viewer.lanes[i].ahead_us + SLACK_US < viewer.lanes[i].full_us):
            return
    viewer.phase = PHASE_PLAYING
    viewer.zero_us = now_us
    count(&swarm.tally, T_started, 1)
    span(&swarm.tally, S_startup, viewer.joined_us, now_us)


cdef inline void viewer_restart(Swarm *swarm, Viewer *viewer) noexcept nogil:
    """Back to the edge, with the playlist that is there."""
    cdef int i
    count(&swarm.tally, T_error_behind, 1)
    if viewer.stalled:
        viewer_resumes(swarm, viewer, swarm.now_us)
    viewer.phase = PHASE_STARTING
    viewer.epoch += 1
    viewer.joined_us = swarm.now_us
    for i in range(viewer.lane_count):
        viewer.lanes[i].placed = False
        if viewer.lanes[i].playlist != NULL:
            lane_place(swarm, &viewer.lanes[i])


cdef inline bint _lane_body(Swarm *swarm, Viewer *viewer, Lane *lane, Work *work) noexcept nogil:
    """What the lane would fetch now, if anything."""
    cdef Next what
    cdef Segment *segment
    if not lane.placed or lane.loading_body:
        return False
    what = lane_next(swarm, lane, work)
    while what == NEXT_GAP:
        count(&swarm.tally, T_gaps, 1)
        viewer_stalls(swarm, viewer, swarm.now_us)
        lane_advance(lane, work)
        viewer_gained(swarm, viewer, swarm.now_us)
        what = lane_next(swarm, lane, work)
    if what == NEXT_BEHIND:
        viewer_restart(swarm, viewer)
        return False
    if what == NEXT_WAIT:
        lane.ended = lane.playlist.ended
        return False
    segment = &lane.playlist.segments[lane.msn - lane.playlist.first_msn]
    if segment.init != NULL and segment.init != lane.init:
        work.kind = KIND_INIT
        work.body = segment.init
        work.duration_us = 0
    return True


cdef inline void _pick_body(Swarm *swarm, Viewer *viewer, Work *picked,
                            uint64_t *later_us) noexcept nogil:
    """The unit of the lane that has least."""
    cdef Work work
    cdef Lane *lane
    cdef int i
    for i in range(viewer.lane_count):
        lane = &viewer.lanes[i]
        memset(&work, 0, sizeof(work))
        if not _lane_body(swarm, viewer, lane, &work):
            continue
        if lane.body_at_us > swarm.now_us:
            later_us[0] = min(later_us[0], lane.body_at_us)
        elif (picked.kind == KIND_NONE
                or lane.ahead_us < viewer.lanes[picked.lane].ahead_us):
            work.lane = i
            work.epoch = viewer.epoch
            picked[0] = work


cdef inline void _pick_list(Swarm *swarm, Viewer *viewer, Work *picked,
                            uint64_t *later_us) noexcept nogil:
    """The reload that has been due longest."""
    cdef Lane *lane
    cdef int i
    for i in range(viewer.lane_count):
        lane = &viewer.lanes[i]
        if lane.loading_list or (lane.playlist != NULL and lane.playlist.ended):
            continue
        if lane.list_at_us > swarm.now_us:
            later_us[0] = min(later_us[0], lane.list_at_us)
        elif (picked.kind == KIND_NONE
                or lane.list_at_us < viewer.lanes[picked.lane].list_at_us):
            picked.kind = KIND_PLAYLIST
            picked.lane = i


cdef inline bint viewer_over(Swarm *swarm, Viewer *viewer) noexcept nogil:
    """Whether every lane has come to its end."""
    cdef int i
    for i in range(viewer.lane_count):
        if not viewer.lanes[i].ended or viewer.lanes[i].loading_body:
            return False
    return viewer.lane_count > 0


cdef inline bint viewer_pick(Swarm *swarm, Viewer *viewer, Work *work,
                             uint64_t *later_us) noexcept nogil:
    """The most urgent request that can be sent now; else False, and when to ask again (NEVER:
    when something has arrived). Media before playlists: a reload may be held for long."""
    cdef Lane *lane
    memset(work, 0, sizeof(Work))
    work.epoch = viewer.epoch
    later_us[0] = <uint64_t>-1
    if swarm.multivariant != NULL and not viewer.has_multivariant:
        if not viewer.loading_multivariant:
            if viewer.multivariant_at_us <= swarm.now_us:
                work.kind = KIND_MULTIVARIANT
                return True
            later_us[0] = viewer.multivariant_at_us
    else:
        _pick_body(swarm, viewer, work, later_us)
        if work.kind == KIND_NONE:
            _pick_list(swarm, viewer, work, later_us)
    if work.kind == KIND_PLAYLIST:
        lane = &viewer.lanes[work.lane]
        if lane.playlist != NULL and swarm.options.low_latency and lane.playlist.can_block:
            work.blocking = lane.playlist.part_target_us > 0
            work.msn = lane.playlist.next_msn
            work.part = lane.playlist.next_part
    if later_us[0] == <uint64_t>-1:
        later_us[0] = NEVER
    return work.kind != KIND_NONE


cdef inline void viewer_join(Swarm *swarm, Viewer *viewer) noexcept nogil:
    viewer.phase = PHASE_STARTING
    viewer.joined_us = swarm.now_us
    count(&swarm.tally, T_joined, 1)


cdef inline void viewer_end(Swarm *swarm, Viewer *viewer, int why) noexcept nogil:
    """Gives up what it holds; connections are the caller's."""
    cdef int i
    viewer.phase = PHASE_GONE
    count(&swarm.tally, why, 1)
    for i in range(viewer.lane_count):
        playlist_release(swarm, viewer.lanes[i].playlist)
        viewer.lanes[i].playlist = NULL
        body_release(swarm, viewer.lanes[i].init)
        viewer.lanes[i].init = NULL
