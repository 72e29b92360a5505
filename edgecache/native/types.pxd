"""Plain values shared by all native files: slices, limits. No behaviour beyond comparing and
copying bytes.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp


ctypedef const unsigned char cbyte


cdef struct Slice:                       # bytes that somebody else owns
    cbyte *data
    size_t len


cdef enum ClientField:
    CLIENT_FIELD_NONE
    CLIENT_FIELD_FORWARDED
    CLIENT_FIELD_X_FORWARDED_FOR


cdef struct Limits:                      # from the configuration; read-only once the workers run
    uint32_t header_bytes                # request head, all of it (431 beyond)
    uint32_t target_bytes                # request target (414 beyond)
    uint32_t header_fields               # fields in a request head (431 beyond)
    uint32_t first_byte_ms               # silence after accept
    uint32_t header_ms                   # first byte of a head to its end
    uint32_t keepalive_ms                # idle between requests
    uint32_t write_ms                    # window in which a viewer must take min_rate_bytes_s
    uint32_t fill_ms                     # parked on a fill (504 beyond)
    uint32_t max_connections             # all workers; 503 and close beyond
    uint32_t max_per_address             # of those; 429 and close beyond; 0: no bound
    bint reset_beyond                    # a reset instead of those answers
    bint proxy_protocol                  # connections of trusted addresses begin with PROXY
    uint32_t client_field                # ClientField: by which a trusted one names its client
    uint32_t max_parked                  # per worker; 503 beyond
    uint32_t max_holds                   # entries a worker keeps a reference to while idle
    # bodies up to this live on the heap and leave by writev; larger ones in memfds by sendfile
    uint32_t heap_max_bytes
    uint64_t pacing_bytes_s              # SO_MAX_PACING_RATE for large bodies; 0: off
    uint64_t min_rate_bytes_s            # a viewer that acknowledges less is cut


cdef inline Slice slice_of(cbyte *data, size_t length) noexcept nogil:
    cdef Slice s
    s.data = data
    s.len = length
    return s


cdef inline bint slice_equal(Slice a, Slice b) noexcept nogil:
    return a.len == b.len and memcmp(a.data, b.data, a.len) == 0
