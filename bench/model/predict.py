"""One world, all its answers: what is needed, and how late everybody is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from .inputs import HOLD_PARTS, HOLD_SEGMENTS, World
from .joining import join
from .push import Pushed, push
from .release import Core, Released, quantile, release
from .steady import Need, need

SIMULATED_MAX: Final = 4000  # viewers of one core that are simulated; more are scaled
_PERCENTS: Final = (50, 95, 99, 100)


@dataclass(frozen=True)
class Prediction:
    """`lag_ms`: from a whole part at the packager to its last byte at a viewer, by percentile.
    `behind_s`: how far behind the camera a viewer plays, at p95 of the lag. `startup_ms` is
    of the largest POP. If nothing were pushed ahead: `pulls`, requests to the origin while all
    join; `pulls_alone`, what they would be if a POP asked once for every viewer that waits;
    `waiting`, most viewers of one POP that wait at once."""

    need: Need
    viewers_core: int
    busy: float
    lag_ms: Mapping[str, float]
    push_ms: Mapping[str, float]
    behind_s: float
    startup_ms: Mapping[str, float]
    pulls: int
    pulls_alone: int
    waiting: int
    curve_ms: Sequence[float]

    def row(self) -> dict[str, Any]:
        return asdict(self)


def predict(world: World) -> Prediction:
    total = need(world)
    pushed = push(world)
    joined = join(world, world.audience.shares()[0])
    cold = join(world.with_(hot=False), world.audience.viewers / world.audience.pops)
    on_core = _on_core(world, total)
    if world.stream.low_latency:
        released = _released(world, on_core)
        lags, busy = _composed(pushed, released), released.busy
    else:
        lags, busy = _polled(world, pushed), world.host.busy
    stream = world.stream
    hold_s = HOLD_PARTS * stream.part_s if stream.low_latency else HOLD_SEGMENTS * stream.segment_s
    return Prediction(
        need=total,
        viewers_core=on_core,
        busy=busy,
        lag_ms=_percentiles(lags),
        push_ms=_percentiles(pushed.lags),
        behind_s=hold_s + stream.unit_s / 2 + stream.encode_s + quantile(lags, 95),
        startup_ms=_percentiles(joined.startup),
        pulls=cold.coalesced * world.audience.pops,
        pulls_alone=cold.alone * world.audience.pops,
        waiting=cold.waiting,
        curve_ms=[1e3 * quantile(lags, percent) for percent in range(101)],
    )


def _on_core(world: World, total: Need) -> int:
    """Viewers of one core of the busiest host, as the hosts are dimensioned."""
    host, share = world.host, world.audience.shares()[0]
    hosts = max(1.0, total.hosts * share / world.audience.viewers)
    return max(1, round(min(share / hosts / host.cores, total.viewers_core)))


def _released(world: World, viewers: int) -> Released:
    """Viewers beyond what is simulated make every answer that much dearer instead."""
    costs, stream, audience = world.costs, world.stream, world.audience
    scale = max(1.0, viewers / SIMULATED_MAX)
    units = stream.unit_bytes()
    core = Core(
        viewers=round(viewers / scale),
        period_s=stream.part_s,
        wake_us=costs.wake_us * costs.factor * scale,
        park_us=costs.park_us * costs.factor * scale,
        unit_us=[costs.of(size) * scale for size in units],
        unit_s=[8 * size / audience.bandwidth_bps for size in units],
        rtt_s=audience.rtt_s,
        rtt_spread=audience.rtt_spread,
    )
    return release(core)


def _composed(pushed: Pushed, released: Released) -> list[float]:
    """Every tenth percentile of the POPs against every percent of a core's viewers: the two are
    independent."""
    pops = [quantile(pushed.lags, percent) for percent in range(0, 101, 10)]
    parts = [quantile(released.part, percent) for percent in range(101)]
    return sorted(pop + part for pop in pops for part in parts)


def _polled(world: World, pushed: Pushed) -> list[float]:
    """Classic: a viewer finds out at its next poll, at any time within a target duration."""
    audience, size = world.audience, world.stream.unit_bytes()[0]
    fetch = 2 * audience.rtt_s + 8 * size / audience.bandwidth_bps
    pops = [quantile(pushed.lags, percent) for percent in range(0, 101, 10)]
    waits = [world.stream.segment_s * percent / 100 for percent in range(101)]
    return sorted(pop + wait + fetch for pop in pops for wait in waits)


def _percentiles(ascending: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(1e3 * quantile(ascending, q), 2) for q in _PERCENTS}
