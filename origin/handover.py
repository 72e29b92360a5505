"""What another data centre needs to go on with a live stream: from which tag on, and after what.

Laws: a segment counts as published when every track has begun the one after it, a part later: by
then it is on its way to the POPs also if this process is killed. Who goes on leaves out `UNKNOWN`
numbers: the segment that was begun, and the one after it, of which a part may have been published
before that could be told. They are gaps, whose media is made again behind them. Of a timeline that
was left in order, between encoders, everything is known, and no number is left out. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .broker import Broker
from .chronicle import Chronicle, Past, Row, rebuild, told
from .presentation import Presentation
from .resume import Reach, Taken, presentation_of
from .timeline import Timeline
from .timing import NS
from .window import Window

UNKNOWN: Final = 2


@dataclass(frozen=True, slots=True)
class Safe:
    """tag: which tag of the publisher is needed first if this data centre is lost. past: what had
    been published by then."""

    tag: int
    past: list[Row]


def published(timeline: Timeline) -> tuple[int, float] | None:
    """(the first segment that is not published, the time of the newest generation's encoder at
    which it begins, in ms); None while nothing is. Sound is cut where the picture is, give or take
    a frame."""
    if not timeline.running:
        return None
    first = timeline.generations[-1].first_msn
    found = []
    for track in timeline.tracks.values():
        kind = track.rendition.kind
        if kind == "text":
            continue
        if track.open is None or not track.open.parts or track.open.msn == first:
            return None
        grid_ns = track.open.msn * timeline.timing.segment_ns
        start_ns = track.open.start_ns if kind == "video" else grid_ns
        found.append((track.open.msn, (start_ns - first * timeline.timing.segment_ns) / 1e6))
    return min(found)


class Teller:
    """Says what is safe, once for each segment."""

    def __init__(self) -> None:
        self._told = -1

    def news(self, broker: Broker, presentation: Presentation) -> Safe | None:
        found = published(presentation.timeline)
        if found is None or found[0] <= self._told:
            return None
        msn, until_ms = found
        tag = broker.entry_before(until_ms)
        if tag is None:
            return None
        self._told = msn
        return Safe(tag, told(presentation.timeline, presentation.planned, until_msn=msn))


def whole(presentation: Presentation) -> list[Row]:
    """What had been published, of a timeline that is left between two encoders."""
    timeline = presentation.timeline
    return told(timeline, presentation.planned, until_msn=timeline.next_msn)


def take_over(stream: str, rows: Sequence[Row], reach: Reach) -> Taken:
    """The stream as another data centre left it. Raises ValueError, LookupError or TypeError for
    rows that are not usable."""
    past = Past(rows)
    presentation = presentation_of(stream, past, reach)
    timeline = presentation.timeline
    rebuild(past, timeline, lambda _path, _size: True)
    next_msn = timeline.next_msn
    for track in timeline.tracks.values():
        timeline.skip(track, next_msn + UNKNOWN * past.running, timeline.generations[-1])
    window = Window(stream)
    window.epoch = timeline.epoch
    window.epochs = {timeline.epoch, *(g.epoch for g in timeline.generations)}
    ends = [s.wall_ns + s.duration_ns for t in timeline.tracks.values() for s in t.segments]
    return Taken(
        window=window,
        presentation=presentation,
        chronicle=Chronicle(timeline, known=True),
        publications=presentation.take_up({}),
        next_msn=next_msn,
        discontinuities=past.head["discontinuities"],
        newest_s=max(ends) / NS,
    )
