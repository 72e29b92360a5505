"""Which timeline of a stream its playlists show: the newest one that was pushed.

Laws: a stream that moves to another data centre goes on in a newer epoch. What the one before,
which may only have been unreachable, says of its playlists after that is not taken, whether it is
pushed or pulled, until the newer one has ended. Bound: streams that push; who is told that one is
silent forgets it. Sans-IO.
"""

from __future__ import annotations

import re
from typing import Final

_EPOCH: Final = re.compile(r"[0-9a-z]{1,12}", re.ASCII)  # unix s, in base 36


def number_of(text: str) -> int:
    """What `Edge-Epoch` says. Raises ValueError."""
    if not _EPOCH.fullmatch(text):
        raise ValueError(f"edge-epoch: found {text[:40]!r}, allowed base 36")
    return int(text, 36)


class Epochs:
    """admits() what is pushed. Epochs are numbers that grow; 0: nobody said."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}

    def admits(self, stream: str, epoch: int, *, ended: bool = False) -> bool:
        """May this one say what the stream's playlists are? ended: that there is no more."""
        if self.outdates(stream, epoch):
            return False
        if ended:
            self._newest.pop(stream, None)
        elif epoch:
            self._newest[stream] = epoch
        return True

    def outdates(self, stream: str, epoch: int) -> bool:
        """Does the stream go on in a newer one?"""
        return 0 < epoch < self._newest.get(stream, 0)

    def forget(self, stream: str) -> None:
        self._newest.pop(stream, None)
