"""What healthy viewers feel of clients that use up what there is (clients/exhaustion.py)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import Field

from ..bodies import Blob
from ..peers.peer import Running
from ..sample import Sample
from ..stage import Stage, client
from .base import Kind, Params

_SLACK_S: Final = 30.0

Harm = Literal[
    "heads", "silent", "unread", "zero_window", "pipelines", "resets", "flood", "names", "queries"
]


class ExhaustionParams(Params):
    """`clients` come, or something is done, `rate` times a second, from an address of its own; what
    they ask for has `size`. Healthy viewers ask for `healthy_size`, alone and beside them in turn.
    """

    harm: Harm
    clients: int = Field(200, ge=1)
    rate: int = Field(4000, ge=1)
    size: int = Field(4 << 20, ge=1)
    healthy_size: int = Field(16 << 10, ge=1)
    duration_s: float = Field(0.25, gt=0)
    turns: int = Field(7, ge=1)


def objects(params: ExhaustionParams) -> Sequence[Blob]:
    return [
        Blob(f"/blob/{params.healthy_size}/healthy.m4s", params.healthy_size),
        Blob(f"/blob/{params.size}/wanted.m4s", params.size),
    ]


def measure(stage: Stage, running: Running, params: ExhaustionParams) -> Sample:
    healthy, wanted = objects(params)
    with client(stage, "exhaustion", {
        "address": [running.address, running.port], "source": stage.network.other_ip,
        "path": wanted.path, "healthy": healthy.path, "at_home": False,
        **params.model_dump(include={"harm", "clients", "rate", "duration_s", "turns"}),
    }) as both:  # fmt: skip
        felt = both.answer(params.turns * 2 * params.duration_s + _SLACK_S)
    alone, beside = (
        [statistics.median(turn) for turn in zip(*felt[when], strict=True)]
        for when in ("alone_ms", "beside_ms")
    )
    figures = {
        "alone_p50_ms": alone[0],
        "alone_p99_ms": alone[1],
        "p50_ms": beside[0],
        "p99_ms": beside[1],
        "harm": beside[1] / alone[1],
        "kernel_kib": felt["kernel_bytes"] / 1024,
    }
    return Sample(figures, () if felt["done"] else ("nobody did any harm",))


EXHAUSTION = Kind(ExhaustionParams, objects, measure)
