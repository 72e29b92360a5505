"""What a hit costs: objects that are all in the cache, asked for at a fixed rate."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pydantic import Field

from ..bodies import Blob
from ..load import offer_many
from ..peers.peer import Running
from ..sample import Sample
from ..stage import Stage
from .base import Kind, Params, load_sample, offer, watched

_SHUFFLE_SEED = 1
_IDEAL_RATE = 5_000
_IDEAL_S = 2.0
_SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
_PRIME_S = 0.3  # connections, caches and branch predictors settle before the clock starts


class Object(Params):
    """`count` different objects of one size; together they are one turn of every connection."""

    size: int = Field(ge=0)
    count: int = Field(1, ge=1)
    suffix: str = "m4s"


class HitParams(Params):
    """`churn`: a new connection for each request."""

    objects: tuple[Object, ...] = Field(min_length=1)
    connections: int = Field(64, ge=1)
    rate: int = Field(ge=1)
    duration_s: float = Field(5.0, gt=0)
    churn: bool = False


def turn(params: HitParams) -> Sequence[Blob]:
    """The objects in the order every connection asks for them: kinds mixed, always the same."""
    blobs = [
        Blob(f"/blob/{each.size}/{number}.{each.suffix}", each.size)
        for each in params.objects
        for number in range(each.count)
    ]
    random.Random(_SHUFFLE_SEED).shuffle(blobs)
    return blobs


def measure(stage: Stage, running: Running, params: HitParams) -> Sample:
    blobs = turn(params)
    whole = offer(running, blobs, **params.model_dump(exclude={"objects"}))
    prime = offer(
        running, blobs, connections=params.connections, rate=params.rate, duration_s=_PRIME_S
    )
    offer_many(stage.network, [prime], stage.scratch)
    stage.forget()
    outcomes, cost = watched(running, lambda: offer_many(stage.network, [whole], stage.scratch))
    return load_sample(stage, running, outcomes, cost)


def ideal(stage: Stage, running: Running, size: int, viewers: int) -> Sample:
    """The floor of a crowd: `viewers` answers of `size` given one after another, at the CPU that a
    hit of that size costs the floor in this very run. First and last byte of an answer coincide."""
    load = HitParams(objects=(Object(size=size),), rate=_IDEAL_RATE, duration_s=_IDEAL_S)
    sample = measure(stage, running, load)
    cpu_us = sample.figures["cpu_us"]
    lag_ms = {f"{share}_ms": cpu_us * viewers / 1000 * part for share, part in _SHARES.items()}
    ends = {f"{end}_{share}": lag for share, lag in lag_ms.items() for end in ("first", "last")}
    figures = {"cpu_us": cpu_us, "cpu_ms": cpu_us * viewers / 1000, **ends}
    return Sample(figures, sample.problems)


HIT = Kind(HitParams, turn, measure)
