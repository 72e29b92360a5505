/* One table for every counter and histogram of the data plane: enum, exposed name and help text.
 * `edge_<name>` in /metrics; gauges end in _now. The ledger closes: accepted = closed +
 * connections_now; parked = woken + park_timeout + park_gone + park_drained + parked_now;
 * requests = status_* + handed_over + unanswered + those that are parked and have no answer yet. */
#ifndef EDGECACHE_COUNTERS_H
#define EDGECACHE_COUNTERS_H

#define EC_COUNTERS(X) \
    X(accepted, "connections accepted") \
    X(closed, "connections closed, any reason") \
    X(closed_header_timeout, "connections closed: request head not complete in time") \
    X(closed_idle, "connections closed: idle keep-alive or silent") \
    X(closed_write_timeout, "connections closed: viewer below the minimum rate") \
    X(closed_refused, "connections closed: over the connection limit, or no descriptor is left") \
    X(closed_crowded, "connections closed: over the limit of their address") \
    X(closed_proxy, "connections closed: no valid PROXY header from an address that must send it") \
    X(closed_bad_request, "connections closed after a malformed request") \
    X(handed_over, "connections handed to the control plane for a request; counted as closed") \
    X(taken_back, "connections that came back from there, or from our predecessor; as accepted") \
    X(passed_on, "connections passed on to the process that took over; counted as closed") \
    X(accept_paused, "times accepting was paused for lack of file descriptors") \
    X(requests, "requests: heads that ended, or grew too long") \
    X(bad_requests, "requests refused by the parser or the target rules") \
    X(misdirected, "requests refused because they name a host that is not ours (421)") \
    X(looped, "requests refused because they came through here before, or too many caches") \
    X(hits, "answers from an entry found complete, or growing by pushes") \
    X(stale, "answers from an object past its time, within its grace") \
    X(refreshes, "fills started to replace such an object") \
    X(live_hits, "answers from a playlist version that was already there") \
    X(misses, "requests that started a fill") \
    X(collapsed, "requests that joined a fill in flight") \
    X(parked, "exchanges parked on a fill or a playlist version") \
    X(woken, "parked exchanges that were answered") \
    X(park_timeout, "parked exchanges answered 503 or 504 at their deadline") \
    X(park_gone, "parked exchanges whose viewer left, or that found no memory") \
    X(park_drained, "parked exchanges released by drain or stop") \
    X(shed, "requests refused for lack of room (503)") \
    X(crowded, "requests of a proxy refused: over the limit of the address they are from (429)") \
    X(not_modified, "304 answers") \
    X(ranges, "206 answers") \
    X(status_2xx, "answers 2xx") \
    X(status_3xx, "answers 3xx") \
    X(status_4xx, "answers 4xx") \
    X(status_5xx, "answers 5xx") \
    X(bytes_out, "bytes written to viewers, heads included") \
    X(bytes_in, "bytes read from viewers") \
    X(cut, "answers cut because their fill failed in mid-body") \
    X(unfinished, "answers begun that did not leave whole, for whatever reason: reset") \
    X(unanswered, "requests without an answer: the viewer left, no memory, or passed on parked") \
    X(log_dropped, "access-log records dropped because the ring was full") \
    X(loops, "event-loop turns") \
    X(connections_now, "connections open") \
    X(parked_now, "exchanges parked") \
    X(holds_now, "entries this worker holds a reference to")

#define EC_HISTOGRAMS(X) \
    X(fill_wait, "from parking on a fill to the first byte") \
    X(live_wait, "from parking on a playlist version to its first byte") \
    X(wake_lag, "from a publish to the first byte at a viewer that was parked on it")

enum {
#define EC_X(name, help) EC_C_##name,
    EC_COUNTERS(EC_X)
#undef EC_X
    EC_C_COUNT
};
enum {
#define EC_X(name, help) EC_H_##name,
    EC_HISTOGRAMS(EC_X)
#undef EC_X
    EC_H_COUNT
};
#define EC_X(name, help) #name,
static const char *const ec_counter_names[] = {EC_COUNTERS(EC_X)};
static const char *const ec_histogram_names[] = {EC_HISTOGRAMS(EC_X)};
#undef EC_X
#define EC_X(name, help) help,
static const char *const ec_counter_helps[] = {EC_COUNTERS(EC_X)};
static const char *const ec_histogram_helps[] = {EC_HISTOGRAMS(EC_X)};
#undef EC_X

#endif
