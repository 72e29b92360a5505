"""Timed events of a stream (ad breaks, programme changes) as playlists carry them.

Laws: told in the order they become known; what was said of an event is never taken back, only added
to (4.4.5.1: a second tag with the same ID may not contradict the first). An event leaves when its
end is before everything that is listed; until then it is told again in every playlist. Bounds:
`MAX_MARKERS` tellings, beyond it the oldest goes. Times are ns; `at_ns` is media time, which is how
playlists count what is recent. Knows nothing of tags' spelling.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import Final

from edgecache.errors import EdgeError

MAX_MARKERS: Final = 256


class MarkerError(EdgeError):
    """A marker that contradicts what was told before; the message says where."""

    source = "downstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """One telling of an event. start_ns: wall clock. duration_ns, planned_ns: 0 when not known yet.
    scte35_cmd, scte35_out, scte35_in: a splice_info_section in hex, "" for none."""

    id: str
    start_ns: int
    kind: str = ""
    duration_ns: int = 0
    planned_ns: int = 0
    scte35_cmd: str = ""
    scte35_out: str = ""
    scte35_in: str = ""

    @property
    def end_ns(self) -> int:
        """Wall clock; of an event whose end is not known, as far as it is planned."""
        return self.start_ns + (self.duration_ns or self.planned_ns)


@dataclass(frozen=True, slots=True)
class Told:
    """A marker, and the end of the playlist when it was told (media time)."""

    marker: Marker
    at_ns: int


class Markers:
    """All events of one timeline that are told now, and those that were until lately."""

    def __init__(self) -> None:
        self.told: deque[Told] = deque()
        self.gone: deque[tuple[str, int]] = deque()  # id, media time

    def __len__(self) -> int:
        return len(self.told)

    def tell(self, marker: Marker, *, at_ns: int) -> None:
        """Raises MarkerError when it says otherwise than an earlier telling of the same event."""
        for known in self.told:
            if known.marker.id == marker.id:
                _agree(known.marker, marker)
        self.told.append(Told(marker, at_ns))
        while len(self.told) > MAX_MARKERS:
            self._remove(self.told[0].marker.id, at_ns)

    def start_of(self, name: str) -> int | None:
        """Wall clock at which the event `name` starts, when it has been told."""
        return next((t.marker.start_ns for t in self.told if t.marker.id == name), None)

    def expire(self, *, first_wall_ns: int, at_ns: int, recent_ns: int) -> None:
        """Playlists list nothing before `first_wall_ns` any more. An event leaves with all its
        tellings, and is remembered as removed for `recent_ns`."""
        ends: dict[str, int] = {}
        for told in self.told:
            ends[told.marker.id] = max(ends.get(told.marker.id, 0), told.marker.end_ns)
        for name, end_ns in ends.items():
            if end_ns < first_wall_ns:
                self._remove(name, at_ns)
        while self.gone and self.gone[0][1] < at_ns - recent_ns:
            self.gone.popleft()

    @property
    def removed(self) -> list[str]:
        """Ids of those that left lately, oldest first."""
        return [name for name, _ in self.gone]

    def _remove(self, name: str, at_ns: int) -> None:
        self.told = deque(told for told in self.told if told.marker.id != name)
        self.gone.append((name, at_ns))


def _agree(known: Marker, marker: Marker) -> None:
    for field in fields(Marker):
        old, new = getattr(known, field.name), getattr(marker, field.name)
        if old and new and old != new:
            raise MarkerError(f"{marker.id}: {field.name} was told as {old}, found {new}")
