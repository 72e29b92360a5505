"""Fetching ahead: what a playlist names is filled before a viewer asks, by the fill a viewer would
have started.

Law: one fill an object: a name that somebody has asked for is left to its miss. What fails is not
remembered, so that nobody is refused because of a guess. Each fetch is counted once as prefetched
and once more as used or wasted, when a viewer asked or its time passed; the difference is not yet
judged. Bound: `_OPEN_MAX` not judged at once, the oldest is judged first. Does not know playlists.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .._core import Plane
    from .fill import Filler

_OPEN_MAX: Final = 256


class Ahead:
    """Of one playlist. `counts` is shared by all: prefetched, used, wasted."""

    def __init__(self, plane: Plane, filler: Filler, counts: Counter[str]) -> None:
        self._plane = plane
        self._filler = filler
        self._counts = counts
        self._open: dict[bytes, float] = {}  # key -> monotonic time of its fetch, oldest first
        self._running: dict[bytes, asyncio.Task[bool]] = {}

    def fetch(self, keys: Iterable[bytes], *, held: bool = False) -> list[asyncio.Task[bool]]:
        """Start filling what is not there. `held`: the origin answers when it exists. Returns what
        runs for these keys, also from before; the tasks say whether the body is whole."""
        return [task for key in keys if (task := self._task(key, held)) is not None]

    def _task(self, key: bytes, held: bool) -> asyncio.Task[bool] | None:
        if key in self._running:
            return self._running[key]
        fill = self._plane.open(key, unasked=True)
        if fill is None and self._forget_failure(key):
            fill = self._plane.open(key, unasked=True)
        task = self._filler.start(fill, ahead=True, held=held) if fill is not None else None
        if task is not None:
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
            self._note(key)
        return task

    def _forget_failure(self, key: bytes) -> bool:
        """A 404 from before it existed must not outlive its being named."""
        found = self._plane.lookup(key)
        return found is not None and found["state"] == b"failed" and self._plane.purge(key)

    def _note(self, key: bytes) -> None:
        if len(self._open) >= _OPEN_MAX:
            self._judge(next(iter(self._open)), final=True)
        if key not in self._open:
            self._counts["prefetched"] += 1
        self._open[key] = monotonic()

    def settle(self, within_s: float) -> list[bytes]:
        """Judge what was asked for, or is older than `within_s`. Returns what was asked for."""
        before_s = monotonic() - within_s
        return [
            key for key, at_s in list(self._open.items()) if self._judge(key, final=at_s < before_s)
        ]

    def _judge(self, key: bytes, *, final: bool) -> bool:
        used = self._plane.asked(key)
        if used or final:
            del self._open[key]
            self._counts["used" if used else "wasted"] += 1
        return used
