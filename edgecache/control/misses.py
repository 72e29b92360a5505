"""Misses: what viewers asked for and is not here, from the workers to whoever has to know of it,
and to the filler.

Law: what is asked for while the cache of a killed process is still being taken may be among it, so
it waits until that is over, and is only fetched if it did not come. Bound: such a miss is an entry
of the store, so they are within its budget. Does not know how anything is filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from . import clock
from .fill import Filler
from .follow import Follower
from .interest import Interest
from .overload import Overload

if TYPE_CHECKING:
    from .._core import Fill, Plane

_AT_ONCE: Final = 1024


class Misses:
    """collect() when the plane rings."""

    def __init__(
        self,
        plane: Plane,
        filler: Filler,
        follower: Follower,
        interest: Interest | None,
        overload: Overload,
    ) -> None:
        self._plane = plane
        self._filler = filler
        self._told = [each.missed for each in (follower, interest) if each is not None]
        self._answered = clock.answered, overload.refused
        self._held: list[Fill] | None = None

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        """What was held is filled, as is all that follows."""
        held, self._held = self._held or [], None
        self._fill(held)

    def collect(self) -> bool:
        """True: there may be more."""
        misses = self._plane.misses(_AT_ONCE)
        if self._held is None:
            self._fill(misses)
        else:
            self._held += misses
        return len(misses) == _AT_ONCE

    def _fill(self, asked: Sequence[Fill]) -> None:
        """But for what has come meanwhile: was restored, or pushed."""
        misses = [fill for fill in asked if fill.live]
        for fill in misses:
            for tell in self._told:
                tell(fill.key)
        self._filler.take(
            [fill for fill in misses if not any(done(fill) for done in self._answered)]
        )
