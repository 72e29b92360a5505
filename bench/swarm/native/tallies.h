/* One table for everything the swarm counts: enum, name and meaning come from here.
 * Law: asked = answered + failed + dropped + in flight (answered: whole and as expected). */
#ifndef BENCH_SWARM_TALLIES_H
#define BENCH_SWARM_TALLIES_H

#define SW_TALLIES(X) \
    X(asked, "requests sent") \
    X(answered, "requests answered whole and as expected") \
    X(failed, "requests that ended in an error") \
    X(dropped, "requests given up by us: end of the run, or asked again after a keep-alive race") \
    X(asked_multivariant, "requests for the multivariant playlist") \
    X(asked_playlist, "requests for media playlists") \
    X(asked_blocking, "of these, blocking reloads") \
    X(asked_init, "requests for initialisation sections") \
    X(asked_part, "requests for parts") \
    X(asked_segment, "requests for whole segments") \
    X(parked, "blocking reloads that were waiting when their version appeared") \
    X(bytes_playlist, "body bytes of playlists") \
    X(bytes_media, "body bytes of parts, segments and initialisation sections") \
    X(bytes_compared, "body bytes compared with an earlier copy") \
    X(bytes_first, "body bytes that were the first copy") \
    X(versions, "distinct playlist versions") \
    X(objects, "distinct media objects that playlists named") \
    X(copies, "of these, received whole by somebody: each is checked against its ETag") \
    X(connects, "connections opened") \
    X(raced, "requests sent again: the server closed an idle connection at that moment") \
    X(gaps, "units marked GAP and skipped") \
    X(joined, "viewers that began") \
    X(started, "viewers that began to play") \
    X(ended, "viewers whose stream ended") \
    X(left, "viewers that were there when the run was over") \
    X(lost, "viewers that gave up after too many errors in a row") \
    X(stalls, "times a viewer's buffer ran dry") \
    X(stalled_viewers, "viewers that stalled at least once") \
    X(stall_us, "time all viewers stood still") \
    X(error_connect, "connection refused or not possible") \
    X(error_timeout, "no answer in time") \
    X(error_reset, "connection lost in mid-answer") \
    X(error_4xx, "answers 4xx") \
    X(error_5xx, "answers 5xx") \
    X(error_status, "answers that are neither 200, 4xx nor 5xx") \
    X(error_http, "answers that are not HTTP/1.1 as we know it") \
    X(error_bytes, "bodies that differ from the first copy") \
    X(error_etag, "one name with two ETags, or one ETag with two playlists") \
    X(error_playlist, "playlists that cannot be read") \
    X(error_unsupported, "playlists with what the swarm cannot play") \
    X(error_stale, "blocking reloads answered with less than was asked for") \
    X(error_behind, "viewers whose next unit left the playlist before it was fetched") \
    X(turns, "turns of the event loop") \
    X(cpu_us, "processor time of the event loop")

#define SW_SPANS(X) \
    X(startup, "from joining to playing") \
    X(blocked, "blocking reload: from request to first byte") \
    X(playlist_first, "parked reloads: first byte behind the swarm's first") \
    X(playlist_last, "parked reloads: last byte behind the swarm's first") \
    X(object_first, "new parts and segments: first byte behind the swarm's first") \
    X(object_last, "new parts and segments: last byte behind the swarm's first") \
    X(wait, "parts and segments: from request to first byte") \
    X(fetch, "parts and segments: from request to last byte") \
    X(stall, "length of a stall") \
    X(versions_apart, "from one version of a track to the next: long ones are the origin's") \
    X(own_delay, "from a segment's arrival in the kernel until the swarm read it")

enum {
#define SW_X(name, help) SW_T_##name,
    SW_TALLIES(SW_X)
#undef SW_X
    SW_T_COUNT
};
enum {
#define SW_X(name, help) SW_S_##name,
    SW_SPANS(SW_X)
#undef SW_X
    SW_S_COUNT
};
#define SW_X(name, help) #name,
static const char *const sw_tally_names[] = {SW_TALLIES(SW_X)};
static const char *const sw_span_names[] = {SW_SPANS(SW_X)};
#undef SW_X
#define SW_X(name, help) help,
static const char *const sw_tally_helps[] = {SW_TALLIES(SW_X)};
static const char *const sw_span_helps[] = {SW_SPANS(SW_X)};
#undef SW_X

#endif
