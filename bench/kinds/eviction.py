"""How good the choice of victims is: hit ratio on a trace, against known policies.

The server plays the trace over HTTP; a miss is a request that reached the origin. Policies come
from libcachesim with as many bytes as the server's whole budget, so the server's own overhead
counts against it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from pydantic import Field

from ..bodies import Blob
from ..errors import BenchError
from ..peers.peer import Peer, Running
from ..sample import Sample
from ..stage import Stage, client
from ..traces import Mix, trace
from .base import Kind, Params

_POLICIES: Final = {
    "policy-lru": "LRU", "policy-fifo": "FIFO", "policy-sieve": "Sieve",
    "policy-s3fifo": "S3FIFO", "policy-tinylfu": "WTinyLFU",
}  # fmt: skip
_SECONDS_A_REQUEST: Final = 0.02


class EvictionParams(Params):
    """`memory` is the whole budget in bytes; `objects` the size of the zipf catalogue."""

    mix: Mix
    size: int = Field(ge=1)
    memory: int = Field(ge=1 << 20, multiple_of=1024)
    requests: int = Field(ge=1)
    objects: int = Field(10_000, ge=1)
    alpha: float = Field(0.9, gt=0)


@lru_cache(maxsize=4)
def _ids(params: EvictionParams) -> list[int]:
    return trace(params.mix, requests=params.requests, objects=params.objects, alpha=params.alpha)


def _nothing(_params: EvictionParams) -> Sequence[Blob]:
    return ()


def equip(peer: Peer, params: EvictionParams, _stage: Stage) -> Peer:
    budget = f"{params.memory >> 10}KiB"
    options = ("-o", f"cache.memory={budget}", "-o", f"cache.object_max={budget}")
    return replace(peer, argv=(*peer.argv, *options))


def simulate(name: str, params: EvictionParams) -> Sample:
    """Hit ratio of a policy of `_POLICIES` with the same bytes."""
    try:
        library: Any = importlib.import_module("libcachesim")
    except ImportError:
        raise BenchError("libcachesim is not installed") from None
    cache = getattr(library, _POLICIES[name])(cache_size=params.memory)
    hits = sum(
        cache.get(library.Request(obj_id=number, obj_size=params.size)) for number in _ids(params)
    )
    return Sample({"hit_ratio": hits / params.requests})


def measure(stage: Stage, running: Running, params: EvictionParams) -> Sample:
    listing = stage.scratch / "trace.txt"
    listing.write_text("".join(f"/blob/{params.size}/{n}.m4s\n" for n in _ids(params)))
    stage.forget()
    asked = {"address": [running.address, running.port], "file": str(listing)}
    with client(stage, "trace", asked) as player:
        answer = player.answer(params.requests * _SECONDS_A_REQUEST + 10)
    refused = answer["refused"]
    problems = (f"{refused} of {params.requests} requests refused",) if refused else ()
    misses = sum(stage.asked().values())
    return Sample({"hit_ratio": 1 - misses / params.requests, "origin_requests": misses}, problems)


EVICTION = Kind(EvictionParams, _nothing, measure, warmed=False, equip=equip, simulate=simulate)
