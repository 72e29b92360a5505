"""What a part went through on its way here: its publisher's arrivals against the timeline.

Laws: pure; a part is as old as its last frame. Knows no clocks but the times it is given.
"""

from __future__ import annotations

import time

from .broker import Broker
from .model import Hops, PartObject
from .timeline import Timeline


def hops_of(part: PartObject, timeline: Timeline, broker: Broker, read_s: float) -> Hops | None:
    """Of a part whose bytes the encoder gave at `read_s` (monotonic), made of what came through
    `broker`; None when it is of no frame: what closes a segment, and words."""
    track = timeline.tracks[part.track]
    newest = next(each for each in reversed(track.segments) if each.msn == part.msn)
    listed = newest.parts and newest.parts[-1].path == part.path
    if not listed or track.rendition.kind == "text":
        return None
    began_ns = timeline.generations[-1].first_msn * timeline.timing.segment_ns
    found = broker.arrived(track.rendition.kind, (newest.end_ns - began_ns) / 1e6)
    if found is None:
        return None
    arrived_s, late_s = found
    return Hops(
        capture_s=late_s,
        encode_s=read_s - arrived_s,
        package_s=time.monotonic() - read_s,
        ready_s=time.time(),
    )
