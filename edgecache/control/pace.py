"""How fast an origin answers, and so when an answer is late.

Law: late is later than `_LATE` of the last answers; while too few are known nothing is late.
Bound: answers remembered. Sans-IO.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_KEPT: Final = 128
_ENOUGH: Final = 20
_EVERY: Final = 8  # how many answers a figure stands for
_LATE: Final = 0.95
_LEAST_S: Final = 0.02  # sooner than this is our own doing


class Pace:
    """Seconds to the heads of the last answers."""

    def __init__(self) -> None:
        self._last_s: deque[float] = deque(maxlen=_KEPT)
        self._added = 0
        self.late_s: float | None = None  # None: not known

    def add(self, seconds: float) -> None:
        self._last_s.append(seconds)
        self._added += 1
        if len(self._last_s) >= _ENOUGH and self._added % _EVERY == 0:
            self.late_s = max(sorted(self._last_s)[int(_LATE * len(self._last_s))], _LEAST_S)
