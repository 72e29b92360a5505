"""How many viewers that really play one server core holds: the native swarm, in growing crowds.

A crowd is held when all of it plays, without an error or a stall, and every byte is right. Crowds
grow by fixed steps until one is not held or the swarm's own core is full, which is said; figures
are those of the largest that was held. `viewers_core` is what a whole core would hold at the CPU a
viewer cost then: what the server has left when the client is what ends the search.
First and last byte are of media, behind the request for them, by the kernel's stamps.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import Field

from ..bodies import Blob
from ..errors import BenchError
from ..peers.peer import Running
from ..process import spawned, tail
from ..sample import Sample
from ..stage import REPOSITORY, Stage
from ..swarm.build import build
from .base import Kind, Params

_LIST: Final = "/show/master.m3u8"
_SLACK_S: Final = 30.0
_SPANS: Final = {"first": "wait", "last": "fetch"}  # of the swarm's tallies
_CLIENT_FULL: Final = 0.85  # of a core; a larger crowd would wait for itself


class ViewersParams(Params):
    """`crowds`: viewers to try, ascending. All join within `ramp_s` and play `seconds` more."""

    mode: Literal["ll", "classic"]
    crowds: tuple[int, ...] = Field(min_length=1)
    ramp_s: float = Field(2.0, gt=0)
    seconds: float = Field(8.0, gt=0)


def _nothing(_params: ViewersParams) -> Sequence[Blob]:
    return ()


def _play(stage: Stage, running: Running, params: ViewersParams, viewers: int) -> dict[str, Any]:
    """What the swarm says of one crowd (swarm/result.py)."""
    argv = [
        sys.executable, "-m", "bench.swarm", running.url(_LIST), "--json", "--mode", params.mode,
        "--viewers", str(viewers), "--seconds", str(params.seconds), "--ramp", str(params.ramp_s),
        "--pid", str(running.pid),
    ]  # fmt: skip
    log = stage.scratch / "swarm.log"
    environment = {"PYTHONPATH": str(REPOSITORY)}
    with spawned(stage.network.on_client(argv), log=log, env=environment) as swarm:
        try:
            swarm.wait(params.ramp_s + params.seconds + _SLACK_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{viewers} viewers: the swarm did not end") from None
    try:
        found: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    except (IndexError, ValueError):
        raise BenchError(f"{viewers} viewers: {tail(log, 3)}") from None
    return found


def _why(found: dict[str, Any]) -> str:
    errors = ", ".join(f"{count} {name}" for name, count in found["errors"].items())
    return (
        f"{found['viewers']} viewers are too many: {found['started']} played, {found['stalls']} "
        f"stalls, {errors or 'no'} errors"
    )


def _figures(found: dict[str, Any], origin_requests: int) -> dict[str, float]:
    lags = {
        f"{end}_{share}_ms": found["ms"][span][share]
        for end, span in _SPANS.items()
        for share in ("p50", "p99")
    }
    server = found["server"]
    return lags | {
        "held": found["viewers"],
        "viewers_core": server["viewers_core"],
        "server_core": server["cores"],
        "cpu_us": server["us_request"],
        "viewer_mbit": server["viewer_megabits_s"],
        "viewer_requests": found["requests_s_viewer"],
        "client_cpu": found["client_cpu"],
        "origin_requests": origin_requests,
    }


def measure(stage: Stage, running: Running, params: ViewersParams) -> Sample:
    try:
        build()
    except RuntimeError as error:
        raise BenchError(str(error)) from None
    held: Sample | None = None
    for viewers in params.crowds:
        stage.forget()
        found = _play(stage, running, params, viewers)
        if not found["sound"]:
            return held or Sample({}, (_why(found),))
        held = Sample(_figures(found, sum(stage.asked().values())))
        if found["client_cpu"] > _CLIENT_FULL:
            break
    assert held is not None
    return held


VIEWERS = Kind(ViewersParams, _nothing, measure, warmed=False)
