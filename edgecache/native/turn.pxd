"""Turns: how long one pass of a worker's loop may serve some before it looks after all again.

Law: in the time of a pass everything may be done; after it only what is short (an answer with no
more than SHORT_BYTES left and no request behind it, a few newcomers), and at least one step of
whatever it began with, so that nobody starves. Who leaves waits for a pass that has time. A pass is
bounded in time and not in bytes or heads: what 256 KiB cost depends on their receiver (60 us to
250), what a close costs on what the kernel still has to throw away (10 us to 400).

Two hundred viewers who asked for a large object at once took 50 ms of one pass over their events,
and 27 ms when they were cut together; whoever wanted a playlist meanwhile waited for that. """
from libc.stdint cimport uint64_t
from edgecache.native.base cimport clock_us
from edgecache.native.context cimport Context


cdef enum:
    PASS_US = 250


cdef inline void pass_begin(Context *ctx, uint64_t now_us) noexcept nogil:
    ctx.pass_until_us = now_us + PASS_US


cdef inline bint pass_spent(Context *ctx) noexcept nogil:
    return clock_us() >= ctx.pass_until_us
