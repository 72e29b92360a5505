"""Per-worker counters and latency histograms.

Law: a Stats block is written by its worker only; the control plane reads it at any time and sees
each number whole but not all of one instant. Names and help texts live in counters.h, once; a
misspelt counter does not compile. """
from libc.stdint cimport uint64_t
from edgecache.native.base cimport count_add, load_relaxed_u64, log2_bucket


cdef extern from "counters.h" nogil:
    enum:
        C_accepted "EC_C_accepted"
        C_closed "EC_C_closed"
        C_closed_header_timeout "EC_C_closed_header_timeout"
        C_closed_idle "EC_C_closed_idle"
        C_closed_write_timeout "EC_C_closed_write_timeout"
        C_closed_refused "EC_C_closed_refused"
        C_closed_crowded "EC_C_closed_crowded"
        C_closed_proxy "EC_C_closed_proxy"
        C_closed_bad_request "EC_C_closed_bad_request"
        C_handed_over "EC_C_handed_over"
        C_taken_back "EC_C_taken_back"
        C_passed_on "EC_C_passed_on"
        C_accept_paused "EC_C_accept_paused"
        C_requests "EC_C_requests"
        C_bad_requests "EC_C_bad_requests"
        C_looped "EC_C_looped"
        C_misdirected "EC_C_misdirected"
        C_hits "EC_C_hits"
        C_stale "EC_C_stale"
        C_refreshes "EC_C_refreshes"
        C_live_hits "EC_C_live_hits"
        C_misses "EC_C_misses"
        C_collapsed "EC_C_collapsed"
        C_parked "EC_C_parked"
        C_woken "EC_C_woken"
        C_park_timeout "EC_C_park_timeout"
        C_park_gone "EC_C_park_gone"
        C_park_drained "EC_C_park_drained"
        C_shed "EC_C_shed"
        C_crowded "EC_C_crowded"
        C_not_modified "EC_C_not_modified"
        C_ranges "EC_C_ranges"
        C_status_2xx "EC_C_status_2xx"
        C_bytes_out "EC_C_bytes_out"
        C_bytes_in "EC_C_bytes_in"
        C_cut "EC_C_cut"
        C_unfinished "EC_C_unfinished"
        C_unanswered "EC_C_unanswered"
        C_log_dropped "EC_C_log_dropped"
        C_loops "EC_C_loops"
        C_connections_now "EC_C_connections_now"
        C_parked_now "EC_C_parked_now"
        C_holds_now "EC_C_holds_now"
        COUNTERS "EC_C_COUNT"
        H_fill_wait "EC_H_fill_wait"
        H_live_wait "EC_H_live_wait"
        H_wake_lag "EC_H_wake_lag"
        HISTOGRAMS "EC_H_COUNT"
    const char *ec_counter_names[]
    const char *ec_counter_helps[]
    const char *ec_histogram_names[]
    const char *ec_histogram_helps[]


cdef enum:
    # bucket b counts values in [2^(b-1), 2^b) microseconds; the last one is open
    BUCKETS = 32


cdef struct Histogram:
    uint64_t counts[BUCKETS]
    uint64_t sum_us


# padded by its position inside a cache-line aligned Context
cdef struct Stats:
    uint64_t c[64]
    Histogram h[4]


cdef inline void stat_add(Stats *stats, int counter, uint64_t n) noexcept nogil:
    count_add(&stats.c[counter], n)


cdef inline void stat_status(Stats *stats, int status) noexcept nogil:
    count_add(&stats.c[C_status_2xx + (status // 100) - 2], 1)


cdef inline void stat_time(Stats *stats, int histogram, uint64_t value_us) noexcept nogil:
    cdef int bucket = log2_bucket(value_us)
    if bucket >= BUCKETS:
        bucket = BUCKETS - 1
    count_add(&stats.h[histogram].counts[bucket], 1)
    count_add(&stats.h[histogram].sum_us, value_us)


cdef inline uint64_t stat_get(Stats *stats, int counter) noexcept nogil:
    return load_relaxed_u64(&stats.c[counter])
