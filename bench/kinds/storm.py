"""The herd: many viewers ask at once for what nobody has, and the origin is late or trickles.

The floor's row is the ideal (`hit.ideal`), of one chunk when the body trickles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from ..bodies import Blob, late
from ..measure import snapshot, spent
from ..peers.peer import Peer, Running
from ..sample import Sample
from ..stage import Stage, client
from .base import Kind, Params
from .hit import ideal

_SLACK_S = 20.0


class StormParams(Params):
    """The origin's first byte comes after `delay_ms`, its `chunks` evenly over `over_ms`."""

    viewers: int = Field(ge=1)
    size: int = Field(ge=1)
    delay_ms: int = Field(ge=1)
    over_ms: int = Field(0, ge=0)
    chunks: int = Field(1, ge=1)


def objects(params: StormParams) -> Sequence[Blob]:
    return [late(**params.model_dump(exclude={"viewers"}))]


def _of_floor(peer: Peer, params: StormParams, _stage: Stage) -> Peer:
    """The floor answers with one chunk."""
    if peer.feeds != "canned":
        return peer
    return replace(peer, argv=(*peer.argv[:-1], str(params.size // params.chunks)))


def measure(stage: Stage, running: Running, params: StormParams) -> Sample:
    if running.peer.feeds == "canned":
        return ideal(stage, running, params.size // params.chunks, params.viewers)
    (blob,) = objects(params)
    timeout_s = (params.delay_ms + params.over_ms) / 1000 + _SLACK_S
    stage.forget()
    before = snapshot(running.pid)
    with client(stage, "storm", {
        "address": [running.address, running.port], "origin": stage.origin, "path": blob.path,
        "viewers": params.viewers, "size": params.size, "ends": blob.chunk_ends(),
        "timeout_s": timeout_s,
    }) as storm:  # fmt: skip
        answer: dict[str, Any] = storm.answer(timeout_s + _SLACK_S)
    cost = spent(before, snapshot(running.pid), running.cpus)
    problems, series = answer.pop("problems"), answer.pop("series", {})
    cpu = {"cpu_ms": cost.cpu_s * 1e3, "cpu_us": cost.cpu_s / params.viewers * 1e6}
    retransmits = cost.net.get("TcpRetransSegs", 0)
    return Sample({**answer, **cpu, "retransmits": retransmits}, tuple(problems), series)


STORM = Kind(StormParams, objects, measure, warmed=False, equip=_of_floor)
