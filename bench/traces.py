"""Request traces for hit ratios: who asks for which object, in order. Pure and repeatable.

`zipf`: a catalogue with a long tail. `live`: many channels, each with a moving edge; nearly
everybody asks for the newest segments of a few channels. `dvr`: the same, while some viewers go
back hours and read what hardly anybody else does.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Final, Literal

Mix = Literal["zipf", "live", "dvr"]
_SEED: Final = 7
_CHANNELS: Final = 200
_EDGE: Final = 3  # a player at the edge asks for one of the newest segments
_REQUESTS_A_TICK: Final = 400  # of all channels, while a segment is the newest one
_DVR_SHARE: Final = 0.2
_DVR_DEPTH: Final = 300  # segments back


def trace(mix: Mix, *, requests: int, objects: int, alpha: float) -> list[int]:
    """Object ids in the order they are asked for. `objects`: size of the zipf catalogue."""
    rng = random.Random(_SEED)
    if mix == "zipf":
        return _zipf(rng, objects, alpha, requests)
    share = _DVR_SHARE if mix == "dvr" else 0.0
    return list(itertools.islice(_moving(rng, alpha, share), requests))


def _zipf(rng: random.Random, objects: int, alpha: float, requests: int) -> list[int]:
    weights = list(itertools.accumulate(1 / (rank + 1) ** alpha for rank in range(objects)))
    return rng.choices(range(objects), cum_weights=weights, k=requests)


def _moving(rng: random.Random, alpha: float, dvr_share: float) -> Iterator[int]:
    """Ids are segment number x channels + channel; the edge starts where history is deep enough."""
    for newest in itertools.count(_DVR_DEPTH):
        for channel in _zipf(rng, _CHANNELS, alpha, _REQUESTS_A_TICK):
            back = _DVR_DEPTH if rng.random() < dvr_share else _EDGE
            yield (newest - rng.randrange(back)) * _CHANNELS + channel
