"""Every struct of the swarm: plain data, owned by the one thread that runs the loop.

Times are monotonic microseconds unless named otherwise; media time is in microseconds too.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from edgecache.native.types cimport Slice, cbyte
from bench.swarm.native.tally cimport Tally


cdef enum:
    VERSIONS = 8                         # newest playlist versions kept for comparison, per track
    LANES = 2                            # a viewer's tracks: video, and audio when it is separate
    CONNECTIONS_MAX = 6                  # per viewer: what browsers open to one host
    ETAG_BYTES = 64
    PATH_BYTES = 2048
    HEAD_BYTES = 16384
    PLAYLIST_BYTES = 1 << 20
    RX_BYTES = 256 << 10                 # of one read; stays in the second-level cache
    NEVER = 0
    SLACK_US = 5000                      # playlists round durations: as good as full


cdef struct Track
cdef struct Viewer
cdef struct Swarm


cdef struct Etag:
    uint8_t size                         # 0: the server sent none
    char text[ETAG_BYTES]


cdef struct Bytes:                       # growable, owned
    unsigned char *data
    size_t size
    size_t room


cdef struct Body:                        # a media object and its reference copy
    Body *next                           # in its bucket
    Body *next_unchecked                 # waiting for Python to check the digest
    uint64_t hash
    uint32_t refs
    Bytes path
    Bytes request                        # the same for every viewer
    Bytes copy                           # as first received; grows with the fastest viewer
    int64_t total                        # whole length; -1: not known yet
    Etag etag
    uint64_t first_us                    # anybody's first byte; 0: nobody has one
    bint queued                          # was given to Python, or waits for it


cdef struct Part:
    Body *body                           # NULL for a gap
    uint64_t start_us                    # from the first listed segment
    uint64_t duration_us
    bint independent


cdef struct Segment:
    Body *body                           # NULL while incomplete, and for a gap
    Body *init                           # NULL: none needed
    uint64_t start_us
    uint64_t duration_us
    uint32_t part_at                     # index of its first part
    uint32_t part_count
    bint complete


cdef struct Playlist:                    # one version, parsed once, shared by every viewer on it
    uint32_t refs
    uint64_t hash
    Bytes text
    Etag etag
    uint64_t first_us                    # anybody's first byte of this version
    Playlist *next_unchecked
    Track *track
    Segment *segments
    uint32_t segment_count
    Part *parts
    uint32_t part_count
    uint64_t first_msn                   # of segments[0]
    uint64_t next_msn                    # what a blocking reload asks for next
    uint32_t next_part
    uint64_t end_us                      # media time at the edge
    uint64_t complete_us                 # the same, without the segment that is not complete
    uint64_t target_us
    uint64_t part_target_us
    uint64_t hold_us
    uint64_t part_hold_us
    bint can_block
    bint can_skip
    bint ended
    Bytes request                        # the next reload


cdef struct Track:
    bint media                           # False: the multivariant playlist, which is not parsed
    Bytes path
    Bytes request                        # the first load
    Playlist *versions[VERSIONS]
    uint32_t newest
    uint64_t newest_us                   # when anybody first saw it; 0: nobody has


cdef struct Timer:
    uint64_t due_us                      # NEVER: off
    uint64_t at_us                       # its key in the heap; never later than due_us
    uint32_t place                       # in the heap, from 1; 0: not there
    bint of_viewer
    void *owner


cdef struct Heap:
    Timer **slots                        # slots[0] is not used
    uint32_t size
    uint32_t room


cdef enum Kind:
    KIND_NONE
    KIND_MULTIVARIANT
    KIND_PLAYLIST
    KIND_INIT
    KIND_PART
    KIND_SEGMENT


cdef struct Work:
    Kind kind
    uint8_t lane
    bint blocking
    Body *body                           # referenced; NULL for playlists
    uint64_t duration_us                 # media time it brings
    uint32_t epoch                       # of the viewer, when it was asked for
    uint64_t msn                         # what a blocking reload asked for
    uint32_t part


cdef enum State:
    STATE_CLOSED
    STATE_CONNECTING
    STATE_IDLE
    STATE_HEAD
    STATE_BODY


cdef enum Framing:
    FRAMING_LENGTH
    FRAMING_CHUNKED
    FRAMING_CLOSE


cdef struct Answer:
    int status
    Framing framing
    int64_t left                         # of the body, or of the chunk
    uint8_t chunk_state
    bint closes
    bint differs                         # from the reference copy
    Etag etag
    uint64_t body_bytes
    uint64_t first_us                    # arrival of the first byte; 0: none yet
    uint64_t last_us


cdef struct Conn:
    Timer timer                          # deadline of what it waits for
    Viewer *viewer
    int fd
    uint32_t generation                  # tells events of an earlier socket apart
    State state
    bint reused
    Work work
    uint64_t sent_us
    Answer answer
    Bytes held                           # a head that came in pieces
    Bytes text                           # a playlist being received


cdef struct Lane:
    Track *track
    Playlist *playlist                   # referenced; NULL before the first
    Body *init                           # referenced: the one it has
    bint placed
    bint ended
    bint loading_list
    bint loading_body
    uint64_t msn                         # next unit
    uint32_t part
    int64_t ahead_us                     # media fetched, counted from where the playhead starts
    int64_t full_us                      # ahead_us at which playing may start
    int64_t resume_us                    # what it must hold to go on after a stall
    uint64_t list_at_us                  # no reload before
    uint64_t body_at_us                  # no fetch before


cdef enum Phase:
    PHASE_AWAY
    PHASE_STARTING
    PHASE_PLAYING
    PHASE_GONE


cdef struct Viewer:
    Timer timer
    Swarm *swarm
    Conn *conns
    Phase phase
    bint has_multivariant
    bint loading_multivariant
    uint64_t multivariant_at_us          # not before
    uint8_t lane_count
    Lane lanes[LANES]
    uint32_t epoch                       # grows when it starts again: what is under way is stale
    uint32_t failures                    # in a row
    uint64_t joined_us
    uint64_t zero_us                     # when the playhead was, or would have been, at 0
    bint stalled
    bint has_stalled
    uint64_t dry_us                      # since when


cdef struct Options:
    uint32_t ip                          # network order
    uint16_t port
    uint32_t source                      # 0: any
    uint32_t viewers
    uint32_t connections                 # per viewer
    uint32_t tries                       # errors in a row until a viewer gives up
    bint low_latency
    bint skip
    uint64_t ramp_us
    uint64_t timeout_us
    uint64_t retry_us


cdef struct Swarm:
    Options options
    Bytes host                           # authority of the URL
    Bytes fields                         # after the target in every request, and the empty line
    Track *tracks
    uint32_t track_count
    Track *multivariant                  # NULL: the URL is a media playlist
    Viewer *viewers
    Conn *conns
    Body **buckets
    uint32_t bucket_mask
    uint64_t seed[4]
    Body *unchecked
    Playlist *unchecked_lists
    Heap heap
    Tally tally
    int epoll
    unsigned char *rx
    uint64_t began_us
    uint64_t wall_ahead_us               # wall clock less monotonic clock
    uint64_t now_us                      # at the beginning of this turn
    uint32_t next_viewer                 # who joins next
