"""Exchange: one request and its answer. Parked, woken, sent.

exchange_decide() looks at the entry and either begins the answer or parks; every wake runs it
again. exchange_send() moves bytes (send.pxd) and waits on the hold when the fill has no more for
now. What it does not know: how requests are framed, and which one comes next on the connection
(http1.pxd).

Law: an exchange belongs to one connection and one hold. Nothing of an answer leaves before its
status is settled, so a failed fill can still become a 502 for everybody parked. """
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from edgecache.native.base cimport (
    EC_ASSERT, clock_us, clock_wall_ns, load_acquire_u64, load_relaxed_u64,
)
from edgecache.native.context cimport (
    CONN_CLOSE, CONN_PACED, EXCHANGE_MAGIC, OUTPUT_TEXT_BYTES, PHASE_PARKED, PHASE_SENDING,
    PHASE_STARVED, RANGE_BYTES, VALIDATOR_BYTES, Conn, Context, Exchange, Hold, Output,
)
from edgecache.native.conn cimport PACE_FROM_BYTES, conn_deadline, conn_pace
from edgecache.native.door cimport (
    ADMIT_COUNTED, ADMIT_CROWDED, Admission, door_forget, door_judge,
)
from edgecache.native.entry cimport (
    ENTRY_COMPLETE, ENTRY_FAILED, ENTRY_FILLING, ENTRY_LIVE, Entry, EntryState, entry_dead,
    entry_filled, entry_head, entry_state,
)
from edgecache.native.forwarded cimport forwarded_client
from edgecache.native.head cimport Head, head_etag, head_fields, head_full
from edgecache.native.hold cimport hold_interest, hold_park, hold_refresh, hold_unpark, hold_unuse
from edgecache.native.live cimport (
    WANT_BAD, WANT_WAIT, LiveVersion, WantVerdict, Rendering, version_acquire, version_judge,
    version_release, version_rendering,
)
from edgecache.native.log cimport (
    CACHE_ERROR, CACHE_HIT, CACHE_LIVE, CACHE_STALE, CACHE_WOKEN, CacheWord, LogRecord, log_claim,
    log_commit, log_target,
)
from edgecache.native.mailbox cimport bell_ring
from edgecache.native.pool cimport pool_give, pool_take
from edgecache.native.resolve cimport resolve_again, resolve_full
from edgecache.native.response cimport (
    RANGE_IGNORE, RANGE_MAX, RANGE_OK, RANGE_UNSATISFIABLE, RangeVerdict, date_write, error_body,
    error_head, etag_listed, partial_line, preflight_head, range_parse, tail_write, unframed_line,
)
from edgecache.native.send cimport (
    PROGRESS_BLOCKED, PROGRESS_BROKEN, PROGRESS_DONE, PROGRESS_PARKED, PROGRESS_STARVED, Progress,
    answer_available, send_answer,
)
from edgecache.native.stats cimport (
    C_hits, C_live_hits, C_log_dropped, C_not_modified, C_park_timeout, C_parked, C_parked_now,
    C_ranges, C_shed, C_stale, C_unanswered, C_woken, H_fill_wait, H_live_wait, H_wake_lag,
    stat_add, stat_status, stat_time,
)
from edgecache.native.types cimport CLIENT_FIELD_FORWARDED, Slice, cbyte, slice_of


cdef inline Exchange *exchange_new(Context *ctx, Conn *conn) noexcept nogil:
    cdef Exchange *x = <Exchange *>pool_take(&ctx.exchange_pool)
    if x == NULL:
        return NULL
    x.magic = EXCHANGE_MAGIC
    x.conn = conn
    x.phase = PHASE_SENDING
    x.client = conn.address
    x.started_us = ctx.now_us
    x.end = UINT64_MAX
    conn.exchange = x
    return x


cdef inline void _leave_list(Context *ctx, Exchange *x) noexcept nogil:
    if x.phase != PHASE_SENDING:
        hold_unpark(x.hold, x)
        stat_add(&ctx.stats, C_parked_now, <uint64_t>-1)
        x.phase = PHASE_SENDING


