"""Face of the viewer swarm: checks arguments, releases the GIL, calls native/loop.pxd.

One thread makes, runs, reads and closes a Swarm; the types are documented in _swarm.pyi.
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

import os

from bench.swarm.native.bodies cimport body_release, bytes_add
from bench.swarm.native.loop cimport (
    swarm_count, swarm_destroy, swarm_finish, swarm_init, swarm_run, swarm_unchecked,
    swarm_unchecked_list, track_set,
)
from bench.swarm.native.tally cimport (
    BUCKETS, SPANS, TALLIES, TALLIES_MAX, SPANS_MAX, sw_span_helps, sw_span_names, sw_tally_helps,
    sw_tally_names,
)
from bench.swarm.native.types cimport (
    CONNECTIONS_MAX, PATH_BYTES, PHASE_PLAYING, Body, Bytes, Playlist, Swarm as NativeSwarm, Viewer,
    cbyte,
)
from bench.swarm.native.versions cimport playlist_release

assert <int>TALLIES <= <int>TALLIES_MAX and <int>SPANS <= <int>SPANS_MAX
TALLY_HELP = {sw_tally_names[i].decode(): sw_tally_helps[i].decode() for i in range(TALLIES)}
SPAN_HELP = {sw_span_names[i].decode(): sw_span_helps[i].decode() for i in range(SPANS)}
CONNECTIONS = CONNECTIONS_MAX


cdef cbyte *_data(bytes value):
    return <cbyte *>PyBytes_AS_STRING(value)


cdef bytes _copy(const Bytes *value):
    return PyBytes_FromStringAndSize(<const char *>value.data, value.size)


cdef class Swarm:
    cdef NativeSwarm *_native
    cdef bint _finished

    def __cinit__(
        self, *, uint32_t ip, uint16_t port, uint32_t source, bytes host, bytes fields,
        bytes multivariant, list tracks, list choices, uint32_t viewers, uint32_t connections,
        bint low_latency, bint skip, uint64_t ramp_ms, uint64_t timeout_ms, uint64_t retry_ms,
        uint32_t tries,
    ):
        cdef NativeSwarm *swarm
        cdef bytes seed = os.urandom(sizeof(swarm.seed))
        if not 1 <= viewers <= 1000000 or not 1 <= connections <= CONNECTIONS_MAX:
            raise ValueError(f"found {viewers} viewers, {connections} connections each")
        if not tracks or not choices or max(map(len, tracks)) > PATH_BYTES - 96:
            raise ValueError("tracks and choices must not be empty, paths not too long")
        for lanes in choices:
            if not 1 <= len(lanes) <= 2 or not all(0 <= lane < len(tracks) for lane in lanes):
                raise ValueError(f"a choice is one or two tracks: found {lanes}")
        swarm = self._native = <NativeSwarm *>calloc(1, sizeof(NativeSwarm))
        if swarm == NULL:
            raise MemoryError
        swarm.options.ip, swarm.options.port, swarm.options.source = ip, port, source
        swarm.options.viewers, swarm.options.connections = viewers, connections
        swarm.options.low_latency, swarm.options.skip = low_latency, skip
        swarm.options.ramp_us, swarm.options.timeout_us = ramp_ms * 1000, timeout_ms * 1000
        swarm.options.retry_us, swarm.options.tries = retry_ms * 1000, tries
        memcpy(swarm.seed, <const char *>seed, sizeof(swarm.seed))
        if not swarm_init(swarm, len(tracks) + 1):
            raise MemoryError
        bytes_add(&swarm.host, _data(host), len(host))
        bytes_add(&swarm.fields, _data(fields), len(fields))
        self._set_tracks(multivariant, tracks, choices)

    cdef _set_tracks(self, bytes multivariant, list tracks, list choices):
        cdef NativeSwarm *swarm = self._native
        cdef Viewer *viewer
        cdef bytes path
        cdef uint32_t i
        for i, path in enumerate(tracks):
            track_set(swarm, &swarm.tracks[i], _data(path), len(path), True)
        if multivariant is not None:
            swarm.multivariant = &swarm.tracks[len(tracks)]
            track_set(swarm, swarm.multivariant, _data(multivariant), len(multivariant), False)
        for i in range(swarm.options.viewers):
            viewer = &swarm.viewers[i]
            for lane in choices[i % <uint32_t>len(choices)]:
                viewer.lanes[viewer.lane_count].track = &swarm.tracks[<uint32_t>lane]
                viewer.lane_count += 1

    def __dealloc__(self):
        if self._native != NULL:
            if not self._finished and self._native.viewers != NULL:
                swarm_finish(self._native)
            swarm_destroy(self._native)
            free(self._native)

    def run(self, uint64_t slice_ms):
        if self._finished:
            raise RuntimeError("the run is over")
        with nogil:
            swarm_run(self._native, slice_ms * 1000)

    def finish(self):
        if not self._finished:
            self._finished = True
            with nogil:
                swarm_finish(self._native)

    def playing(self):
        return swarm_count(self._native, PHASE_PLAYING)

    def tallies(self):
        return {name: self._native.tally.counts[i] for i, name in enumerate(TALLY_HELP)}

    def spans(self):
        return {name: [self._native.tally.spans[i][b] for b in range(BUCKETS)]
                for i, name in enumerate(SPAN_HELP)}

    def samples(self):
        return [(<const char *>self._native.tally.samples[i]).decode("utf-8", "replace")
                for i in range(self._native.tally.sample_count)]

    def unchecked(self):
        found = []
        cdef Body *body = swarm_unchecked(self._native)
        cdef Playlist *playlist = swarm_unchecked_list(self._native)
        while body != NULL:
            found.append((_copy(&body.path), body.etag.text[:body.etag.size], _copy(&body.copy)))
            body_release(self._native, body)
            body = swarm_unchecked(self._native)
        while playlist != NULL:
            found.append((_copy(&playlist.track.path), playlist.etag.text[:playlist.etag.size],
                          _copy(&playlist.text)))
            playlist_release(self._native, playlist)
            playlist = swarm_unchecked_list(self._native)
        return found
