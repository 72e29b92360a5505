"""Face of the native data plane: checks arguments, releases the GIL, calls native/plane.pxd,
raises. No logic of its own.

Threads: workers run worker_run() without the GIL from start() to stop(); everything else is called
by the one control thread. The types are documented in _core.pyi. """
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from cython cimport no_gc_clear
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

import threading
import time

from edgecache.native.address cimport (
    ADDRESS_TEXT_BYTES, Address, Network, address_parse, address_v6, address_write,
)
from edgecache.native.base cimport (
    EC_LIVE_BLOB, EC_LIVE_BUFFER, EC_LIVE_CHUNK, EC_LIVE_ENTRY, EC_LIVE_HEAD, EC_LIVE_VERSION,
    clock_us, ec_compiler, ec_debug, live_get, load_relaxed_u32, load_relaxed_u64,
    store_relaxed_u32, store_relaxed_u64, store_release_u32,
)
from edgecache.native.blob cimport (
    Blob, blob_acquire, blob_adopt, blob_append, blob_filled, blob_new_heap,
)
from edgecache.native.carry cimport (
    Facts, fill_grown, head_own_fields, plane_restore, plane_restore_growing, store_gather,
)
from edgecache.native.context cimport NAME_BYTES, RX_BYTES, Context
from edgecache.native.deposit cimport Deposit, deposit_kept, deposit_open
from edgecache.native.door cimport DOOR_NETWORKS, door_trust
from edgecache.native.entry cimport (
    ENTRY_COMPLETE, ENTRY_FILLING, ENTRY_LIVE, ENTRY_RESERVED, Entry, entry_dead, entry_filled,
    entry_head, entry_loop, entry_release, entry_state,
)
from edgecache.native.guest cimport GUEST_BYTES, Guest, guest_new, guest_put, guest_take
from edgecache.native.head cimport Head, head_etag
from edgecache.native.hosts cimport HOST_BYTES, HOSTS_MAX, hosts_add
from edgecache.native.keep cimport Keep, keep_name, keep_rule
from edgecache.native.live cimport VARIANTS, LiveVersion, Rendering, version_new, version_release
from edgecache.native.log cimport LogRecord, log_next, log_peek
from edgecache.native.mailbox cimport (
    MESSAGE_DRAIN, MESSAGE_HAND, MESSAGE_SHED, MESSAGE_STOP, WORKERS_MAX, bell_answer, bell_ring,
    up_take,
)
from edgecache.native.plane cimport (
    Plane as NativePlane, Stamp, fill_append, fill_begin, fill_commit, fill_fail, fill_renew,
    fill_view,
    plane_asked, plane_destroy, plane_find, plane_init, plane_open, plane_order, plane_publish,
    plane_purge, plane_put, plane_rerouted,
)
from edgecache.native.stats cimport (
    BUCKETS, COUNTERS, HISTOGRAMS, Histogram, ec_counter_helps, ec_counter_names,
    ec_histogram_helps, ec_histogram_names, stat_get,
)
from edgecache.native.store cimport (
    PUT_CREATED as _PUT_CREATED, PUT_CONFLICT as _PUT_CONFLICT, PUT_NO_SPACE as _PUT_NO_SPACE,
    PUT_SAME as _PUT_SAME, PUT_STALE as _PUT_STALE, store_budget, store_keep, store_make_room,
    store_noted, store_purge_prefix, store_version,
)
from edgecache.native.sys cimport AF_INET, AF_INET6, close
from edgecache.native.target cimport QUERY_BYTES, Target, target_parse
from edgecache.native.types cimport Slice, slice_of
from edgecache.native.worker cimport worker_free, worker_new, worker_reroute, worker_run

PUT_CREATED, PUT_SAME, PUT_CONFLICT = _PUT_CREATED, _PUT_SAME, _PUT_CONFLICT
PUT_NO_SPACE, PUT_STALE = _PUT_NO_SPACE, _PUT_STALE
PUTS = {_PUT_CREATED: "created", _PUT_SAME: "same", _PUT_CONFLICT: "conflict",
        _PUT_NO_SPACE: "no_space"}
BUILD = {"compiler": ec_compiler().decode(), "debug": str(bool(ec_debug()))}
COUNTER_HELP = {ec_counter_names[i].decode(): ec_counter_helps[i].decode() for i in range(COUNTERS)}
HISTOGRAM_HELP = {
    ec_histogram_names[i].decode(): ec_histogram_helps[i].decode() for i in range(HISTOGRAMS)
}
TURNS_MS = 1000                          # how long all workers may take to begin another turn
METHODS = (b"-", b"GET", b"HEAD", b"OPTIONS")
LEFT = ("evicted", "expired", "purged", "replaced", "failed")            # as store.pxd orders them
STATES = {ENTRY_RESERVED: b"reserved", ENTRY_FILLING: b"filling", ENTRY_COMPLETE: b"complete",
          ENTRY_LIVE: b"live"}
DEFAULT_LIMITS = {  # units and meanings: native/types.pxd
    "header_bytes": 16384,
    "target_bytes": 4096,
    "header_fields": 64,
    "first_byte_ms": 10_000,
    "header_ms": 5_000,
    "keepalive_ms": 75_000,
    "write_ms": 20_000,
    "fill_ms": 10_000,
    "max_connections": 1_000_000,
    "max_per_address": 0,
    "reset_beyond": 0,
    "proxy_protocol": 0,
    "client_field": 0,
    "max_parked": 1_000_000,
    "max_holds": 16384,
    "heap_max_bytes": 16384,
    "pacing_bytes_s": 30_000_000,
    "min_rate_bytes_s": 4096,
}


cdef Slice _slice(bytes value) except *:
    if value is None:
        raise TypeError("expected bytes, found None")
    return slice_of(<const unsigned char *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef bytes _bytes(const unsigned char *data, size_t length):
    return PyBytes_FromStringAndSize(<const char *>data, length)


cdef bytes _text(Address address):
    cdef char text[ADDRESS_TEXT_BYTES]
    return text[:address_write(address, text)]


cdef Stamp _stamp(int64_t ttl_ms, int64_t grace_ms, int64_t age_ms=0, int64_t spare_ms=0) except *:
    cdef Stamp stamp
    if ttl_ms < 0 or grace_ms < 0 or age_ms < 0 or spare_ms < 0:
        raise ValueError("ttl_ms, grace_ms, age_ms and spare_ms must not be negative: found "
                         f"{ttl_ms}, {grace_ms}, {age_ms}, {spare_ms}")
    stamp.age_ms = <uint64_t>age_ms
    stamp.ttl_ms = <uint64_t>ttl_ms
    stamp.grace_ms = <uint64_t>grace_ms
    stamp.spare_ms = <uint64_t>spare_ms
    return stamp


cdef int _status(int status) except -1:
    if not 200 <= status <= 599:
        raise ValueError(f"status: found {status}, allowed 200 to 599")
    return status


cdef dict _counters(Context *ctx):
    return {name: stat_get(&ctx.stats, index) for index, name in enumerate(COUNTER_HELP)}


def live_objects():
    return {
        "blobs": live_get(EC_LIVE_BLOB),
        "heads": live_get(EC_LIVE_HEAD),
        "versions": live_get(EC_LIVE_VERSION),
        "entries": live_get(EC_LIVE_ENTRY),
        "chunks": live_get(EC_LIVE_CHUNK),
        "buffers": live_get(EC_LIVE_BUFFER),
    }


include "face/fill.pxi"
include "face/plane.pxi"
include "face/carry.pxi"
