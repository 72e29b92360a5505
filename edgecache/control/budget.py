"""How many requests fills may add to those that viewers cause: retries and hedges.

Law: each first request earns a share of a token, each one on top costs a whole one. So whatever
fails or hangs, origins see no more than 1 + share times what they would see otherwise, and an
outage does not keep itself alive by its retries. A token a second, and `_RESERVE` of them kept, let
a quiet host retry too. Sans-IO.
"""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import Final

_RESERVE: Final = 20.0


class Budget:
    """`percent`: of first requests."""

    def __init__(self, percent: int) -> None:
        self._share = percent / 100
        self._tokens = _RESERVE if percent else 0.0
        self._at_s = monotonic()

    def earn(self) -> None:
        self._tokens = min(self._tokens + self._share, _RESERVE)

    def spend(self, now_s: float) -> bool:
        if self._share:
            self._tokens = min(self._tokens + max(now_s - self._at_s, 0.0), _RESERVE)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Extras:
    """`counts`: retried, hedged, denied.<which>."""

    def __init__(self, *, retries: int, hedges: int) -> None:
        """Percent of the first requests."""
        self._budgets = {"retried": Budget(retries), "hedged": Budget(hedges)}
        self.counts: Counter[str] = Counter()

    def first(self) -> None:
        for budget in self._budgets.values():
            budget.earn()

    def may(self, what: str) -> bool:
        """One more, `retried` or `hedged`; False: not now."""
        granted = self._budgets[what].spend(monotonic())
        self.counts[what if granted else f"denied.{what}"] += 1
        return granted
