"""Playlist versions: each distinct text of a track is scanned once and shared by its viewers.

Law: the newest VERSIONS of a track are kept for comparison; older ones live while a viewer is on
them. What a version first looked like is given to Python, which checks its ETag.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp
from edgecache.native.base cimport EC_ASSERT, key_hash
from bench.swarm.native.bodies cimport body_release, bytes_add, bytes_free, etag_same
from bench.swarm.native.scan cimport SCAN_BAD, SCAN_OK, Scan, scan_playlist
from bench.swarm.native.tally cimport (
    T_error_etag, T_error_playlist, T_error_unsupported, T_versions, count,
)
from bench.swarm.native.types cimport VERSIONS, Bytes, Etag, Playlist, Swarm, Track


cdef inline void playlist_release(Swarm *swarm, Playlist *p) noexcept nogil:
    cdef uint32_t i
    if p == NULL:
        return
    EC_ASSERT(p.refs > 0)
    p.refs -= 1
    if p.refs:
        return
    for i in range(p.segment_count):
        body_release(swarm, p.segments[i].body)
        body_release(swarm, p.segments[i].init)
    for i in range(p.part_count):
        body_release(swarm, p.parts[i].body)
    free(p.segments)
    free(p.parts)
    bytes_free(&p.text)
    bytes_free(&p.request)
    free(p)


cdef inline Playlist *_known(Track *track, uint64_t hash, const Bytes *text) noexcept nogil:
    cdef uint32_t i
    cdef Playlist *p
    for i in range(<uint32_t>VERSIONS):
        p = track.versions[(track.newest + VERSIONS - i) % VERSIONS]
        if (p != NULL and p.hash == hash and p.text.size == text.size
                and memcmp(p.text.data, text.data, text.size) == 0):
            return p
    return NULL


cdef inline bint _contradicts(Track *track, const Etag *etag) noexcept nogil:
    """Whether a known version with another text has the same ETag."""
    cdef uint32_t i
    for i in range(<uint32_t>VERSIONS):
        if (track.versions[i] != NULL and etag.size
                and etag_same(&track.versions[i].etag, etag)):
            return True
    return False


cdef inline void _keep(Swarm *swarm, Track *track, Playlist *p) noexcept nogil:
    track.newest = (track.newest + 1) % VERSIONS
    playlist_release(swarm, track.versions[track.newest])
    track.versions[track.newest] = p
    p.refs += 2
    p.next_unchecked = swarm.unchecked_lists
    swarm.unchecked_lists = p
    count(&swarm.tally, T_versions, 1)


cdef inline Playlist *playlist_of(
    Swarm *swarm, Track *track, const Bytes *text, const Etag *etag, int *error,
) noexcept nogil:
    """The version with that text; the caller owns a reference. NULL: it cannot be played, and
    `error` says which tally. An ETag that contradicts is only counted by the caller."""
    cdef uint64_t hash = key_hash(text.data, text.size, swarm.seed)
    cdef Playlist *p = _known(track, hash, text)
    cdef Scan scanned
    error[0] = 0
    if p != NULL:
        p.refs += 1
        if not etag_same(&p.etag, etag):
            error[0] = T_error_etag
        return p
    if _contradicts(track, etag):
        error[0] = T_error_etag
    p = <Playlist *>calloc(1, sizeof(Playlist))
    EC_ASSERT(p != NULL)
    p.refs = 1
    p.track = track
    p.hash = hash
    p.etag = etag[0]
    bytes_add(&p.text, text.data, text.size)
    scanned = scan_playlist(swarm, p) if track.media else SCAN_OK
    if scanned != SCAN_OK:
        error[0] = T_error_playlist if scanned == SCAN_BAD else T_error_unsupported
        playlist_release(swarm, p)
        return NULL
    _keep(swarm, track, p)
    return p
