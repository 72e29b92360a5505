"""A media playlist's text into a Playlist: only the tags a viewer acts on (RFC 8216bis section 4).

Contract: scan_playlist() answers OK, BAD (not a media playlist) or UNSUPPORTED (byte ranges, or a
URI on another host). The playlist is destroyed by its owner either way. Each distinct version is
scanned once for all viewers, so this may take its time.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport realloc
from libc.string cimport memchr, memcmp, memcpy, memset, strlen
from edgecache.native.base cimport EC_ASSERT
from edgecache.native.types cimport Slice, cbyte, slice_of
from bench.swarm.native.bodies cimport body_find, body_release, request_render
from bench.swarm.native.rim cimport memmem
from bench.swarm.native.types cimport PATH_BYTES, Body, Part, Playlist, Segment, Swarm, Track


cdef enum Scan:
    SCAN_OK
    SCAN_BAD
    SCAN_UNSUPPORTED


cdef struct Scanner:
    Swarm *swarm
    Playlist *playlist
    Body *init                           # referenced: what MAP said last
    uint64_t duration_us                 # of the segment whose URI comes next
    uint64_t skipped
    bint gap
    bint open                            # the last segment is not complete
    bint bounded                         # TARGETDURATION was there


cdef inline bint starts(Slice text, const char *prefix) noexcept nogil:
    cdef size_t size = strlen(prefix)
    return text.len >= size and memcmp(text.data, prefix, size) == 0


cdef inline Slice after(Slice text, size_t size) noexcept nogil:
    return slice_of(text.data + size, text.len - size)


cdef inline Slice attribute(Slice tag, const char *name) noexcept nogil:
    """Value of an attribute, without quotes; data NULL: not there."""
    cdef size_t size = strlen(name)
    cdef cbyte *p = <cbyte *>memchr(tag.data, c':', tag.len)
    cdef cbyte *end = tag.data + tag.len
    cdef cbyte *value
    cdef cbyte *stop
    cdef bint wanted
    p = p + 1 if p != NULL else end
    while p < end:
        while p < end and p[0] == c' ':
            p += 1
        value = <cbyte *>memchr(p, c'=', end - p)
        if value == NULL:
            break
        wanted = <size_t>(value - p) == size and memcmp(p, name, size) == 0
        value += 1
        if value < end and value[0] == c'"':
            value += 1
            stop = <cbyte *>memchr(value, c'"', end - value)
            if stop == NULL:
                break
            p = stop + 1
        else:
            stop = <cbyte *>memchr(value, c',', end - value)
            stop = stop if stop != NULL else end
            p = stop
        if wanted:
            return slice_of(value, stop - value)
        p = <cbyte *>memchr(p, c',', end - p)
        if p == NULL:
            break
        p += 1
    return slice_of(NULL, 0)


cdef inline bint is_yes(Slice value) noexcept nogil:
    return value.len == 3 and memcmp(value.data, b"YES", 3) == 0


cdef inline uint64_t integer(Slice text) noexcept nogil:
    cdef uint64_t value = 0
    cdef size_t i = 0
    while i < text.len and i < 18 and c'0' <= text.data[i] <= c'9':
        value = value * 10 + (text.data[i] - c'0')
        i += 1
    return value


cdef inline uint64_t micros(Slice text) noexcept nogil:
    """Decimal seconds as whole microseconds."""
    cdef uint64_t value = integer(text)
    cdef int digits = 0
    cdef size_t i = 0
    while i < text.len and text.data[i] != c'.':
        i += 1
    i += 1
    while digits < 6:
        value *= 10
        if i < text.len and c'0' <= text.data[i] <= c'9':
            value += text.data[i] - c'0'
            i += 1
        digits += 1
    return value


cdef inline size_t _normal(unsigned char *path, size_t size) noexcept nogil:
    """Takes `.` and `..` out of an absolute path, in place; the query stays as it is."""
    cdef size_t at = 0
    cdef size_t out = 0
    cdef size_t end
    cdef cbyte *found = <cbyte *>memchr(path, c'?', size)
    cdef size_t limit = found - path if found != NULL else size
    while at < limit:                    # at a slash
        found = <cbyte *>memchr(path + at + 1, c'/', limit - at - 1)
        end = found - path if found != NULL else limit
        if end - at == 2 and path[at + 1] == c'.':
            out += end == limit          # "/." at the end keeps its slash
        elif end - at == 3 and path[at + 1] == c'.' and path[at + 2] == c'.':
            while out > 0 and path[out - 1] != c'/':
                out -= 1
            out -= out > 0
        else:
            for at in range(at, end):
                path[out] = path[at]
                out += 1
        at = end
    for at in range(limit, size):
        path[out] = path[at]
        out += 1
    return out


cdef inline Body *resolved(Scanner *s, Slice uri) noexcept nogil:
    """The object a URI names, referenced; NULL when it is on another host or too long."""
    cdef unsigned char path[PATH_BYTES]
    cdef Track *track = s.playlist.track
    cdef size_t base = 0
    cdef cbyte *found
    if starts(uri, b"http://"):
        uri = after(uri, 7)
        if uri.len <= s.swarm.host.size or memcmp(uri.data, s.swarm.host.data, s.swarm.host.size):
            return NULL
        uri = after(uri, s.swarm.host.size)
        if uri.data[0] != c'/':
            return NULL
    elif starts(uri, b"https://") or starts(uri, b"//"):
        return NULL
    elif uri.len and uri.data[0] != c'/':
        found = <cbyte *>memchr(track.path.data, c'?', track.path.size)
        base = found - track.path.data if found != NULL else track.path.size
        while base > 0 and track.path.data[base - 1] != c'/':
            base -= 1
    if base + uri.len > PATH_BYTES:
        return NULL
    memcpy(path, track.path.data, base)
    memcpy(path + base, uri.data, uri.len)
    return body_find(s.swarm, path, _normal(path, base + uri.len))


cdef inline Segment *_segment(Scanner *s) noexcept nogil:
    """The segment being listed: the open one, or a new one at the end."""
    cdef Playlist *p = s.playlist
    cdef Segment *segment
    if s.open:
        return &p.segments[p.segment_count - 1]
    if (p.segment_count & (p.segment_count - 1)) == 0:
        p.segments = <Segment *>realloc(
            p.segments, sizeof(Segment) * (2 * p.segment_count if p.segment_count else 1))
        EC_ASSERT(p.segments != NULL)
    segment = &p.segments[p.segment_count]
    memset(segment, 0, sizeof(Segment))
    segment.part_at = p.part_count
    segment.start_us = p.end_us
    segment.init = s.init
    if s.init != NULL:
        s.init.refs += 1
    p.segment_count += 1
    s.open = True
    return segment


cdef inline Scan _part(Scanner *s, Slice line) noexcept nogil:
    cdef Playlist *p = s.playlist
    cdef Segment *segment = _segment(s)
    cdef Slice uri = attribute(line, b"URI")
    cdef Part *part
    if uri.data == NULL:
        return SCAN_BAD
    if attribute(line, b"BYTERANGE").data != NULL:
        return SCAN_UNSUPPORTED
    if (p.part_count & (p.part_count - 1)) == 0:
        p.parts = <Part *>realloc(p.parts, sizeof(Part) * (2 * p.part_count if p.part_count else 1))
        EC_ASSERT(p.parts != NULL)
    part = &p.parts[p.part_count]
    memset(part, 0, sizeof(Part))
    part.start_us = p.end_us
    part.duration_us = micros(attribute(line, b"DURATION"))
    part.independent = is_yes(attribute(line, b"INDEPENDENT"))
    p.part_count += 1
    segment.part_count += 1
    p.end_us += part.duration_us
    if not is_yes(attribute(line, b"GAP")):
        part.body = resolved(s, uri)
        if part.body == NULL:
            return SCAN_UNSUPPORTED
    return SCAN_OK


cdef inline Scan _uri(Scanner *s, Slice line) noexcept nogil:
    """A line that is no tag: the open segment is complete."""
    cdef Playlist *p = s.playlist
    cdef Segment *segment = _segment(s)
    segment.complete = True
    segment.duration_us = s.duration_us
    p.end_us = segment.start_us + s.duration_us
    p.complete_us = p.end_us
    s.open = False
    if not s.gap:
        segment.body = resolved(s, line)
        if segment.body == NULL:
            return SCAN_UNSUPPORTED
    s.gap = False
    return SCAN_OK


cdef inline Scan _map(Scanner *s, Slice line) noexcept nogil:
    cdef Slice uri = attribute(line, b"URI")
    if uri.data == NULL:
        return SCAN_BAD
    if attribute(line, b"BYTERANGE").data != NULL:
        return SCAN_UNSUPPORTED
    body_release(s.swarm, s.init)
    s.init = resolved(s, uri)
    return SCAN_OK if s.init != NULL else SCAN_UNSUPPORTED


cdef inline void _control(Playlist *p, Slice line) noexcept nogil:
    p.can_block = is_yes(attribute(line, b"CAN-BLOCK-RELOAD"))
    p.can_skip = attribute(line, b"CAN-SKIP-UNTIL").data != NULL
    p.hold_us = micros(attribute(line, b"HOLD-BACK"))
    p.part_hold_us = micros(attribute(line, b"PART-HOLD-BACK"))


cdef inline Scan _line(Scanner *s, Slice line) noexcept nogil:
    cdef Playlist *p = s.playlist
    if line.data[0] != c'#':
        return _uri(s, line)
    if starts(line, b"#EXT-X-PART:"):
        return _part(s, line)
    if starts(line, b"#EXTINF:"):
        s.duration_us = micros(after(line, 8))
    elif starts(line, b"#EXT-X-MAP:"):
        return _map(s, line)
    elif starts(line, b"#EXT-X-GAP"):
        s.gap = True
    elif starts(line, b"#EXT-X-TARGETDURATION:"):
        p.target_us = integer(after(line, 22)) * 1000000
        s.bounded = True
    elif starts(line, b"#EXT-X-MEDIA-SEQUENCE:"):
        p.first_msn = integer(after(line, 22))
    elif starts(line, b"#EXT-X-SKIP:"):
        s.skipped = integer(attribute(line, b"SKIPPED-SEGMENTS"))
    elif starts(line, b"#EXT-X-PART-INF:"):
        p.part_target_us = micros(attribute(line, b"PART-TARGET"))
    elif starts(line, b"#EXT-X-SERVER-CONTROL:"):
        _control(p, line)
    elif starts(line, b"#EXT-X-ENDLIST"):
        p.ended = True
    elif starts(line, b"#EXT-X-BYTERANGE"):
        return SCAN_UNSUPPORTED
    return SCAN_OK


cdef inline void _finish(Scanner *s) noexcept nogil:
    """What the lines add up to: where the edge is, what to ask for next, default distances."""
    cdef Playlist *p = s.playlist
    cdef Track *track = p.track
    cdef unsigned char path[PATH_BYTES + 96]
    cdef const char *skip = b""
    cdef char join = c'?'
    cdef int size
    p.first_msn += s.skipped
    p.next_msn = p.first_msn + p.segment_count
    p.next_part = 0
    if s.open:
        p.next_msn -= 1
        p.next_part = p.segments[p.segment_count - 1].part_count
    if p.hold_us < 3 * p.target_us:      # 4.4.3.8: the default, and the least allowed
        p.hold_us = 3 * p.target_us
    if p.part_hold_us < 2 * p.part_target_us:
        p.part_hold_us = 2 * p.part_target_us
    if not (s.swarm.options.low_latency and p.can_block and p.part_target_us):
        request_render(s.swarm, &p.request, track.path.data, track.path.size)
        return
    if memchr(track.path.data, c'?', track.path.size) != NULL:
        join = c'&'
    if s.swarm.options.skip and p.can_skip:
        skip = b"&_HLS_skip=YES"
    size = snprintf(
        <char *>path, sizeof(path), "%.*s%c_HLS_msn=%llu&_HLS_part=%u%s", <int>track.path.size,
        <char *>track.path.data, join, <unsigned long long>p.next_msn, p.next_part,
        skip)
    EC_ASSERT(0 < size < <int>sizeof(path))
    request_render(s.swarm, &p.request, path, size)


cdef inline Scan scan_playlist(Swarm *swarm, Playlist *playlist) noexcept nogil:
    """Fills in everything that playlist.text says; playlist.track must be set."""
    cdef Scanner s
    cdef Scan result = SCAN_OK
    cdef cbyte *p = playlist.text.data
    cdef cbyte *end = p + playlist.text.size
    cdef cbyte *stop
    cdef Slice line
    memset(&s, 0, sizeof(s))
    s.swarm = swarm
    s.playlist = playlist
    if playlist.text.size < 7 or memcmp(p, b"#EXTM3U", 7) != 0:
        return SCAN_BAD
    while p < end and result == SCAN_OK:
        stop = <cbyte *>memchr(p, c'\n', end - p)
        line = slice_of(p, (stop if stop != NULL else end) - p)
        p = stop + 1 if stop != NULL else end
        if line.len and line.data[line.len - 1] == c'\r':
            line.len -= 1
        if line.len:
            result = _line(&s, line)
    body_release(swarm, s.init)
    if result == SCAN_OK and not (s.bounded and playlist.segment_count):
        return SCAN_BAD
    if result == SCAN_OK:
        _finish(&s)
    return result