cdef inline void exchange_free(Context *ctx, Exchange *x) noexcept nogil:
    """Lets go of everything it holds, wherever it stands."""
    _leave_list(ctx, x)
    if not x.begun:
        stat_add(&ctx.stats, C_unanswered, 1)
    if x.out != NULL:
        pool_give(&ctx.output_pool, x.out)
    version_release(x.version)
    if x.hold != NULL:
        hold_unuse(ctx, x.hold)
    if x.told:
        door_forget(ctx.door, ctx.limits, x.client)
    x.conn.exchange = NULL
    pool_give(&ctx.exchange_pool, x)


cdef inline bint exchange_of(Context *ctx, Exchange *x, Slice field) noexcept nogil:
    """A proxy of ours asks, and `field` may say for whom: that address has this request from now
    on. False: it has its share already."""
    cdef Admission admission
    if not forwarded_client(field, ctx.limits.client_field == CLIENT_FIELD_FORWARDED, ctx.door,
                            &x.client):
        x.client = x.conn.address
        return True
    admission = door_judge(ctx.door, ctx.limits, x.client)
    x.told = admission == ADMIT_COUNTED
    return admission != ADMIT_CROWDED


cdef inline void exchange_log(Context *ctx, Exchange *x) noexcept nogil:
    cdef LogRecord *record
    if not ctx.log.on:
        return
    record = log_claim(&ctx.log)
    if record == NULL:
        stat_add(&ctx.stats, C_log_dropped, 1)
        return
    record.wall_ns = clock_wall_ns()
    record.duration_us = <uint32_t>(clock_us() - x.started_us)
    record.status = x.status
    record.bytes_out = x.sent
    record.cache = x.cache
    record.method = x.method
    record.client = x.client
    if x.hold != NULL:
        log_target(record, slice_of(x.hold.entry.key, x.hold.entry.key_len))
    else:
        record.target_len = 0
    log_commit(&ctx.log)
    bell_ring(ctx.control)


cdef inline Progress exchange_send(Context *ctx, Exchange *x) noexcept nogil:
    """Send as far as it goes; a body that has more to come joins its hold's list, whose bit of
    interest has been set since exchange_decide()."""
    cdef Progress progress = send_answer(ctx, x)
    if progress != PROGRESS_STARVED:
        return progress
    x.phase = PHASE_STARVED
    stat_add(&ctx.stats, C_parked, 1)
    stat_add(&ctx.stats, C_parked_now, 1)
    hold_park(x.hold, x)
    conn_deadline(ctx, x.conn, ctx.limits.fill_ms)
    return PROGRESS_PARKED


# ---------------------------------------------------------------- beginning an answer

