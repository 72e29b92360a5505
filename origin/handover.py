"""What another data centre needs to go on with a live stream: from which tag on, and after what.

Laws: a segment counts as published when every track has begun the one after it, a part later: by
then it is on its way to the POPs also if this process is killed. Sans-IO.
"""

from __future__ import annotations

from .broker import Broker
from .timeline import Timeline


def published_ms(timeline: Timeline) -> float | None:
    """Time of the newest generation's encoder up to which all tracks are published; None while
    nothing is. Sound is cut where the picture is, give or take a frame."""
    if not timeline.running:
        return None
    first = timeline.generations[-1].first_msn
    ends = []
    for track in timeline.tracks.values():
        kind = track.rendition.kind
        if kind == "text":
            continue
        if track.open is None or not track.open.parts or track.open.msn == first:
            return None
        grid_ns = track.open.msn * timeline.timing.segment_ns
        start_ns = track.open.start_ns if kind == "video" else grid_ns
        ends.append(start_ns - first * timeline.timing.segment_ns)
    return min(ends) / 1e6


def safe_tag(broker: Broker, timeline: Timeline) -> int | None:
    """Which tag of the publisher is needed first if this data centre is lost."""
    until_ms = published_ms(timeline)
    return None if until_ms is None else broker.entry_before(until_ms)
