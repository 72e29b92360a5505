"""Who encodes what of one stream: this host, a worker, or for now nobody.

Laws: a rung that nobody makes is the next one below that somebody does, of the same codec, under
its own name, so that whoever watches it goes on. This host leaves out what is its own, and never
does a worker's work: it was given away because there is no room for it. Pure, but for what it has
seen. Does not know encoders, nor how a worker is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from . import ladder
from .health import Health, Limits
from .ladder import Plan
from .remote import State
from .source import Source

Verdict = Literal["", "slow", "fast", "late"]

_NOBODY: Final = Plan(rungs=(), sounds=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """here: what our own encoder makes; there: what the worker does, no track without one. shown:
    of each track that is made, under which names."""

    here: Plan
    there: Plan
    shown: Mapping[str, tuple[str, ...]]


def given_away(plan: Plan) -> Plan:
    """What of `plan` is a worker's."""
    return replace(plan, rungs=tuple(r for r in plan.rungs if r.away), sounds=(), texts=())


def kept(plan: Plan) -> Plan:
    """What of `plan` is our own."""
    return replace(plan, rungs=tuple(rung for rung in plan.rungs if not rung.away))


def homeless(plan: Plan) -> str | None:
    """A track of a worker that nothing could stand in for, if there is one: below each there must
    be a rung of its codec that is our own."""
    for number, rung in enumerate(plan.rungs):
        below = (r for r in plan.rungs[number + 1 :] if r.codec == rung.codec and not r.away)
        if rung.away and not any(each.short <= rung.short for each in below):
            return rung.track
    return None


def share(plan: Plan, level: int, *, worker: bool) -> Share:
    """`plan` with `level` steps left out here (ladder.shed), and with or without a worker. Of a
    plan where nothing is `homeless`."""
    here, _ = ladder.shed(kept(plan), level)
    there = given_away(plan) if worker else _NOBODY
    shown: dict[str, tuple[str, ...]] = {track: (track,) for track in (*here.tracks, *there.tracks)}
    for number, rung in enumerate(plan.rungs):
        if rung.track not in shown:
            below = (r for r in plan.rungs[number + 1 :] if r.codec == rung.codec)
            made = next(each.track for each in below if each.track in shown)
            shown[made] += (rung.track,)
    return Share(here=here, there=there, shown=shown)


class Sharing:
    """Of one stream. `plan`: what its source can fill; `shaped`: in the sizes of the source; `now`:
    who makes what in the running generation."""

    def __init__(self, plan: Plan, limits: Limits) -> None:
        self.plan = self.shaped = plan
        self.now = share(plan, 0, worker=False)
        self._limits = limits
        self._here = Health(limits)
        self._there = Health(limits)

    @property
    def shed(self) -> int:
        """How many steps are left out here."""
        return self._here.level

    def fit(self, source: Source) -> None:
        self.plan = ladder.fit(self.plan, source.size, source.fps)

    def fits(self, source: Source) -> bool:
        """Would what it makes now have the same sizes of this source?"""
        return ladder.shape(self.plan, source.size or (0, 0)) == self.shaped

    def begin(self, source: Source, worker: State) -> Share:
        """Of the generation that begins."""
        self._here.began()
        self._there = Health(self._limits)
        self.shaped = ladder.shape(self.plan, source.size or (0, 0))
        self.now = share(self.shaped, self.shed, worker=worker == "there")
        return self.now

    def judge(self, track: str, inside_s: float, now_s: float) -> Verdict:
        """A part of `track` came out whose media was inside an encoder for so long. slow, fast: our
        own is to leave out one step more, or one less; late: the worker is of no use."""
        if any(rung.track == track for rung in self.now.there.rungs):
            return "late" if self._there.saw(inside_s, now_s, steps=1) else ""
        before = self.shed
        if not self._here.saw(inside_s, now_s, steps=ladder.steps(kept(self.plan))):
            return ""
        return "slow" if self.shed > before else "fast"
