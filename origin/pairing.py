"""Which place of a publisher's container an FLV tag was made of: by the publisher's clock.

Laws: sans-IO. Both run at one rate, some time apart: what ffmpeg makes of a container begins with
its first entry, and so does the clock of the tags. Where the container's clock jumps, the first
tag to begin with behind the last entry is the jump's. A tag is paired with the newest entry that
is not later, so what it is of is never behind it. Bound: PLACES of each; while there are more, what
was known stays. Knows nothing of what asks.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from edgecache.flv import VIDEO, FlvReader

from .entries import PLACES

_JUMP_MS: Final = 10_000.0  # ffmpeg, too, evens out what is more
_NEAR_MS: Final = 20.0  # by which both may be rounded


class Pairing:
    """entry() what goes in, made() of what comes out, number() of a tag."""

    def __init__(self, first: int) -> None:
        """`first`: the number that all begins with."""
        self._reader = FlvReader()
        self._tags = 0
        self._has_picture = False
        self._ahead_ms: float | None = None  # of the container's clock
        self._entries: deque[tuple[int, float]] = deque()  # (number, ms); the first is being made
        self._pairs = deque([(0, first)])  # (tag, number)

    def entry(self, number: int, at_ms: float) -> None:
        """A place to begin with has come in."""
        if len(self._entries) < PLACES:
            self._entries.append((number, at_ms))

    def made(self, data: bytes) -> None:
        """More FLV bytes have come out."""
        for tag in self._reader.feed(data):
            self._has_picture |= tag.kind == VIDEO
            if tag.is_entry(has_picture=self._has_picture) and self._entries:
                self._pair(tag.timestamp)
            self._tags += 1

    def number(self, tag: int) -> int:
        """Where to begin for this tag."""
        while len(self._pairs) > 1 and self._pairs[1][0] <= tag:
            self._pairs.popleft()
        return self._pairs[0][1]

    def _pair(self, tag_ms: float) -> None:
        if self._ahead_ms is None:
            self._ahead_ms = self._entries[0][1] - tag_ms
        while len(self._entries) > 1:
            before_ms, then_ms = self._entries[0][1], self._entries[1][1]
            at_ms = tag_ms + self._ahead_ms + _NEAR_MS
            if not 0 <= then_ms - before_ms <= _JUMP_MS:
                if at_ms - before_ms < 2 * _NEAR_MS:
                    break
                self._ahead_ms = then_ms - tag_ms
            elif then_ms > at_ms:
                break
            self._entries.popleft()
        number = self._entries[0][0]
        if number != self._pairs[-1][1] and len(self._pairs) < PLACES:
            self._pairs.append((self._tags, number))