cdef inline Slice _date(Context *ctx) noexcept nogil:
    cdef int64_t now_s
    if ctx.now_ms >= ctx.date_again_ms:
        now_s = <int64_t>(clock_wall_ns() // 1000000000)
        ctx.date = slice_of(<cbyte *>ctx.date_text, date_write(ctx.date_text, now_s))
        ctx.date_again_ms = ctx.now_ms + 250
    return ctx.date


cdef inline int64_t _age_s(Context *ctx, uint64_t since_us) noexcept nogil:
    """The turn's clock may be older than what another thread just stored."""
    return <int64_t>((ctx.now_us - since_us) // 1000000) if ctx.now_us > since_us else 0


cdef inline bint _output(Context *ctx, Exchange *x) noexcept nogil:
    if x.out == NULL:
        x.out = <Output *>pool_take(&ctx.output_pool)
    return x.out != NULL


cdef inline void _tail(Context *ctx, Exchange *x, Slice before, Slice fields, size_t used,
                       int64_t age_s) noexcept nogil:
    """Head parts: what goes before, the prebuilt fields, and the tail in out.text behind `used`
    bytes."""
    cdef unsigned char *text = <unsigned char *>x.out.text + used
    x.out.parts[0] = before
    x.out.parts[1] = fields
    x.out.parts[2] = slice_of(text, tail_write(text, ctx.name, <CacheWord>x.cache, age_s,
                                               _date(ctx), (x.conn.flags & CONN_CLOSE) != 0))
    x.out.parts[3] = slice_of(NULL, 0)


cdef inline void _woken(Context *ctx, Exchange *x, int histogram, uint64_t made_us) noexcept nogil:
    """Figures of an exchange that was parked; the clock is read again, because a pass over many
    takes longer than a turn."""
    cdef uint64_t now_us
    if not x.parked_us:
        return
    now_us = clock_us()
    stat_add(&ctx.stats, C_woken, 1)
    stat_time(&ctx.stats, histogram, now_us - x.parked_us)
    if now_us >= made_us and made_us > x.parked_us:
        stat_time(&ctx.stats, H_wake_lag, now_us - made_us)
    x.parked_us = 0


cdef inline uint64_t _kept_s(Context *ctx, Exchange *x, int status) noexcept nogil:
    """A refusal that we remember may be kept as long by others (RFC 8216bis B.1), to the nearest
    second; an error of ours, or of the origin, may not."""
    cdef uint64_t until_ms
    if not 400 <= status < 500 or x.hold == NULL or entry_state(x.hold.entry) != ENTRY_FAILED:
        return 0
    until_ms = load_acquire_u64(&x.hold.entry.expires_ms)
    return (until_ms - ctx.now_ms + 500) // 1000 if until_ms > ctx.now_ms else 0


cdef inline Progress exchange_error(Context *ctx, Exchange *x, int status,
                                    uint64_t size) noexcept nogil:
    """An answer of our own: a head and one line of text."""
    cdef size_t head
    cdef size_t body
    if not _output(ctx, x):
        return PROGRESS_BROKEN
    if x.parked_us:
        stat_add(&ctx.stats, C_woken, 1)
        x.parked_us = 0
    x.status = status
    x.cache = CACHE_ERROR
    x.begun = True
    stat_status(&ctx.stats, status)
    head = error_head(x.out.text, OUTPUT_TEXT_BYTES, status, size, _kept_s(ctx, x, status))
    body = error_body(x.out.text + head, OUTPUT_TEXT_BYTES - head, status)
    _tail(ctx, x, slice_of(<cbyte *>x.out.text, head), slice_of(NULL, 0), head + body, -1)
    if not x.head_only:
        x.out.parts[3] = slice_of(<cbyte *>x.out.text + head, body)
    x.pos = 0
    x.end = 0
    return exchange_send(ctx, x)


cdef inline Progress preflight_answer(Context *ctx, Exchange *x) noexcept nogil:
    cdef size_t head
    if not _output(ctx, x):
        return PROGRESS_BROKEN
    x.status = 204
    x.cache = CACHE_HIT
    x.begun = True
    stat_status(&ctx.stats, 204)
    head = preflight_head(x.out.text, OUTPUT_TEXT_BYTES)
    _tail(ctx, x, slice_of(<cbyte *>x.out.text, head), slice_of(NULL, 0), head, -1)
    x.end = 0
    return exchange_send(ctx, x)


cdef inline Progress _not_modified(Context *ctx, Exchange *x, Head *head,
                                   int64_t age_s) noexcept nogil:
    cdef const char *line = "HTTP/1.1 304 Not Modified\r\n"
    stat_add(&ctx.stats, C_not_modified, 1)
    stat_status(&ctx.stats, 304)
    x.status = 304
    x.begun = True
    _tail(ctx, x, slice_of(<cbyte *>line, 27), head_fields(head), 0, age_s)
    x.pos = 0
    x.end = 0
    return exchange_send(ctx, x)


cdef inline Progress _answer_version(Context *ctx, Exchange *x) noexcept nogil:
    cdef LiveVersion *version = x.hold.version
    cdef Rendering *rendering = version_rendering(version, x.want.delta, x.want.v2,
                                                  x.gzip)
    # pushed: the newest there is, and a player that found it aged would ask again for a newer one
    # (RFC 8216bis appendix C)
    cdef int64_t age_s = _age_s(ctx, version.published_us) if version.pulled else 0
    cdef Head *head = rendering.head
    if x.want.has_msn and rendering.waited != NULL:
        head = rendering.waited
    if not _output(ctx, x):
        return PROGRESS_BROKEN
    if not x.parked_us and (x.cache == CACHE_HIT or not version.pulled):
        x.cache = CACHE_LIVE
        stat_add(&ctx.stats, C_live_hits, 1)
    elif not version.pulled or x.cache == CACHE_HIT:
        x.cache = CACHE_WOKEN            # else it stays what it came as: a miss, or collapsed
    _woken(ctx, x, H_live_wait, version.published_us)
    version_acquire(version)
    x.version = version
    if etag_listed(x.validator, head_etag(head)):
        return _not_modified(ctx, x, head, age_s)
    x.status = 200
    x.begun = True
    stat_status(&ctx.stats, 200)
    _tail(ctx, x, head_full(head), slice_of(NULL, 0), 0, age_s)
    if not x.head_only:
        x.out.parts[3] = slice_of(rendering.body, rendering.len)
    x.pos = 0
    x.end = 0
    return exchange_send(ctx, x)


cdef inline RangeVerdict _range(Exchange *x, uint64_t size) noexcept nogil:
    """Of a body of `size` bytes, RANGE_MAX when that is not known yet; sets pos and end. Without a
    size only a closed range is one: the others have no last byte to announce."""
    cdef RangeVerdict verdict = range_parse(x.range, size, &x.pos, &x.end)
    if verdict == RANGE_OK and (size < RANGE_MAX or x.end < RANGE_MAX):
        return verdict
    x.pos = 0
    x.end = size if size < RANGE_MAX else UINT64_MAX
    return RANGE_IGNORE if size == RANGE_MAX else verdict


cdef inline bint _range_ahead(Exchange *x, Entry *entry) noexcept nogil:
    """A closed range of a growing body that is not all there: like a part, it leaves when all its
    bytes can (RFC 8216bis 6.2.6)."""
    if not x.ranged or entry.status != 200 or entry_head(entry).length >= 0:
        return False
    return _range(x, RANGE_MAX) == RANGE_OK and entry_filled(entry) < x.end


cdef inline Progress _answer_object(Context *ctx, Exchange *x) noexcept nogil:
    """FILLING or COMPLETE: the head is final."""
    cdef Entry *entry = x.hold.entry
    cdef Head *head = entry_head(entry)
    cdef int64_t length = head.length
    cdef uint64_t size = <uint64_t>length if length >= 0 else RANGE_MAX
    cdef int64_t age_s = _age_s(ctx, entry.stored_us)
    cdef RangeVerdict range_ = <RangeVerdict>0
    cdef size_t used = 0
    cdef Slice line
    cdef Slice fields
    if not _output(ctx, x):
        return PROGRESS_BROKEN
    if x.parked_us and load_relaxed_u64(&entry.refresh_ms):
        x.cache = CACHE_STALE            # waited for an origin that failed
    if x.cache == CACHE_HIT:
        stat_add(&ctx.stats, C_hits, 1)
    elif x.cache == CACHE_STALE:
        stat_add(&ctx.stats, C_stale, 1)
    elif entry.pushed:
        x.cache = CACHE_WOKEN
    _woken(ctx, x, H_fill_wait, entry.stored_us)
    if entry.status == 200 and etag_listed(x.validator, head_etag(head)):
        return _not_modified(ctx, x, head, age_s)
    x.status = entry.status
    x.begun = True
    x.hold.taken += not (x.ranged or x.head_only)
    x.pos = 0
    x.end = <uint64_t>length if length >= 0 else UINT64_MAX
    line = slice_of(head.bytes, head.line_len)
    fields = head_fields(head)
    if x.ranged and entry.status == 200:
        range_ = _range(x, size)
        if range_ == RANGE_UNSATISFIABLE:
            return exchange_error(ctx, x, 416, size)
    if range_ == RANGE_OK:
        stat_add(&ctx.stats, C_ranges, 1)
        x.status = 206
        used = partial_line(x.out.text, OUTPUT_TEXT_BYTES, x.pos, x.end, size)
        line = slice_of(<cbyte *>x.out.text, used)
    elif length < 0:
        x.chunked = not x.old_client
        if x.old_client:                 # 1.0 knows no chunks: the body ends with the connection
            x.conn.flags |= CONN_CLOSE
            used = unframed_line(x.out.text, OUTPUT_TEXT_BYTES, entry.status)
            line = slice_of(<cbyte *>x.out.text, used)
    stat_status(&ctx.stats, x.status)
    _tail(ctx, x, line, fields, used, age_s)
    if x.end - x.pos > PACE_FROM_BYTES and not x.conn.flags & CONN_PACED:
        conn_pace(ctx, x.conn)
    if x.head_only:
        x.end = x.pos
        x.chunked = False
    elif entry.blob.fd < 0 and not x.chunked:            # a small body leaves with its head
        used = answer_available(x)
        x.out.parts[3] = slice_of(entry.blob.data + entry.offset + x.pos, used)
        x.pos += used
    return exchange_send(ctx, x)


# ---------------------------------------------------------------- deciding and parking

cdef inline void _keep(Exchange *x) noexcept nogil:
    if x.validator.len > VALIDATOR_BYTES:
        x.validator.len = 0
    if x.validator.len:
        memcpy(x.kept, x.validator.data, x.validator.len)
        x.validator.data = x.kept
    x.ranged = x.ranged and x.range.len <= RANGE_BYTES
    if x.ranged:
        memcpy(x.kept_range, x.range.data, x.range.len)
        x.range.data = x.kept_range


cdef inline Progress exchange_park(Context *ctx, Exchange *x, uint32_t for_ms) noexcept nogil:
    # the first time: what points into the input must outlive it
    if x.parked_us == 0:
        if ctx.stats.c[C_parked_now] >= ctx.limits.max_parked:
            stat_add(&ctx.stats, C_shed, 1)
            return exchange_error(ctx, x, 503, 0)
        stat_add(&ctx.stats, C_parked, 1)
        x.parked_us = ctx.now_us
        _keep(x)
        conn_deadline(ctx, x.conn, for_ms)
    stat_add(&ctx.stats, C_parked_now, 1)
    x.phase = PHASE_PARKED
    hold_park(x.hold, x)
    return PROGRESS_PARKED


cdef inline Progress exchange_decide(Context *ctx, Exchange *x) noexcept nogil:
    """Begin the answer from what the entry is now, or park. Runs at arrival and at every wake."""
    cdef Entry *entry = x.hold.entry
    cdef EntryState state = entry_state(entry)
    cdef LiveVersion *version
    cdef WantVerdict verdict
    if state != ENTRY_COMPLETE:
        hold_interest(ctx, x.hold)
        state = entry_state(entry)
    if x.by_path and state == ENTRY_COMPLETE:
        if not resolve_full(ctx, x):
            stat_add(&ctx.stats, C_shed, 1)
            return exchange_error(ctx, x, 503, 0)
        return exchange_decide(ctx, x)
    if x.by_path and state == ENTRY_FILLING:             # it may still turn out to have versions
        return exchange_park(ctx, x, ctx.limits.fill_ms)
    if state == ENTRY_FILLING and _range_ahead(x, entry):
        return exchange_park(ctx, x, ctx.limits.fill_ms)
    if state == ENTRY_COMPLETE or state == ENTRY_FILLING:
        return _answer_object(ctx, x)
    if state == ENTRY_FAILED:
        return exchange_error(ctx, x, entry.failed_status, 0)
    if state != ENTRY_LIVE:
        return exchange_park(ctx, x, ctx.limits.fill_ms)
    hold_refresh(ctx, x.hold)
    version = x.hold.version
    if not x.want.has_msn:
        return _answer_version(ctx, x)
    verdict = version_judge(version, &x.want)
    if verdict == WANT_BAD:
        return exchange_error(ctx, x, 400, 0)
    if verdict == WANT_WAIT and entry_dead(entry):       # purged: its next version is elsewhere
        if not resolve_again(ctx, x):
            return exchange_error(ctx, x, 503, 0)
        return exchange_decide(ctx, x)
    if verdict == WANT_WAIT:
        return exchange_park(ctx, x, version.hold_ms)
    return _answer_version(ctx, x)


cdef inline Progress exchange_woken(Context *ctx, Exchange *x) noexcept nogil:
    """Its entry changed. Runs with the exchange still on the hold's list."""
    cdef bint starved = x.phase == PHASE_STARVED
    _leave_list(ctx, x)
    if not starved:
        return exchange_decide(ctx, x)
    stat_add(&ctx.stats, C_woken, 1)
    return exchange_send(ctx, x)


cdef inline Progress exchange_timeout(Context *ctx, Exchange *x) noexcept nogil:
    """Parked for as long as it may: 503 for a playlist (RFC 8216bis 6.2.5.2), 504 for a fill; a
    starved body is cut."""
    cdef int status = 503 if entry_state(x.hold.entry) == ENTRY_LIVE else 504
    if x.phase == PHASE_STARVED:
        return PROGRESS_BROKEN
    stat_add(&ctx.stats, C_park_timeout, 1)
    return exchange_error(ctx, exchange_unparked(ctx, x), status, 0)


cdef inline Exchange *exchange_unparked(Context *ctx, Exchange *x) noexcept nogil:
    """Off its list without an answer yet, and not counted as woken."""
    _leave_list(ctx, x)
    x.parked_us = 0
    return x
