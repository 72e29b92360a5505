"""What one worker owns, passed by pointer to everything above: the structs of the data plane, in
one place so that their layout can be read at a glance.

Law: nothing here is touched by another thread, except the three mailboxes (see mailbox.pxd), Stats
(read racily) and the log ring. """
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from edgecache.native.address cimport Address
from edgecache.native.door cimport Door
from edgecache.native.entry cimport Entry
from edgecache.native.guest cimport GuestBox
from edgecache.native.hosts cimport Hosts
from edgecache.native.live cimport LiveVersion, Want
from edgecache.native.keep cimport Keep
from edgecache.native.log cimport LogRing
from edgecache.native.mailbox cimport Bell, DownBox, Post, UpBox
from edgecache.native.pool cimport Pool
from edgecache.native.stats cimport Stats
from edgecache.native.store cimport Store
from edgecache.native.timer cimport Timer, Wheel
from edgecache.native.types cimport Limits, Slice


cdef enum:
    CONN_MAGIC = 0x636F6E6E
    EXCHANGE_MAGIC = 0x65786368
    CONTEXT_MAGIC = 0x776F726B
    HOLD_BUCKETS = 8192
    RX_BYTES = 65536                     # one read at most; header_bytes may not exceed it
    KEY_BYTES = 3 * 16384 + 128
    SMALL_BUFFER_BYTES = 4096            # a partial head starts in one of these
    TURN_BYTES = 256 << 10               # of answers to one viewer, then others get their turn
    SHORT_BYTES = 64 << 10               # an answer with no more left waits for no pass (turn.pxd)
    NAME_BYTES = 64
    OUTPUT_TEXT_BYTES = 640
    CONGESTION_BYTES = 16                # of a TCP_CONGESTION name (TCP_CA_NAME_MAX)
    # the longest If-None-Match that survives parking: ours has 34
    VALIDATOR_BYTES = 40
    # the longest Range that survives parking: bytes= and two numbers of 19 digits have 45
    RANGE_BYTES = 48


cdef enum ConnFlag:
    # the socket may have bytes (edge-triggered: cleared by a short read)
    CONN_READABLE = 1
    CONN_WRITABLE = 2                    # the socket may take bytes (cleared by EAGAIN)
    CONN_PEER_DONE = 4                   # the peer sent FIN
    CONN_CLOSE = 8                       # close once the answer is out
    # our FIN is out; reading until the peer's, so that it gets the answer
    CONN_LINGER = 16
    CONN_QUEUED = 32                     # on the ready list
    CONN_PACED = 128                     # SO_MAX_PACING_RATE is set
    # the deadline is the end of a window in which the minimum rate counts
    CONN_TIMED = 256
    CONN_PREFACE = 512                   # its PROXY header is to come
    CONN_INSIDE = 1024                   # the door counts it
    CONN_COUNTED = 2048                  # by its address too
    CONN_TRUSTED = 4096                  # its address is a proxy of ours
    # another process may still hold its descriptor: closing ours does not end epoll's interest
    CONN_SHARED = 8192
    CONN_BORROWED = 64                   # `input` is a buffer of its own, not the worker's scratch


cdef enum Phase:
    PHASE_PARKED                         # on its hold's list; nothing sent
    PHASE_STARVED                        # on its hold's list in mid-body: more bytes are to come
    PHASE_SENDING                        # waiting for the socket, if at all


cdef struct Conn:                        # the transport of one viewer
    uint32_t magic
    int fd
    uint32_t flags                       # ConnFlag
    uint32_t requests
    Timer timer
    Address address                      # the viewer's, as far as we were told
    Conn *prev                           # all connections of the worker
    Conn *next
    Conn *next_ready
    # HTTP/1: the one under way; the next request waits behind it
    Exchange *exchange
    # bytes read and not consumed; the worker's scratch or a borrowed buffer
    unsigned char *input
    uint32_t input_off
    uint32_t input_len
    uint32_t input_cap
    uint32_t scanned                     # of the input, without an end of head
    uint64_t written                     # to the socket, in its life
    uint64_t turn_from                   # of those, when its turn began
    uint64_t acked                       # of those, when the rate window began


