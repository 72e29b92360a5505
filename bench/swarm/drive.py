"""Runs a swarm: one process a few thousand viewers, several at once for more.

Laws. A process keeps within its limit of file descriptors; viewers are shared out evenly. The loop
runs in slices; between two of them the first copy of each object is checked against its ETag, which
takes some tens of microseconds. Processes of one run use different source addresses on loopback, so
that 28,000 ports are no bound.
"""

from __future__ import annotations

import gc
import ipaddress
import math
import multiprocessing
import re
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import xxhash

from ..errors import BenchError
from .build import build
from .plan import Plan
from .result import Digests, Result, merged

if TYPE_CHECKING:
    from ._swarm import Swarm

FD_LIMIT: Final = 20_000
_FD_RESERVE: Final = 256
_SLICE_MS: Final = 200
_FIRST_SOURCE: Final = "127.77.0.1"
_XXH128: Final = re.compile(rb'"([0-9a-f]{32})"')

Progress = Callable[[float, dict[str, int]], None]


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Who watches, and how. `seconds` come after the ramp. `processes` 0: as few as will do;
    `source` "": the kernel's choice, or one a process on loopback; else the first of them."""

    viewers: int
    seconds: float
    ramp_s: float = 1.0
    low_latency: bool = True
    skip: bool = False
    connections: int = 2
    processes: int = 0
    source: str = ""
    timeout_s: float = 10.0
    retry_s: float = 0.5
    tries: int = 20


def run(plan: Plan, crowd: Crowd, progress: Progress | None = None) -> Result:
    """Raises BenchError when the crowd does not fit the limits of this machine."""
    build()
    shares = _shares(plan, crowd)
    if len(shares) == 1:
        return _run_one(plan, shares[0], progress)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), mp_context=context) as pool:
        return merged(list(pool.map(_run_one, [plan] * len(shares), shares)))


def _fd_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FD_LIMIT if hard == resource.RLIM_INFINITY else min(hard, FD_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _shares(plan: Plan, crowd: Crowd) -> list[Crowd]:
    """The crowd of each process."""
    room = (_fd_limit() - _FD_RESERVE) // crowd.connections
    count = crowd.processes or math.ceil(crowd.viewers / room)
    if crowd.viewers > count * room:
        raise BenchError(
            f"viewers: found {crowd.viewers} with {crowd.connections} connections each, allowed "
            f"{count * room} in {count} process(es) of {_fd_limit()} file descriptors"
        )
    source = crowd.source
    if not source and count > 1 and ipaddress.ip_address(plan.ip).is_loopback:
        source = _FIRST_SOURCE
    first = int(ipaddress.IPv4Address(source)) if source else 0
    return [
        replace(
            crowd,
            viewers=crowd.viewers // count + (index < crowd.viewers % count),
            source=str(ipaddress.IPv4Address(first + index)) if source else "",
        )
        for index in range(count)
    ]


def _packed(ip: str) -> int:
    return int(struct.unpack("=I", socket.inet_aton(ip))[0]) if ip else 0


def _run_one(plan: Plan, crowd: Crowd, progress: Progress | None = None) -> Result:
    from ._swarm import Swarm  # built by run()

    _fd_limit()
    swarm = Swarm(
        ip=_packed(plan.ip),
        port=socket.htons(plan.port),
        source=_packed(crowd.source),
        host=plan.authority.encode(),
        fields=plan.fields(),
        multivariant=plan.multivariant.encode() if plan.multivariant is not None else None,
        tracks=[track.encode() for track in plan.tracks],
        choices=list(plan.choices),
        viewers=crowd.viewers,
        connections=crowd.connections,
        low_latency=crowd.low_latency,
        skip=crowd.skip,
        ramp_ms=int(crowd.ramp_s * 1000),
        timeout_ms=int(crowd.timeout_s * 1000),
        retry_ms=int(crowd.retry_s * 1000),
        tries=crowd.tries,
    )
    digests = Digests()
    gc.disable()  # a collection between two slices would be read as the server's lag
    try:
        began = time.monotonic()
        digests = _until(swarm, began + crowd.ramp_s, digests, progress)
        before, middle = swarm.tallies(), time.monotonic()
        digests = _until(swarm, middle + crowd.seconds, digests, progress)
        after, playing, end = swarm.tallies(), swarm.playing(), time.monotonic()
        swarm.finish()
    finally:
        gc.enable()
    return Result(
        viewers=crowd.viewers,
        playing=playing,
        elapsed_s=end - began,
        steady_s=end - middle,
        tallies=swarm.tallies(),
        steady={name: count - before[name] for name, count in after.items()},
        spans=swarm.spans(),
        digests=_checked(swarm, digests),
        samples=swarm.samples(),
    )


def _until(swarm: Swarm, deadline: float, digests: Digests, progress: Progress | None) -> Digests:
    while (left := deadline - time.monotonic()) > 0:
        swarm.run(max(1, min(_SLICE_MS, int(left * 1000))))
        digests = _checked(swarm, digests)
        if progress:
            progress(left, swarm.tallies())
    return digests


def _checked(swarm: Swarm, digests: Digests) -> Digests:
    right, wrong, without = digests.right, digests.wrong, digests.without
    for path, etag, body in swarm.unchecked():
        digest = _XXH128.fullmatch(etag)
        if digest is None:
            without += 1
        elif xxhash.xxh3_128_hexdigest(body).encode() == digest[1]:
            right += 1
        else:
            wrong += 1
            sys.stderr.write(f"digest: {path.decode()} is not what its ETag says\n")
    return Digests(right, wrong, without)
