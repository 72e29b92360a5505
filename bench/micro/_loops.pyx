"""The core's inline functions, each called n times without the GIL: a Python call costs 50 ns and
would drown what is measured here.

Law: a loop answers what its operations did (a count or a sum), for the benchmark to assert. `keep`
stands in every loop: the compiler may neither remember an answer from one turn to the next nor drop
one that nobody reads.
"""
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from edgecache.native.base cimport (
    EC_LIVE_BLOB, EC_LIVE_CHUNK, EC_LIVE_ENTRY, EC_LIVE_HEAD, EC_LIVE_VERSION, live_get,
)
from edgecache.native.types cimport Limits, Slice, cbyte, slice_of


cdef extern from *:
    """
    static inline void keep(const void *p) { __asm__ volatile("" : : "r"(p) : "memory"); }
    """
    void keep(const void *p) noexcept nogil


cdef Slice as_slice(bytes value):
    return slice_of(<cbyte *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef bytes as_bytes(Slice value):
    return PyBytes_FromStringAndSize(<const char *>value.data, value.len)


def alive():
    """What this extension has not freed."""
    return {"blobs": live_get(EC_LIVE_BLOB), "heads": live_get(EC_LIVE_HEAD),
            "versions": live_get(EC_LIVE_VERSION), "entries": live_get(EC_LIVE_ENTRY),
            "chunks": live_get(EC_LIVE_CHUNK)}


include "loops/parse.pxi"
include "loops/answer.pxi"
include "loops/timer.pxi"
include "loops/store.pxi"
include "loops/mailbox.pxi"
