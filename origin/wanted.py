"""Which publications of one stream one POP is pushed.

Laws: playlists and inits always, so that a newcomer's first answers are there; parts of the tracks
that the POP says are watched, of sound, and of the rendition that players begin with (the first of
the multivariant playlist). Nothing is left out while that is not known. A segment that was begun is
pushed to its end: one that stopped growing would keep a viewer waiting. Knows no clock, no queue.
"""

from __future__ import annotations

from collections.abc import Iterable

from .model import AUDIO_TYPE, PartObject, PlaylistVersion, Publication
from .names import multivariant_path
from .window import track_of


class Wanted:
    """`watched` None: all tracks, as for hot streams."""

    def __init__(self, stream: str, watched: Iterable[str] | None) -> None:
        self._multivariant = multivariant_path(stream)
        self._first = ""
        self._open: set[str] = set()  # segments that were begun
        self.watched = None if watched is None else frozenset(watched)

    def takes(self, item: Publication) -> bool:
        """Is `item` pushed? Parts of a segment are asked about in their order."""
        self.learn(item)
        if not isinstance(item, PartObject):
            return True
        wanted = self._wants(item) or item.segment_path in self._open
        if wanted and not item.final:
            self._open.add(item.segment_path)
        else:
            self._open.discard(item.segment_path)
        return wanted

    def learn(self, item: Publication) -> None:
        """What players begin with stands in the multivariant playlist, which may be asked about
        last."""
        if isinstance(item, PlaylistVersion) and item.path == self._multivariant:
            self._first = _first_track(item.full)

    def _wants(self, part: PartObject) -> bool:
        everything = self.watched is None or not self._first
        return everything or part.content_type == AUDIO_TYPE or part.track in self._now

    @property
    def _now(self) -> frozenset[str]:
        return (self.watched or frozenset()) | {self._first}

    def widen(self, watched: Iterable[str] | None) -> frozenset[str] | None:
        """From now on these are watched. Returns the tracks that were not wanted before, of which
        the POP lacks the newest parts; None: all that it did not get may be lacking."""
        before, was_all = self._now, self.watched is None
        self.watched = None if watched is None else frozenset(watched)
        if was_all:
            return frozenset()
        return None if self.watched is None else self.watched - before


def _first_track(text: bytes) -> str:
    uris = (line for line in text.decode().splitlines() if line and not line.startswith("#"))
    return track_of(next(uris, ""))
