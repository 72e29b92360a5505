"""Whether workers get in each other's way on one object: one hot key against a key each.

Every connection is a load generator of its own, so that with a key each an object is only ever
touched by the one worker that owns its connection. Server and clients share all cores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pydantic import Field

from ..bodies import Blob
from ..load import offer_many
from ..peers.peer import Running
from ..sample import Sample
from ..stage import Stage
from .base import Kind, Params, load_sample, offer, watched


class HotKeyParams(Params):
    """`keys` different objects over `connections`; `rate` is of all connections together."""

    size: int = Field(ge=0)
    keys: int = Field(ge=1)
    connections: int = Field(16, ge=1)
    rate: int = Field(ge=1)
    duration_s: float = Field(5.0, gt=0)


def objects(params: HotKeyParams) -> Sequence[Blob]:
    return [Blob(f"/blob/{params.size}/{n}.m4s", params.size) for n in range(params.keys)]


def measure(stage: Stage, running: Running, params: HotKeyParams) -> Sample:
    blobs = objects(params)
    each = {
        "connections": 1,
        "rate": params.rate / params.connections,
        "duration_s": params.duration_s,
    }
    offers = [offer(running, [blobs[n % params.keys]], **each) for n in range(params.connections)]
    cores = sorted(os.sched_getaffinity(0))
    stage.forget()
    outcomes, cost = watched(
        running, lambda: offer_many(stage.network, offers, stage.scratch, cores)
    )
    return load_sample(stage, running, outcomes, cost)


HOT_KEY = Kind(HotKeyParams, objects, measure, all_cores=True, workers=2)
