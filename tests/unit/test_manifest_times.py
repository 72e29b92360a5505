"""What a playlist says of time adds up to the decode times of the media, however long it runs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from origin import manifest
from origin.cmaf import Frame, Init
from origin.model import Rendition
from origin.packager import Packager
from origin.timeline import Part, Timeline
from origin.timing import NS, Timing

START = 881_900_000  # msn: decode times count from 1970
WALL = 1_763_800_000 * NS + 123_456_789
SEGMENTS = 400
TRACKS = {
    # frames of 21.333 ms: no segment ends on a whole microsecond
    "audio": (Init(body=b"", track_id=1, timescale=48_000, kind="audio", codec="mp4a.40.2"), 1024),
    "cd": (Init(body=b"", track_id=1, timescale=44_100, kind="audio", codec="mp4a.40.2"), 1024),
    "ntsc": (Init(body=b"", track_id=1, timescale=90_000, kind="video", codec="avc1.4D401E"), 3003),
}


def played(name: str) -> tuple[Timeline, list[int]]:
    """A timeline with SEGMENTS segments of one track, and their decode times in ns, exactly."""
    init, ticks = TRACKS[name]
    plan = [
        Rendition(
            track=name,
            kind=init.kind,
            bandwidth=1,
            average_bandwidth=1,
            frame_rate=30_000 / 1001 if init.kind == "video" else 0,
            sample_rate=init.timescale if init.kind == "audio" else 0,
        )
    ]
    timing = Timing.plan(plan, window_s=2.0 * SEGMENTS)
    line = Timeline(stream="s", epoch="t0", timing=timing, renditions=plan, first_msn=START)
    line.begin_generation(wall_ns=WALL)
    packager = Packager(init=init, timing=timing, first_msn=START)
    starts: list[int] = []
    dts = START * 2 * init.timescale
    while len(starts) <= SEGMENTS:
        key = dts % (2 * init.timescale) < ticks
        for cut in packager.push(Frame(dts, 0, ticks, key, b"x")):
            if not cut.index:
                starts.append(cut.start_ns)
            part = Part(
                path=f"/{cut.msn}.{cut.index}",
                start_ns=cut.start_ns,
                end_ns=cut.end_ns,
                independent=cut.independent,
            )
            line.add_part(name, cut.msn, part, final=cut.final)
        dts += ticks
    return line, starts


def numbers(text: str, tag: str) -> list[Decimal]:
    rows = [row.partition(tag)[2] for row in text.split("\n") if tag in row]
    return [Decimal(row.partition(",")[0]) for row in rows]


@pytest.mark.parametrize("name", TRACKS)
def test_durations_add_up_to_decode_times(name: str) -> None:
    """hls.js knows a segment's start only as a sum of durations; 0.6 ms between that and the end of
    its buffer was enough for it to wait for media that had passed."""
    line, starts = played(name)
    text = manifest.media_playlist(line, name)
    extinf = numbers(text, "#EXTINF:")
    at = Decimal(starts[0])
    off = []
    for start, seconds in zip(starts, extinf, strict=False):
        off.append(abs(at - start))
        at += seconds * NS
    assert len(off) >= SEGMENTS
    assert max(off) <= 1000  # ns
    parts = numbers(text, "#EXT-X-PART:DURATION=")
    listed = len(parts) // 6 * 6
    last = extinf[-(listed // 6) :]
    listed_s = sum(parts[: 6 * len(last)], Decimal())
    assert abs(listed_s - sum(last, Decimal())) < Decimal("0.000002")
    assert max(parts) * NS <= line.timing.part_target_ns


def test_dates_are_those_of_the_media_to_half_a_millisecond() -> None:
    """Players cut dates to milliseconds, so video on the grid has whole ones."""
    line, _ = played("audio")
    dates = [
        row.partition(".")[2]
        for row in manifest.media_playlist(line, "audio").split("\n")
        if "PROGRAM-DATE-TIME" in row
    ]
    for segment, fraction in zip(line.tracks["audio"].segments, dates, strict=True):
        shown = int(fraction.removesuffix("Z")) * 1_000_000
        off = (shown - segment.wall_ns % NS + NS // 2) % NS - NS // 2
        assert abs(off) <= 500_000
    assert line.generations[0].anchor_wall_ns % 1_000_000 == 0
