"""The swarm: made once, run in slices by one thread without the GIL, finished, destroyed.

Between slices the caller may take what waits to be checked. Law: everything is allocated before the
first slice but bodies, playlists and texts; viewers join evenly over the ramp.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from edgecache.native.base cimport EC_ASSERT
from edgecache.native.sys cimport EPOLL_CLOEXEC, close, epoll_create1, epoll_event, epoll_wait
from bench.swarm.native.bodies cimport body_release, bytes_add, bytes_free, request_render
from bench.swarm.native.conn cimport conn_event, conn_expired, viewer_drive, viewer_leave
from bench.swarm.native.play cimport viewer_join, viewer_resumes, viewer_stalls
from bench.swarm.native.rim cimport rim_cpu_us, rim_mono_us, rim_tag, rim_wall_us
from bench.swarm.native.tally cimport T_cpu_us, T_left, T_turns, count
from bench.swarm.native.timer cimport heap_destroy, heap_due, heap_init
from bench.swarm.native.types cimport (
    PHASE_AWAY, PHASE_GONE, RX_BYTES, VERSIONS, Body, Bytes, Conn, Phase, Playlist, Swarm, Timer,
    Track, Viewer, cbyte,
)
from bench.swarm.native.versions cimport playlist_release


cdef enum:
    EVENTS = 512
    BUCKET_COUNT = 4096


cdef inline bint swarm_init(Swarm *swarm, uint32_t tracks) noexcept nogil:
    """swarm.options must be set, the rest zero. False: no memory or no epoll."""
    cdef uint32_t i
    cdef uint32_t conns = swarm.options.viewers * swarm.options.connections
    swarm.tracks = <Track *>calloc(tracks, sizeof(Track))
    swarm.track_count = tracks
    swarm.viewers = <Viewer *>calloc(swarm.options.viewers, sizeof(Viewer))
    swarm.conns = <Conn *>calloc(conns, sizeof(Conn))
    swarm.buckets = <Body **>calloc(BUCKET_COUNT, sizeof(Body *))
    swarm.bucket_mask = BUCKET_COUNT - 1
    swarm.rx = <unsigned char *>malloc(RX_BYTES)
    swarm.epoll = epoll_create1(EPOLL_CLOEXEC)
    if (swarm.tracks == NULL or swarm.viewers == NULL or swarm.conns == NULL
            or swarm.buckets == NULL or swarm.rx == NULL or swarm.epoll < 0
            or not heap_init(&swarm.heap, conns + swarm.options.viewers)):
        return False
    for i in range(conns):
        swarm.conns[i].fd = -1
        swarm.conns[i].viewer = &swarm.viewers[i // swarm.options.connections]
        swarm.conns[i].timer.owner = &swarm.conns[i]
    for i in range(swarm.options.viewers):
        swarm.viewers[i].swarm = swarm
        swarm.viewers[i].conns = &swarm.conns[i * swarm.options.connections]
        swarm.viewers[i].timer.owner = &swarm.viewers[i]
        swarm.viewers[i].timer.of_viewer = True
    return True


cdef inline void track_set(Swarm *swarm, Track *track, cbyte *path, size_t size,
                           bint media) noexcept nogil:
    track.media = media
    bytes_add(&track.path, path, size)
    request_render(swarm, &track.request, path, size)


cdef inline uint64_t _join(Swarm *swarm) noexcept nogil:
    """Whoever is due; when the next one is, or 0: all have joined."""
    cdef Viewer *viewer
    cdef uint64_t due_us
    while swarm.next_viewer < swarm.options.viewers:
        due_us = swarm.began_us + (
            swarm.options.ramp_us * swarm.next_viewer // swarm.options.viewers)
        if due_us > swarm.now_us:
            return due_us
        viewer = &swarm.viewers[swarm.next_viewer]
        swarm.next_viewer += 1
        viewer_join(swarm, viewer)
        viewer_drive(swarm, viewer)
    return 0


cdef inline void _timers(Swarm *swarm) noexcept nogil:
    cdef Timer *timer = heap_due(&swarm.heap, swarm.now_us)
    while timer != NULL:
        if timer.of_viewer:
            viewer_drive(swarm, <Viewer *>timer.owner)
        else:
            conn_expired(swarm, <Conn *>timer.owner)
        timer = heap_due(&swarm.heap, swarm.now_us)


cdef inline int _patience_ms(Swarm *swarm, uint64_t until_us, uint64_t join_us) noexcept nogil:
    if join_us and join_us < until_us:
        until_us = join_us
    if swarm.heap.size and swarm.heap.slots[1].at_us < until_us:
        until_us = swarm.heap.slots[1].at_us
    if until_us <= swarm.now_us:
        return 0
    return <int>((until_us - swarm.now_us + 999) // 1000)


cdef inline void _events(Swarm *swarm, epoll_event *events, int ready) noexcept nogil:
    cdef int i
    cdef uint64_t tag
    cdef Conn *conn
    for i in range(ready):
        tag = rim_tag(&events[i])
        conn = &swarm.conns[<uint32_t>tag]
        if conn.generation == <uint32_t>(tag >> 32) and conn.fd >= 0:
            conn_event(swarm, conn)


cdef inline void swarm_run(Swarm *swarm, uint64_t slice_us) noexcept nogil:
    """One slice of real time; the first call begins the ramp."""
    cdef epoll_event events[EVENTS]
    cdef uint64_t cpu_us = rim_cpu_us()
    cdef uint64_t until_us, join_us
    cdef int ready
    swarm.now_us = rim_mono_us()
    swarm.wall_ahead_us = rim_wall_us() - swarm.now_us
    if swarm.began_us == 0:
        swarm.began_us = swarm.now_us
    until_us = swarm.now_us + slice_us
    while swarm.now_us < until_us:
        count(&swarm.tally, T_turns, 1)
        join_us = _join(swarm)
        _timers(swarm)
        ready = epoll_wait(
            swarm.epoll, events, EVENTS, _patience_ms(swarm, until_us, join_us))
        swarm.now_us = rim_mono_us()
        _events(swarm, events, ready)
    count(&swarm.tally, T_cpu_us, rim_cpu_us() - cpu_us)


cdef inline uint32_t swarm_count(Swarm *swarm, Phase phase) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t found = 0
    for i in range(swarm.options.viewers):
        found += swarm.viewers[i].phase == phase
    return found


cdef inline void swarm_finish(Swarm *swarm) noexcept nogil:
    """Everybody leaves; stalls that go on are counted up to now. No slice may follow."""
    cdef uint32_t i
    cdef Viewer *viewer
    swarm.now_us = rim_mono_us()
    for i in range(swarm.options.viewers):
        viewer = &swarm.viewers[i]
        if viewer.phase == PHASE_AWAY or viewer.phase == PHASE_GONE:
            continue
        viewer_stalls(swarm, viewer, swarm.now_us)
        if viewer.stalled:
            viewer_resumes(swarm, viewer, swarm.now_us)
        viewer_leave(swarm, viewer, T_left)


cdef inline void _track_free(Swarm *swarm, Track *track) noexcept nogil:
    cdef int i
    for i in range(VERSIONS):
        playlist_release(swarm, track.versions[i])
    bytes_free(&track.path)
    bytes_free(&track.request)


cdef inline Body *swarm_unchecked(Swarm *swarm) noexcept nogil:
    """A whole object that nobody has checked; the caller owns the reference. NULL: none."""
    cdef Body *body = swarm.unchecked
    if body != NULL:
        swarm.unchecked = body.next_unchecked
    return body


cdef inline Playlist *swarm_unchecked_list(Swarm *swarm) noexcept nogil:
    cdef Playlist *playlist = swarm.unchecked_lists
    if playlist != NULL:
        swarm.unchecked_lists = playlist.next_unchecked
    return playlist


cdef inline void swarm_destroy(Swarm *swarm) noexcept nogil:
    """After swarm_finish(), or when swarm_init() failed."""
    cdef uint32_t i
    cdef Body *body = swarm_unchecked(swarm)
    cdef Playlist *playlist = swarm_unchecked_list(swarm)
    while body != NULL:
        body_release(swarm, body)
        body = swarm_unchecked(swarm)
    while playlist != NULL:
        playlist_release(swarm, playlist)
        playlist = swarm_unchecked_list(swarm)
    for i in range(swarm.track_count if swarm.tracks != NULL else 0):
        _track_free(swarm, &swarm.tracks[i])
    if swarm.buckets != NULL:
        for i in range(<uint32_t>BUCKET_COUNT):
            EC_ASSERT(swarm.buckets[i] == NULL)
    bytes_free(&swarm.host)
    bytes_free(&swarm.fields)
    free(swarm.tracks)
    free(swarm.viewers)
    free(swarm.conns)
    free(swarm.buckets)
    free(swarm.rx)
    heap_destroy(&swarm.heap)
    if swarm.epoll > 0:
        close(swarm.epoll)
