"""What is counted and timed.

Law: written by the loop's thread only, whole numbers that only grow. A span is a histogram in
microseconds with 16 buckets to the octave: a value read back is at most 6 % too high.
"""
from libc.stdint cimport uint64_t


cdef extern from "tallies.h" nogil:
    enum:
        T_asked "SW_T_asked"
        T_answered "SW_T_answered"
        T_failed "SW_T_failed"
        T_dropped "SW_T_dropped"
        T_asked_multivariant "SW_T_asked_multivariant"
        T_asked_playlist "SW_T_asked_playlist"
        T_asked_blocking "SW_T_asked_blocking"
        T_asked_init "SW_T_asked_init"
        T_asked_part "SW_T_asked_part"
        T_asked_segment "SW_T_asked_segment"
        T_parked "SW_T_parked"
        T_bytes_playlist "SW_T_bytes_playlist"
        T_bytes_media "SW_T_bytes_media"
        T_bytes_compared "SW_T_bytes_compared"
        T_bytes_first "SW_T_bytes_first"
        T_versions "SW_T_versions"
        T_objects "SW_T_objects"
        T_copies "SW_T_copies"
        T_connects "SW_T_connects"
        T_raced "SW_T_raced"
        T_gaps "SW_T_gaps"
        T_joined "SW_T_joined"
        T_started "SW_T_started"
        T_ended "SW_T_ended"
        T_left "SW_T_left"
        T_lost "SW_T_lost"
        T_stalls "SW_T_stalls"
        T_stalled_viewers "SW_T_stalled_viewers"
        T_stall_us "SW_T_stall_us"
        T_error_connect "SW_T_error_connect"
        T_error_timeout "SW_T_error_timeout"
        T_error_reset "SW_T_error_reset"
        T_error_4xx "SW_T_error_4xx"
        T_error_5xx "SW_T_error_5xx"
        T_error_status "SW_T_error_status"
        T_error_http "SW_T_error_http"
        T_error_bytes "SW_T_error_bytes"
        T_error_etag "SW_T_error_etag"
        T_error_playlist "SW_T_error_playlist"
        T_error_unsupported "SW_T_error_unsupported"
        T_error_stale "SW_T_error_stale"
        T_error_behind "SW_T_error_behind"
        T_turns "SW_T_turns"
        T_cpu_us "SW_T_cpu_us"
        TALLIES "SW_T_COUNT"
        S_startup "SW_S_startup"
        S_blocked "SW_S_blocked"
        S_playlist_first "SW_S_playlist_first"
        S_playlist_last "SW_S_playlist_last"
        S_object_first "SW_S_object_first"
        S_object_last "SW_S_object_last"
        S_wait "SW_S_wait"
        S_fetch "SW_S_fetch"
        S_stall "SW_S_stall"
        S_versions_apart "SW_S_versions_apart"
        S_own_delay "SW_S_own_delay"
        SPANS "SW_S_COUNT"
    const char *sw_tally_names[]
    const char *sw_tally_helps[]
    const char *sw_span_names[]
    const char *sw_span_helps[]


cdef enum:
    BUCKETS = 640                        # up to 2^43 µs
    TALLIES_MAX = 64
    SPANS_MAX = 16
    SAMPLES = 16                         # first errors kept in words
    SAMPLE_BYTES = 256


cdef struct Tally:
    uint64_t counts[TALLIES_MAX]
    uint64_t spans[SPANS_MAX][BUCKETS]
    char samples[SAMPLES][SAMPLE_BYTES]
    int sample_count


cdef extern from * nogil:
    """
    static inline int sw_bucket(uint64_t us) {
        int octave;
        if (us < 16) return (int)us;
        octave = 63 - __builtin_clzll(us);
        octave = octave > 42 ? 42 : octave;
        return (octave - 3) * 16 + (int)((us >> (octave - 4)) & 15);
    }
    """
    int sw_bucket(uint64_t us)


cdef inline void count(Tally *tally, int which, uint64_t n) noexcept nogil:
    tally.counts[which] += n


cdef inline void span(Tally *tally, int which, uint64_t begin_us, uint64_t end_us) noexcept nogil:
    tally.spans[which][sw_bucket(end_us - begin_us if end_us > begin_us else 0)] += 1
