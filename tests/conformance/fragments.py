"""What the bytes of a segment or part say of themselves: its frames, in media time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from origin.cmaf import Demuxer, Frame, Init
from tests.conformance.broadcast import Door
from tests.conformance.playlist import Segment


@dataclass(frozen=True, slots=True)
class Media:
    """Times in seconds on the track's own clock. syncs: of each frame, whether decoding can begin
    there."""

    start_s: float
    end_s: float
    syncs: tuple[bool, ...]

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def read_init(body: bytes) -> Init:
    """Raises ValueError when it is not one whole init section."""
    found = Demuxer().feed(body)
    if len(found) != 1 or not isinstance(found[0], Init):
        raise ValueError("not an init section")
    return found[0]


def read(init: bytes, body: bytes) -> Media:
    """`body`: whole fragments of one track. Raises ValueError when anything in it is not."""
    demuxer = Demuxer()
    found = demuxer.feed(init + body)
    frames = [item for item in found if isinstance(item, Frame)]
    if demuxer.broken or demuxer.dropped or not frames:
        raise ValueError(f"{demuxer.broken or demuxer.dropped or 'no frames'}")
    for before, after in pairwise(frames):
        if before.dts + before.duration != after.dts:
            raise ValueError(f"frames do not follow on at {after.dts}")
    scale = read_init(init).timescale
    last = frames[-1]
    return Media(
        frames[0].dts / scale,
        (last.dts + last.duration) / scale,
        tuple(frame.sync for frame in frames),
    )


def fetch(door: Door, segment: Segment) -> Media:
    """A whole segment, from its URI and its map's."""
    return read(door.body(segment.map_uri), door.body(segment.uri))
