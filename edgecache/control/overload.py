"""The overload ladder: what this POP gives up when memory runs out, so that the kernel need not
choose.

Law: every rung is looked at each TICK_S, climbed and left by pressure.Ladder; what a rung gives up
comes back when it is left. The cache gives up what is too much, at once, and keeps a quarter of its
budget in any case. Does not
know what memory is used for beyond that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from ..config import EdgeConfig
from .fill import Filler
from .pressure import HYSTERESIS, RUNGS, Group, Ladder, groups, resident

if TYPE_CHECKING:
    from .._core import Fill, Plane

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
_ENOUGH: Final = RUNGS[0][0] - HYSTERESIS  # the share at which the cache need not shrink any more
_LEAST: Final = 0.25  # of cache.memory
_ROUNDS: Final = 64  # of eviction, each tick
_REFUSED_MS: Final = 1000


class Overload:
    """await run(). `counts`: climbed.<rung>, refused_dvr."""

    def __init__(self, plane: Plane, filler: Filler, config: EdgeConfig) -> None:
        self._plane = plane
        self._filler = filler
        self._budget = config.cache.memory
        self._connections = config.limits()["max_connections"]
        self._own_limit = config.overload.memory
        self._groups: list[Group] = groups() if config.overload.cgroup else []
        self._ladder = Ladder()
        self.counts: Counter[str] = Counter()

    def tightest(self) -> tuple[float, int]:
        """(share that is used, bytes) of the limit that is nearest; (0, 0) without one."""
        found = [
            (group.used() / limit, limit) for group in self._groups if (limit := group.limit())
        ]
        if self._own_limit:
            used = resident() + self._plane.counters()["store_bytes_now"]
            found.append((used / self._own_limit, self._own_limit))
        return max(found, default=(0.0, 0))

    async def run(self) -> None:
        while self._groups or self._own_limit:
            self.look()
            await asyncio.sleep(TICK_S)

    def look(self) -> None:
        (share, limit), before = self.tightest(), self._ladder.rung
        rung = self._ladder.at(share)
        if rung != before:
            what = RUNGS[rung - 1][1] if rung else "none"
            log.warning("memory pressure", extra={"share": round(share, 3), "gives_up": what})
        for _, name in RUNGS[before:rung]:
            self.counts[f"climbed.{name}"] += 1
        if rung:
            self._shrink(int((share - _ENOUGH) * limit))
        elif before:
            self._plane.set_budget(self._budget)
        if (rung >= 3) != (before >= 3):
            self._plane.set_connections(0 if rung >= 3 else self._connections)
        if rung >= 4:
            self._plane.close_idle()

    def _shrink(self, excess: int) -> None:
        """By so many bytes, at once."""
        used = self._plane.counters()["store_bytes_now"]
        self._plane.set_budget(max(used - excess, int(self._budget * _LEAST)))
        for _ in range(_ROUNDS):
            if self._plane.evict():
                break

    def refused(self, fill: Fill) -> bool:
        """A miss that is not worth memory now; it is answered."""
        if self._ladder.rung < 2 or not self._filler.is_dvr(fill.key):
            return False
        fill.fail(503, ttl_ms=_REFUSED_MS)
        self.counts["refused_dvr"] += 1
        return True

    def gauges(self) -> dict[str, float]:
        return {"overload_rung": self._ladder.rung, "overload_memory_share": self.tightest()[0]}
