"""Whether an origin is worth asking.

Law: closed until `failures` in a row; then open for `open_s`; then one probe decides. An origin
that has been open is *shy* for a while, twice as long each time that it opens again soon: others
are asked before it, so that one that flaps does not have everybody change with it. Sans-IO.
"""

from __future__ import annotations

from typing import Final

# Times `open_s`: how long it is shy at least and at most, and when that is forgotten.
_SHY_LEAST: Final = 2
_SHY_MOST: Final = 16
_SHY_FORGOTTEN: Final = 8


class Breaker:
    """success() and failure() of exchanges, allow() before each."""

    def __init__(self, failures: int, open_s: float) -> None:
        self._limit = failures
        self._open_s = open_s
        self.failed = 0  # in a row
        self._retry_at = 0.0
        self._shy_s = 0.0
        self._shy_until = 0.0
        self.probes = 0  # exchanges let through to see whether it is well again

    @property
    def closed(self) -> bool:
        return self.failed < self._limit

    def state(self, now_s: float) -> str:
        """closed; open: left alone; half-open: the next exchange is the probe."""
        if self.closed:
            return "closed"
        return "open" if now_s < self._retry_at else "half-open"

    def shy(self, now_s: float) -> bool:
        return now_s < self._shy_until

    def allow(self, now_s: float) -> bool:
        """May an exchange go ahead? When half-open the first to ask is the probe, the others
        wait."""
        if self.closed:
            return True
        if now_s < self._retry_at:
            return False
        self._retry_at = now_s + self._open_s
        self.probes += 1
        return True

    def success(self) -> None:
        self.failed = 0

    def failure(self, now_s: float) -> None:
        self.failed += 1
        self._retry_at = now_s + self._open_s
        if self.failed == self._limit:  # it opens
            soon = now_s < self._shy_until + _SHY_FORGOTTEN * self._open_s
            longer_s = min(2 * self._shy_s, _SHY_MOST * self._open_s) if soon else 0.0
            self._shy_s = max(longer_s, _SHY_LEAST * self._open_s)
        if not self.closed:
            self._shy_until = now_s + self._shy_s