cdef struct Output:                      # borrowed while an answer leaves
    Slice parts[4]                       # of the head (and a small body) still to be sent
    uint64_t chunk_left                  # of the chunk under way (chunked only)
    uint32_t frame_off
    uint32_t frame_len
    unsigned char frame[24]              # chunk framing still to be sent
    char text[OUTPUT_TEXT_BYTES]


# one request and its answer: the unit that is parked and woken
cdef struct Exchange:
    uint32_t magic
    uint8_t phase
    uint8_t cache                        # CacheWord
    uint8_t method                       # Method
    # `hold` is the playlist's own; its versions, if it has any, decide
    bint by_path
    bint head_only
    bint gzip
    bint old_client                      # HTTP/1.0
    bint chunked
    bint ranged                          # asked for a range
    bint told                            # `client` is counted, by the word of a proxy of ours
    bint begun                           # some of the answer may be out: no other status any more
    int status
    Conn *conn
    Hold *hold
    LiveVersion *version                 # the one being sent; referenced
    Output *out
    Exchange *prev                       # waiters of the hold
    Exchange *next
    Want want
    Address client                       # else the connection's
    Slice validator                      # If-None-Match: in the input, in `kept` once parked
    Slice range                          # the same, in `kept_range`
    uint64_t started_us
    uint64_t parked_us
    uint64_t pos                         # next byte of the entry's body
    uint64_t end                         # one past the last; UINT64_MAX: not known yet
    uint64_t sent                        # bytes out, head included
    unsigned char kept[VALIDATOR_BYTES]
    unsigned char kept_range[RANGE_BYTES]


cdef struct Waiters:
    Exchange *first
    Exchange *last
    uint32_t count


# a worker's one shared reference to an entry, and its own count of uses
cdef struct Hold:
    Entry *entry
    LiveVersion *version                 # newest this worker has seen; referenced
    uint64_t version_seq
    Hold *chain                          # bucket
    Hold *prev                           # all holds of the worker
    Hold *next
    Hold *next_wake
    Waiters waiters                      # parked or starved
    # of the waiters, from the front, to be looked at in this pass
    uint32_t wake_left
    uint32_t uses                        # exchanges that point here
    uint32_t taken                       # whole bodies begun and not told to the entry yet
    bint interested                      # our bit is set in entry.interest
    bint queued                          # on the wake queue
    bint touched                         # used since the last sweep
    uint64_t kept_bytes                  # worth a reference while idle, which pins so much; else 0


cdef struct Context:                     # one worker
    uint32_t magic
    int index
    int epoll_fd
    int listen_fd
    int spare_fd                         # given up to tell one more that it is one too many
    uint64_t now_us
    uint64_t now_ms
    Store *store
    const Limits *limits
    Keep *keep                           # by which requests are read: one of the plane's two
    Keep *keeps                          # both; control fills the one that no worker reads
    const uint32_t *routes               # which of them counts
    uint32_t kept                        # which of them we read
    Door *door                           # the plane's
    const Hosts *hosts                   # the plane's
    Slice name
    Slice id                             # this process in CDN-Loop; the plane's
    bint draining
    bint handing                         # what ends a request goes to our successor
    bint stopping
    uint64_t pass_until_us               # this pass of the loop may take
    uint64_t accept_again_ms             # accepting is paused until; 0: it is not
    uint64_t sweep_ms                    # next housekeeping
    Hold **table
    Hold *holds
    Conn *conns
    Conn *ready_first
    Conn *ready_last
    Hold *wake_first
    Hold *wake_last
    Pool conn_pool
    Pool exchange_pool
    Pool output_pool
    Pool hold_pool
    Slice date
    # the host's congestion control where the listener has another; else empty
    char host_congestion[CONGESTION_BYTES]
    uint64_t date_again_ms               # when date_text is to be made again
    char date_text[48]
    unsigned char name_text[NAME_BYTES]
    unsigned char *rx                    # RX_BYTES of scratch
    unsigned char *key                   # KEY_BYTES of scratch
    UpBox up
    DownBox down
    GuestBox leaving                     # to the control plane
    GuestBox coming                      # back from it
    LogRing log
    Bell *control                        # rung when `up` or `log` has something
    Post *post                           # every worker's box, this one's too
    Wheel wheel
    Stats stats
