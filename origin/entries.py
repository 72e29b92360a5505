"""Where in a publisher's media another encoder could begin.

Laws: sans-IO; places come in the order of the media. Bound: `PLACES`, the oldest is forgotten; then
more is sent again than was needed, never less. Knows nothing of what asks.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from edgecache.flv import VIDEO, Tag, is_enhanced

PLACES: Final = 256


class Entries:
    """Keyframes, or any place in sound alone: (ms at which it is shown, number of its tag)."""

    def __init__(self) -> None:
        self._places: deque[tuple[int, int]] = deque(maxlen=PLACES)
        self._found: int | None = None

    def add(self, tag: Tag, out_ms: int, number: int) -> None:
        """`out_ms`: its decoding time in the broker's time."""
        self._places.append((out_ms + _composition_ms(tag), number))

    def before(self, until_ms: float) -> int | None:
        """The tag to begin with when everything up to `until_ms` has been published; times never go
        back. None: none is known."""
        while self._places and self._places[0][0] <= until_ms:
            self._found = self._places.popleft()[1]
        return self._found


def _composition_ms(tag: Tag) -> int:
    """How much later than it is decoded a picture is shown (FLV annex E.4.3.1)."""
    if tag.kind != VIDEO or is_enhanced(VIDEO, tag.body):
        return 0
    return int.from_bytes(tag.body[2:5], "big", signed=True)
