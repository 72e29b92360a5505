"""Live values: the newest version of a playlist, rendered by the origin, held and released here.

A version says which media it lists: segment `msn` is the first that is not complete, `parts` of its
parts are there, and segment msn − 1 had `last_parts`. What a request may wait for and what
satisfies it is RFC 8216bis 6.2.5.2, decided by two pure functions on those three numbers.

Law: a LiveVersion is immutable and reference-counted (the entry holds one, every worker that serves
it one). One allocation: struct, bodies, heads apart. """
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from edgecache.native.base cimport (
    EC_CHECK, EC_LIVE_VERSION, live_add, ref_acquire, ref_release, total_add,
)
from edgecache.native.head cimport Head, head_free, head_new
from edgecache.native.types cimport Slice


cdef enum:
    VERSION_MAGIC = 0x76657273


cdef enum:                               # variants: bit 0 is gzip, above it which delta update
    VARIANT_GZIP = 1
    VARIANT_DELTA = 2                    # _HLS_skip=YES
    VARIANT_DELTA2 = 4                   # _HLS_skip=v2
    VARIANTS = 6


cdef enum WantVerdict:
    WANT_READY                           # the version lists it
    WANT_WAIT                            # it will come: park
    WANT_BAD                             # further ahead than the server has to hold (400)


cdef struct Want:                        # what a request asked for
    uint64_t msn
    uint32_t part
    bint has_msn
    bint has_part
    bint delta
    bint v2                              # a delta may leave out date ranges, too


cdef struct Rendering:
    Head *head                           # NULL: variant not offered
    Head *waited                         # of answers to blocking requests; NULL: the same
    uint8_t *body                        # inside the version's block
    uint32_t len


cdef struct LiveVersion:
    uint32_t magic
    uint32_t refs
    uint64_t msn
    uint32_t parts
    uint32_t last_parts
    # how long a request may wait (3 × target duration); 0: never blocks
    uint32_t hold_ms
    uint32_t advance                     # Advance Part Limit, in parts
    bint ended                           # ENDLIST: directives are ignored
    bint pulled                          # asked for at an origin, not pushed
    uint64_t published_us                # monotonic
    uint64_t charged
    uint64_t *used
    Rendering renderings[VARIANTS]


cdef inline LiveVersion *version_new(Slice *bodies, Slice *fields, Slice *waited, Slice *etags,
                                     uint64_t *used) noexcept nogil:
    """A body with data NULL is a variant not offered; `waited`: the fields of answers to blocking
    requests, which may be kept for longer (RFC 8216bis B.1), data NULL: the same. The caller fills
    in the numbers and owns one reference. NULL: no memory."""
    cdef size_t total = 0
    cdef int i
    cdef uint8_t *p
    cdef LiveVersion *version
    for i in range(VARIANTS):
        total += bodies[i].len
    version = <LiveVersion *>malloc(sizeof(LiveVersion) + total)
    if version == NULL:
        return NULL
    memset(version, 0, sizeof(LiveVersion))
    live_add(EC_LIVE_VERSION, 1)
    version.magic = VERSION_MAGIC
    version.refs = 1
    version.used = used
    version.charged = sizeof(LiveVersion) + total
    total_add(used, <long long>version.charged)
    p = <uint8_t *>(version + 1)
    for i in range(VARIANTS):
        if bodies[i].data == NULL:
            continue
        memcpy(p, bodies[i].data, bodies[i].len)
        version.renderings[i].body = p
        version.renderings[i].len = <uint32_t>bodies[i].len
        version.renderings[i].head = head_new(200, <long long>bodies[i].len, fields[i], etags[i])
        if waited[i].data != NULL:
            version.renderings[i].waited = head_new(200, <long long>bodies[i].len, waited[i],
                                                    etags[i])
        if version.renderings[i].head == NULL or (waited[i].data != NULL
                                                  and version.renderings[i].waited == NULL):
            version_release(version)
            return NULL
        p += bodies[i].len
    return version


cdef inline void version_acquire(LiveVersion *version) noexcept nogil:
    EC_CHECK(version, VERSION_MAGIC)
    ref_acquire(&version.refs)


cdef inline void version_release(LiveVersion *version) noexcept nogil:
    cdef int i
    if version == NULL:
        return
    EC_CHECK(version, VERSION_MAGIC)
    if not ref_release(&version.refs):
        return
    for i in range(VARIANTS):
        head_free(version.renderings[i].head)
        head_free(version.renderings[i].waited)
    total_add(version.used, -<long long>version.charged)
    version.magic = 0
    free(version)
    live_add(EC_LIVE_VERSION, -1)


cdef inline bint version_newer(uint64_t msn, uint32_t parts, bint ended,
                               LiveVersion *than) noexcept nogil:
    """Ending is the last version; a value that never blocks is replaced by whatever arrives."""
    if than.hold_ms == 0:
        return True
    if than.ended:
        return False
    return ended or msn > than.msn or (msn == than.msn and parts > than.parts)


cdef inline Rendering *version_rendering(LiveVersion *version, bint delta, bint v2,
                                         bint gzip) noexcept nogil:
    """The best variant on offer for what was accepted; full and plain is always there."""
    cdef int wanted = VARIANT_DELTA2 if v2 else VARIANT_DELTA if delta else 0
    while wanted and version.renderings[wanted].head == NULL:
        wanted -= VARIANT_DELTA
    if gzip and version.renderings[wanted | VARIANT_GZIP].head != NULL:
        wanted |= VARIANT_GZIP
    return &version.renderings[wanted]


cdef inline bint version_lists(LiveVersion *version, Want *want) noexcept nogil:
    """RFC 8216bis 6.2.5.2: part N of M with N past the end of M is part 0 of M+1."""
    if version.hold_ms == 0 or version.ended or not want.has_msn:
        return True
    if not want.has_part:
        return want.msn < version.msn
    if want.msn + 1 < version.msn:
        return True
    if want.msn + 1 == version.msn:
        return want.part < version.last_parts or version.parts > 0
    return want.msn == version.msn and want.part < version.parts


cdef inline WantVerdict version_judge(LiveVersion *version, Want *want) noexcept nogil:
    """6.2.5.2: more than two past the last Media Segment, or beyond the Advance Part Limit, is
    refused at once."""
    cdef uint64_t span
    cdef uint64_t ahead
    if version_lists(version, want):
        return WANT_READY
    if want.msn > version.msn + 1:       # the last listed segment is msn - 1: msn + 1 is last + 2
        return WANT_BAD
    if want.has_part and version.advance and want.msn >= version.msn:
        span = version.last_parts if version.last_parts else 1
        ahead = (want.msn - version.msn) * span + want.part + 1
        if ahead > version.parts + <uint64_t>version.advance:
            return WANT_BAD
    return WANT_WAIT
