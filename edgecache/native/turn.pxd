"""Turns: how long one pass of a worker's loop may serve some before it looks after all again.

Law: a turn has two passes. In the first are the events of those who were served before: what is
short (an answer with no more than SHORT_BYTES left and no request behind it) is done whatever the
time, the rest while there is some. In the second is whatever waited: who has asked for nothing yet,
who leaves, long answers, pipelines, then new connections; at least one step of those and
ACCEPT_LEAST of these, so that nobody starves. A pass is bounded in time and not in bytes or heads:
what 256 KiB cost depends on their receiver (60 us to 250), what a close costs on what the kernel
still has to throw away (10 us to 400).

Two hundred viewers who asked for a large object at once took 50 ms of one pass over their events,
and 27 ms when they were cut together; whoever wanted a playlist meanwhile waited for that. With
passes of 250 us, and newcomers served where epoll named them, a hit had to wait for 89 to 247 us of
CPU time of others at p99 (bench.reliability B1, B2p, B3, B11); with this for 43 to 58, at the same
CPU in all. """
from libc.stdint cimport uint64_t
from edgecache.native.base cimport clock_us
from edgecache.native.context cimport Context


cdef enum:
    PASS_US = 50


cdef inline void pass_begin(Context *ctx, uint64_t now_us) noexcept nogil:
    ctx.pass_until_us = now_us + PASS_US


cdef inline bint pass_spent(Context *ctx) noexcept nogil:
    return clock_us() >= ctx.pass_until_us
