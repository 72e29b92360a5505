"""What the server paid while the swarm played: CPU of its process tree after the ramp."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from ..errors import BenchError
from ..measure import Snapshot, snapshot, spent
from .drive import Crowd, Progress, run
from .plan import Plan
from .result import Result


@dataclass(frozen=True)
class Server:
    """`viewers_core`: viewers that one core held at this bit rate, were it all busy."""

    cores: float
    us_request: float
    viewers_core: int
    viewer_megabits_s: float


def run_beside(
    plan: Plan, crowd: Crowd, pid: int, progress: Progress | None = None
) -> tuple[Result, Server]:
    """As drive.run, and what process `pid` and its descendants needed. Raises BenchError when it is
    not there."""
    taken: list[tuple[float, Snapshot]] = []
    over = threading.Event()

    def take() -> None:
        if not over.wait(crowd.ramp_s):
            taken.append((time.monotonic(), _snapshot(pid)))

    _snapshot(pid)
    watcher = threading.Thread(target=take, name="watcher")
    watcher.start()
    try:
        result = run(plan, crowd, progress)
    finally:
        over.set()
        watcher.join()
    if not taken:
        raise BenchError("the run was over before its ramp")
    began, before = taken[0]
    seconds = time.monotonic() - began
    cores = spent(before, _snapshot(pid), ()).cpu_s / seconds
    steady, window = result.steady, result.steady_s
    media = 8e-6 * (steady["bytes_media"] + steady["bytes_playlist"]) / window
    return result, Server(
        cores=round(cores, 4),
        us_request=round(1e6 * cores * window / max(1, steady["asked"]), 2),
        viewers_core=round(result.playing / cores) if cores else 0,
        viewer_megabits_s=round(media / max(1, result.playing), 3),
    )


def _snapshot(pid: int) -> Snapshot:
    try:
        return snapshot(pid)
    except OSError:
        raise BenchError(f"process {pid} is not there") from None
