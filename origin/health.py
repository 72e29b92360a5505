"""Whether an encoder keeps up, and how much of its work is to be left out.

Laws: sans-IO. It judges by how long media is inside the encoder: one that is slower than real time
falls behind by the same each second, whatever the publisher's network does, while one that keeps up
takes the same time for ever. Late for `for_s` without a break: one step more is left out. On time
for `calm_s`: one step comes back; if it turns out to have been too early, the next try waits twice
as long, up to `calm_max_s`. Does not know what a step is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .model import PartObject, Publication


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds. late_s: media is inside the encoder for longer than it may; less than half of that
    is on time."""

    late_s: float = 1.0
    for_s: float = 5.0
    calm_s: float = 60.0
    calm_max_s: float = 960.0


class Health:
    """saw() of each part; `level`: how many steps are to be left out, at most `steps`. A change is
    judged once an encoder began() that heeds it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calm_s = limits.calm_s
        self._late_since_s: float | None = None
        self._calm_since_s: float | None = None
        self._returned_s: float | None = None  # when a step came back
        self._changing = False
        self.level = 0

    def began(self) -> None:
        """Another encoder runs: what was seen of the one before says nothing of it."""
        self._late_since_s = self._calm_since_s = None
        self._changing = False

    def saw(self, inside_s: float, now_s: float, *, steps: int) -> bool:
        """A part came out at `now_s` whose media was inside for `inside_s`. True: the level changed
        with it."""
        if self._changing:
            return False
        late, calm = inside_s > self._limits.late_s, inside_s < self._limits.late_s / 2
        self._late_since_s = _since(self._late_since_s, now_s, still=late)
        self._calm_since_s = _since(self._calm_since_s, now_s, still=calm)
        if self.level < steps and _lasts(self._late_since_s, now_s, self._limits.for_s):
            self._leave_out(now_s)
        elif self.level and _lasts(self._calm_since_s, now_s, self._calm_s):
            self.level -= 1
            self._returned_s = now_s
            self._changing = True
        return self._changing

    def _leave_out(self, now_s: float) -> None:
        if _lasts(self._returned_s, now_s, self._calm_s):
            self._calm_s = self._limits.calm_s
        elif self._returned_s is not None:
            self._calm_s = min(2 * self._calm_s, self._limits.calm_max_s)
        self.level += 1
        self._changing = True


class Speed:
    """How fast one encoder is: made() of what it made, over() the time since it began()."""

    def __init__(self) -> None:
        self._made_s: dict[str, float] = {}  # of media, by track
        self._began_s = 0.0

    def began(self, now_s: float) -> None:
        self._made_s, self._began_s = {}, now_s

    def made(self, publications: Iterable[Publication]) -> None:
        for item in publications:
            if isinstance(item, PartObject):
                self._made_s[item.track] = self._made_s.get(item.track, 0.0) + item.duration_s

    def over(self, now_s: float) -> float | None:
        """Media seconds a second, of the slowest track; None when nothing was made."""
        elapsed_s = now_s - self._began_s
        if not self._made_s or elapsed_s <= 0:
            return None
        return round(min(self._made_s.values()) / elapsed_s, 3)


def _since(before_s: float | None, now_s: float, *, still: bool) -> float | None:
    return (now_s if before_s is None else before_s) if still else None


def _lasts(since_s: float | None, now_s: float, least_s: float) -> bool:
    return since_s is not None and now_s - since_s >= least_s
