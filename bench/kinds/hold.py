"""What viewers cost that do nothing, and what those cost that read slowly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from pydantic import Field

from ..bodies import Blob
from ..load import offer_many
from ..measure import Memory, memory, snapshot, spent
from ..peers.peer import Running
from ..sample import Sample
from ..stage import Stage, client
from .base import Kind, Params, load_sample, offer, watched

_SETTLE_S = 1.0
_TIMEOUT_S = 60.0


class IdleParams(Params):
    viewers: int = Field(ge=4)
    size: int = Field(1024, ge=0)


def idle_objects(params: IdleParams) -> Sequence[Blob]:
    return [Blob(f"/blob/{params.size}/idle.m3u8", params.size)]


def measure_idle(stage: Stage, running: Running, params: IdleParams) -> Sample:
    """Memory with a quarter of the viewers and with all of them, each connected and served once.

    The slope between the two: what a process allocates or gives back once, at its first viewers,
    is no part of a connection (taking the start as zero gave negative sizes)."""
    few, more = params.viewers // 4, params.viewers - params.viewers // 4
    with _held(stage, running, params, few) as first:
        before = _settled(running)
        with _held(stage, running, params, more) as rest:
            after = _settled(running)
            start = snapshot(running.pid)
            time.sleep(_SETTLE_S)
            idling = spent(start, snapshot(running.pid), running.cpus)
    lost = params.viewers - first - rest
    problems = [f"{lost} viewers were not served"] if lost else []
    figures = {
        "private_b": (after.private - before.private) / more,
        "pss_b": (after.pss - before.pss) / more,
        "idle_cpu_ms": idling.cpu_s * 1e3 / _SETTLE_S,
    }
    return Sample(figures, tuple(problems))


@contextlib.contextmanager
def _held(stage: Stage, running: Running, params: IdleParams, viewers: int) -> Iterator[int]:
    """How many of `viewers` were served; all stay connected while the block lasts."""
    (blob,) = idle_objects(params)
    with client(stage, "idle", {
        "address": [running.address, running.port], "path": blob.path,
        "viewers": viewers, "timeout_s": _TIMEOUT_S, "hold_s": _TIMEOUT_S,
    }) as holder:  # fmt: skip
        yield holder.answer(_TIMEOUT_S)["served"]


def _settled(running: Running) -> Memory:
    time.sleep(_SETTLE_S)  # buffers that are only borrowed go back
    return memory(running.pid)


class SlowParams(Params):
    """`viewers` read a body of `size` at `bytes_s` each, while others are served normally."""

    viewers: int = Field(ge=1)
    size: int = Field(ge=1)
    bytes_s: int = Field(ge=1)
    bystander_size: int = Field(ge=0)
    connections: int = Field(64, ge=1)
    rate: int = Field(ge=1)
    duration_s: float = Field(5.0, gt=0)


def slow_objects(params: SlowParams) -> Sequence[Blob]:
    return [
        Blob(f"/blob/{params.bystander_size}/fast.m4s", params.bystander_size),
        Blob(f"/blob/{params.size}/slow.m4s", params.size),
    ]


def measure_slow(stage: Stage, running: Running, params: SlowParams) -> Sample:
    fast, big = slow_objects(params)
    load = offer(
        running, [fast], connections=params.connections, rate=params.rate,
        duration_s=params.duration_s,
    )  # fmt: skip
    stage.forget()
    alone = offer_many(stage.network, [load], stage.scratch)[0]
    before = memory(running.pid)
    with client(stage, "slow", {
        "address": [running.address, running.port], "path": big.path,
        "viewers": params.viewers, "bytes_s": params.bytes_s, "hold_s": _TIMEOUT_S,
    }) as holder:  # fmt: skip
        holder.answer(_TIMEOUT_S)
        outcomes, cost = watched(running, lambda: offer_many(stage.network, [load], stage.scratch))
        after = memory(running.pid)
        holder.release()
        cut = holder.answer(_TIMEOUT_S)["cut"]
    sample = load_sample(stage, running, outcomes, cost)
    problems = (*sample.problems, *alone.problems, *((f"{cut} viewers were cut",) if cut else ()))
    figures = {
        **sample.figures,
        "alone_p99_ms": alone.latency_ms[2],
        "slow_b": (after.pss - before.pss) / params.viewers,
    }
    return Sample(figures, problems)


IDLE = Kind(IdleParams, idle_objects, measure_idle)
SLOW = Kind(SlowParams, slow_objects, measure_slow)
