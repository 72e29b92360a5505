"""The push tree: when each POP has the whole of a part, after the origin has it.

Every rendition goes to every POP. Those pushed to share the sender's egress fairly and are each
bound by their own connection, so all transfers of one sender end together, and distance decides
who is last. A shield passes a part on when it has all of it (as every POP does: RFC 8216bis 6.2.6).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .inputs import World


@dataclass(frozen=True)
class Pushed:
    """`lags` in seconds, one for each POP, ascending. `overrun`: bytes offered over bytes the
    origin can send; above 1 it never catches up and the lags are those of the first part."""

    lags: tuple[float, ...]
    overrun: float


def push(world: World, *, seed: int = 1) -> Pushed:
    wires, pops = world.wires, world.audience.pops
    draw = random.Random(seed)
    bits = world.stream.pushed_bps() * world.stream.unit_s
    children = wires.shields or pops
    first = _transfer(bits, children, wires.origin_bps, wires.push_bps)
    distances = [wires.rtt_s / 2 * draw.lognormvariate(0, wires.rtt_spread) for _ in range(pops)]
    if wires.shields:
        # a shield lies on the way: the distance is the same, the bytes are sent twice
        first += _transfer(bits, pops / wires.shields, wires.origin_bps, wires.push_bps)
    overrun = children * world.stream.pushed_bps() / wires.origin_bps
    return Pushed(tuple(sorted(first + d for d in distances)), overrun)


def _transfer(bits: float, receivers: float, egress_bps: float, connection_bps: float) -> float:
    return max(bits * receivers / egress_bps, bits / connection_bps)
