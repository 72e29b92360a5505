"""Which timeline of a stream its playlists show: the newest one that was pushed.

Laws: a stream that moves to another data centre goes on in a newer epoch. What the one before,
which may only have been unreachable, says of its playlists after that is not taken, until the newer
one has ended. Bound: streams that push; who is told that one is silent forgets it. Sans-IO.
"""

from __future__ import annotations


class Epochs:
    """admits() what is pushed. Epochs are numbers that grow; 0: nobody said."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}

    def admits(self, stream: str, epoch: int, *, ended: bool = False) -> bool:
        """May this one say what the stream's playlists are? ended: that there is no more."""
        if epoch and epoch < self._newest.get(stream, 0):
            return False
        if ended:
            self._newest.pop(stream, None)
        elif epoch:
            self._newest[stream] = epoch
        return True

    def forget(self, stream: str) -> None:
        self._newest.pop(stream, None)
