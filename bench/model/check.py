"""The model held against the real swarm, on a server that runs here.

Two seconds without viewers show what the server needs for itself. A small crowd measures costs: CPU
a request of the server (schedstat, beyond that) and of the swarm, bytes of a unit. From them the
model says what a larger crowd will do, and then it does it. Rates and bytes have little room; CPU
and lag have more, because a request is cheaper the more of them a wake-up finds, and because server
and swarm share this machine's cores with whatever else runs.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ..errors import BenchError
from ..measure import snapshot, spent
from ..swarm import drive, plan
from ..swarm.result import Result
from .inputs import Costs, Stream, World
from .release import Core, quantile, release
from .steady import viewer

SMALL_SHARE: Final = 4  # the crowd that measures is a quarter of the one that is predicted
IDLE_S: Final = 2.0
WAKE_SHARE: Final = 0.64  # of a blocking reload: the rest is parking it


@dataclass(frozen=True)
class Compared:
    """`ratio`: what measured over predicted may be, either way; `slack` is added to both ends."""

    what: str
    predicted: float
    measured: float
    ratio: float
    slack: float = 0.0

    @property
    def holds(self) -> bool:
        low = self.predicted / self.ratio - self.slack
        return low <= self.measured <= self.predicted * self.ratio + self.slack

    def allowed(self) -> str:
        slack = f" ± {self.slack:g}" if self.slack else ""
        return f"× or ÷ {self.ratio:g}{slack}"


@dataclass(frozen=True)
class _Seen:
    """One crowd: what it counted, and CPU in µs an answer of server and swarm."""

    run: Result
    server_us: float
    client_us: float

    def each(self, tally: str, per: str) -> float:
        return self.run.tallies[tally] / max(1, self.run.tallies[per])


def _idle(pid: int) -> float:
    """CPU seconds a second while nobody watches."""
    try:
        before, began = snapshot(pid), time.monotonic()
        time.sleep(IDLE_S)
        cost = spent(before, snapshot(pid), ())
    except OSError:
        raise BenchError(f"process {pid} is not there") from None
    return cost.cpu_s / (time.monotonic() - began)


def _see(look: plan.Plan, crowd: drive.Crowd, pid: int, idle: float) -> _Seen:
    before = snapshot(pid)
    run = drive.run(look, crowd)
    cost = spent(before, snapshot(pid), ())
    if run.errors:
        raise BenchError(f"the swarm saw errors: {run.errors}")
    asked = run.tallies["asked"]
    server_s = max(0.0, cost.cpu_s - idle * run.elapsed_s)
    return _Seen(run, server_s * 1e6 / asked, run.tallies["cpu_us"] / asked)


def _stream(look: plan.Plan) -> Stream:
    """The default one, with as long a window as is listed now: what has just begun lists less."""
    try:
        url = f"http://{look.authority}{look.tracks[0]}"
        with urllib.request.urlopen(url, timeout=plan.TIMEOUT_S) as answer:
            segments = answer.read().count(b"#EXTINF")
    except OSError as error:
        raise BenchError(f"{url}: {error}") from None
    return Stream(window_s=Stream().segment_s * segments)


def check(url: str, *, pid: int, viewers: int, seconds: float) -> list[Compared]:
    """Against the low-latency server of process `pid`, whose stream is as the demo's. Raises
    BenchError when the swarm cannot play it."""
    look = plan.look(url)
    stream = _stream(look)
    # over a whole segment, because what a joiner fetches depends on where in one it comes
    crowd = drive.Crowd(viewers=viewers, seconds=seconds, ramp_s=stream.segment_s)
    idle = _idle(pid)
    small = _see(look, replace(crowd, viewers=max(1, viewers // SMALL_SHARE)), pid, idle)
    stream = _stream(look)  # a young one lists more by now
    large = _see(look, crowd, pid, idle)
    return list(_compared(stream, small, large))


def _compared(stream: Stream, small: _Seen, large: _Seen) -> Iterator[Compared]:
    count, run = large.run.viewers, large.run
    one = viewer(stream, World().audience, Costs())
    rate = one.requests_s * count
    yield Compared("requests/s", rate, run.steady["asked"] / run.steady_s, 1.05)
    unit = small.each("bytes_media", "asked_part")
    text = stream.playlist_bytes()
    listed = large.each("bytes_playlist", "asked_playlist")
    yield Compared("bytes of a playlist", text, listed, 1.15)
    sent = run.steady["bytes_media"] + run.steady["bytes_playlist"]
    bits = 8e-6 * rate / 2 * (unit + text)
    yield Compared("Mb/s", bits, 8e-6 * sent / run.steady_s, 1.25)
    ramp = run.tallies["asked"] - run.steady["asked"]
    # all join evenly over the ramp, so each has played half of it on average
    joiner = one.join_requests + one.requests_s * stream.segment_s / 2
    yield Compared("requests of a joiner", joiner, ramp / count, 1.25)
    cores = rate * small.server_us / 1e6
    used = large.server_us * run.steady["asked"] / run.steady_s / 1e6
    yield Compared("cores of the server", cores, used, 2.0, slack=0.01)
    yield from _lags(stream, small, run)


def _lags(stream: Stream, small: _Seen, run: Result) -> Iterator[Compared]:
    workers = min(2, len(os.sched_getaffinity(0)))
    released = release(
        Core(
            viewers=max(1, run.viewers // workers),
            period_s=stream.part_s,
            wake_us=small.server_us * WAKE_SHARE,
            park_us=small.server_us * (1 - WAKE_SHARE),
            unit_us=[small.server_us] * stream.tracks,
            client_us=small.client_us * workers,  # one client for all workers
        )
    )
    for what, lags, span in (
        ("playlist behind the first viewer, p50 ms", released.playlist, "playlist_first"),
        ("part behind the first viewer, p50 ms", released.part, "object_last"),
    ):
        predicted = 1e3 * (quantile(lags, 50) - lags[0])
        seen = run.percentiles_ms(span)
        yield Compared(what, predicted, seen["p50"] if seen else 0.0, 3.0, slack=10.0)
