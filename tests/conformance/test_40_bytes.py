"""What playlists say, held against the bytes (RFC 8216bis 3, 4.4.4.9, B.1)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.conformance import fragments
from tests.conformance.broadcast import MEDIA, VIDEO, Broadcast, Door, each
from tests.conformance.playlist import Part, Segment
from tests.conformance.rules import MUST, SHOULD, rule


def with_parts(door: Door, track: str) -> list[Segment]:
    """Whole segments whose parts are listed."""
    found = [segment for segment in door.newest(track).segments if segment.parts]
    assert len(found) >= 2
    return found


def parts(door: Door) -> Iterator[tuple[Part, fragments.Media]]:
    for track in MEDIA:
        for segment in with_parts(door, track):
            init = door.body(segment.map_uri)
            for part in segment.parts:
                yield part, fragments.read(init, door.body(part.uri))


@rule(
    "4.4.4.9",
    MUST,
    "DURATION of a part is the sum of its frames, to a millisecond.",
)
def test_a_part_lasts_what_is_said(door: Door, broadcast: Broadcast) -> None:
    for part, media in parts(door):
        assert part.duration_s == pytest.approx(media.duration_s, abs=0.001)


@rule(
    "4.4.4.1",
    SHOULD,
    "EXTINF is the sum of the frames, to a millisecond.",
)
def test_a_segment_lasts_what_is_said(door: Door, broadcast: Broadcast) -> None:
    for track in MEDIA:
        for segment in door.playlist(track).media.segments[-4:]:
            assert segment.duration_s == pytest.approx(
                fragments.fetch(door, segment).duration_s, abs=0.001
            )


@rule(
    "4.4.4.9",
    SHOULD,
    "INDEPENDENT=YES stands exactly at parts that hold a key frame.",
)
def test_independent_is_said_of_all_that_are(door: Door, broadcast: Broadcast) -> None:
    said = [(part.independent, any(media.syncs)) for part, media in parts(door)]
    assert [pair for pair in said if pair[0] != pair[1]] == []
    assert {pair[0] for pair in said} == {True, False}


@rule(
    "3.2",
    MUST,
    "The parts' bytes, one after another, are the segment's.",
)
def test_a_segment_is_its_parts(door: Door, broadcast: Broadcast) -> None:
    def holds(track: str) -> None:
        for segment in with_parts(door, track):
            pieces = [door.body(part.uri) for part in segment.parts]
            assert b"".join(pieces) == door.body(segment.uri)

    each(holds)


@rule(
    "B.1",
    MUST,
    "A whole segment can be decoded by itself.",
)
def test_every_segment_has_a_key_frame(door: Door, broadcast: Broadcast) -> None:
    for track in VIDEO:
        for segment in door.playlist(track).media.segments[-4:]:
            assert any(fragments.fetch(door, segment).syncs)


@rule(
    "4.4.4.3",
    MUST,
    "Without a discontinuity the first timestamp of a segment is the end of the one before.",
)
def test_timestamps_follow_on(door: Door, broadcast: Broadcast) -> None:
    for track in MEDIA:
        made = [
            fragments.fetch(door, segment) for segment in door.playlist(track).media.segments[-5:]
        ]
        for before, after in pairwise(made):
            assert after.start_s == pytest.approx(before.end_s, abs=1e-6)
