"""A fixed offered load: h2load in open loop, its output read back and distrusted.

Laws. Requests are offered at a rate, not as fast as they go; connections start evenly over one
request period, so they do not fire in lock step. What was offered must be done, with every body
byte, in the time it was offered in, and the client must have had CPU to spare: else the outcome
carries a problem and the runner does not count it. Latency is from sending a request to its last
byte (h2load's log): a request that the client itself sent late is not charged to the server.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import BenchError
from .netns import Network

CLIENT_CPU_MAX: Final = 0.85  # of one core; above this the client's own delays become the result
LATE_MAX: Final = 1.10  # elapsed / offered duration
PERCENTILES: Final = (50, 90, 99, 99.9)
_STOP_S: Final = 2.0


@dataclass(frozen=True)
class Offer:
    """`rate` in requests a second over all connections. `uris` are asked for in order by every
    connection; `body_bytes` is the mean body over that list. `churn`: one connection a request."""

    base: str
    uris: Sequence[str]
    body_bytes: float
    connections: int
    rate: int
    duration_s: float
    churn: bool = False

    @property
    def requests(self) -> int:
        whole = int(self.rate * self.duration_s)
        cycle = 1 if self.churn else self.connections * len(self.uris)
        return max(cycle, whole // cycle * cycle)


@dataclass(frozen=True)
class Outcome:
    requests: int
    elapsed_s: float
    body_bytes: int
    latency_ms: tuple[float, ...]  # at PERCENTILES
    client_cpu: float  # share of one core
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """h2load's words as numbers."""

    total: int
    succeeded: int
    elapsed_s: float
    body_bytes: int


def parse_report(text: str) -> Report:
    """Raises BenchError when a line h2load always prints is not there."""
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", text)
    requests = re.search(r"requests: (\d+) total, .*?(\d+) succeeded", text)
    data = re.search(r"\((\d+)\) data", text)
    if not (finished and requests and data):
        raise BenchError(f"h2load said something else: {text.strip()[-200:]}")
    unit_s = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[finished[2]]
    return Report(int(requests[1]), int(requests[2]), float(finished[1]) * unit_s, int(data[1]))


def percentiles(values: Sequence[float], at: Sequence[float] = PERCENTILES) -> tuple[float, ...]:
    """Nearest-rank percentiles; NaN for no values."""
    if not values:
        return tuple(float("nan") for _ in at)
    ranked = sorted(values)
    return tuple(ranked[max(0, math.ceil(len(ranked) * p / 100) - 1)] for p in at)


def read_latencies(log: Path) -> list[float]:
    """Milliseconds of every request in an h2load log: start us, status, duration us a line."""
    with log.open() as lines:
        return [int(line.rsplit("\t", 1)[1]) / 1000 for line in lines]


def _arguments(offer: Offer, log: Path, uris: Path) -> list[str]:
    uris.write_text("".join(f"{offer.base}{uri}\n" for uri in offer.uris))
    argv = ["h2load", "--h1", "-n", str(offer.requests), "-i", str(uris), "--log-file", str(log)]
    if offer.churn:
        return [*argv, "-c", str(offer.requests), *_spread(offer.rate)]
    per_connection = offer.rate / offer.connections
    return [
        *argv, "-c", str(offer.connections), "--rps", f"{per_connection:.6f}",
        *_spread(offer.rate),
    ]  # fmt: skip


def _spread(rate: int) -> list[str]:
    """Connections a period such that they start at `rate` a second, as evenly as h2load can."""
    if rate >= 1000:
        return ["-r", str(round(rate / 1000)), "--rate-period", "1ms"]
    return ["-r", "1", "--rate-period", f"{max(1, round(1000 / rate))}ms"]


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Our load generator dies with the block: on Ctrl-C, or when it overruns."""
    try:
        yield
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with contextlib.suppress(ChildProcessError):
                process.wait(_STOP_S)


def _await(process: subprocess.Popen[bytes], deadline: float) -> float:
    """CPU seconds the process used. Raises BenchError past the deadline (monotonic)."""
    while time.monotonic() < deadline:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
        time.sleep(0.02)
    raise BenchError("h2load did not finish: the server stopped answering")


def offer_many(
    network: Network, offers: Sequence[Offer], scratch: Path, cpus: Sequence[int] | None = None
) -> list[Outcome]:
    """Runs loads side by side, each in a process of its own, to their end. `scratch` is on tmpfs.

    Raises BenchError when they do not finish in thrice their time."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        started = []
        for number, offer in enumerate(offers):
            paths = [directory / f"{number}.{kind}" for kind in ("log", "uris", "out")]
            argv = network.on_client(_arguments(offer, paths[0], paths[1]), cpus)
            with paths[2].open("wb") as out:
                process = subprocess.Popen(
                    argv, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
                )
            stack.enter_context(_ended(process))
            started.append((offer, process, paths))
        limit_s = max(offer.duration_s for offer in offers) * 3 + 10
        deadline = time.monotonic() + limit_s
        return [
            _outcome(offer, _await(process, deadline), paths) for offer, process, paths in started
        ]


def _outcome(offer: Offer, cpu_s: float, paths: Sequence[Path]) -> Outcome:
    log, _, out = paths
    report = parse_report(out.read_text(errors="replace"))
    client_cpu = cpu_s / max(report.elapsed_s, 1e-9)
    latencies = read_latencies(log)
    log.unlink()
    return Outcome(
        requests=report.succeeded,
        elapsed_s=report.elapsed_s,
        body_bytes=report.body_bytes,
        latency_ms=percentiles(latencies),
        client_cpu=client_cpu,
        problems=tuple(_problems(offer, report, client_cpu)),
    )


def _problems(offer: Offer, report: Report, client_cpu: float) -> Iterator[str]:
    if report.succeeded != offer.requests:
        yield f"offered {offer.requests} requests, {report.succeeded} succeeded"
    elif report.body_bytes != round(offer.body_bytes * offer.requests):
        wanted = round(offer.body_bytes * offer.requests)
        yield f"expected {wanted} body bytes, got {report.body_bytes}"
    planned_s = offer.requests / offer.rate
    if report.elapsed_s > planned_s * LATE_MAX + 0.2:
        yield f"overloaded: {planned_s:.1f} s of load took {report.elapsed_s:.1f} s"
    if client_cpu > CLIENT_CPU_MAX:
        yield f"client saturated: {client_cpu:.0%} of a core"
