"""From a publish to the viewers parked for it, through the push door of our own server.

The floor's row is the ideal (`hit.ideal`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from ..bodies import Blob
from ..measure import snapshot, spent
from ..peers.peer import Peer, Running
from ..sample import Sample
from ..stage import Stage, client
from .base import Kind, Params
from .hit import ideal

_SECRET = secrets.token_hex(16)
_SLACK_S = 30.0
_NAMESPACED_DOOR = 8082


class FanoutParams(Params):
    viewers: int = Field(ge=1)
    size: int = Field(ge=128)
    settle_s: float = Field(1.0, gt=0)


class PushParams(Params):
    viewers: int = Field(ge=1)
    size: int = Field(ge=128)
    part_bytes: int = Field(ge=4)
    publishes: int = Field(ge=1)
    gap_s: float = Field(0.03, gt=0)


def objects(params: FanoutParams | PushParams) -> Sequence[Blob]:
    return [Blob(f"/blob/{params.size}/0.m3u8", params.size)]


def equip(peer: Peer, _params: Params, stage: Stage) -> Peer:
    """A push door beside the viewers' one; everything else stays as it is."""
    if peer.feeds == "canned":
        return peer
    door = _NAMESPACED_DOOR if stage.network.namespaces else stage.network.server_port()
    options = {**peer.options, "door": str(door)}
    argv = (
        *peer.argv, "-o", "push.listen=@{address}:@{door}",
        "-o", f"keys.bench.secret={_SECRET}",
    )  # fmt: skip
    return replace(peer, argv=argv, options=options)


def _crowd(stage: Stage, running: Running, params: FanoutParams | PushParams) -> dict[str, Any]:
    return {
        "address": [running.address, running.port],
        "door": [running.address, int(running.values["door"])],
        "origin": stage.origin, "secret": _SECRET, "viewers": params.viewers,
        "size": params.size, "timeout_s": _SLACK_S,
    }  # fmt: skip


def measure_fanout(stage: Stage, running: Running, params: FanoutParams) -> Sample:
    if running.peer.feeds == "canned":
        return ideal(stage, running, params.size, params.viewers)
    stage.forget()
    asked = {**_crowd(stage, running, params), "settle_s": params.settle_s}
    with client(stage, "fanout", asked) as crowd:
        crowd.answer(_SLACK_S)
        before = snapshot(running.pid)
        answer = crowd.answer(_SLACK_S * 2)
    cost = spent(before, snapshot(running.pid), running.cpus)
    return _sample(answer, cpu_us=cost.cpu_s / params.viewers * 1e6)


def measure_push(stage: Stage, running: Running, params: PushParams) -> Sample:
    stage.forget()
    asked = _crowd(stage, running, params) | params.model_dump(
        include={"publishes", "part_bytes", "gap_s"}
    )
    with client(stage, "push_to_byte", asked) as crowd:
        return _sample(crowd.answer(params.publishes * (params.gap_s + 1) + _SLACK_S))


def _sample(answer: dict[str, Any], **more: float) -> Sample:
    problems = list(answer.pop("problems"))
    series = answer.pop("series")
    if answer["origin_requests"]:
        problems.append(f"{answer['origin_requests']} origin requests while everything is pushed")
    return Sample({**answer, **more}, tuple(problems), series)


FANOUT = Kind(FanoutParams, objects, measure_fanout, warmed=False, equip=equip)
PUSH_TO_BYTE = Kind(PushParams, objects, measure_push, warmed=False, equip=equip)
