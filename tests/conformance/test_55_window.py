"""What has left a playlist, and a stream that falls silent (RFC 8216bis 6.2.2, 6.2.5.2)."""

from __future__ import annotations

import time

from tests.conformance.broadcast import Broadcast, Door, each
from tests.conformance.rules import MUST, SHOULD, rule

MARGIN_S = 0.1  # for the request itself


@rule(
    "6.2.2",
    MUST,
    "Until it first appeared plus its and the longest playlist's duration.",
)
def test_a_segment_that_left_can_be_had(door: Door, windowed: Broadcast) -> None:
    def holds(track: str) -> None:
        first = door.newest(track).first_msn
        while (media := door.newest(track)).first_msn == first:  # until one leaves
            pass
        seen = list(door.record[track])
        longest_s = max(version.media.duration_s for version in seen)
        due: dict[str, float] = {}  # URI -> until when
        for version in seen:
            for segment in version.media.segments:
                until_s = version.came_s + segment.duration_s + longest_s
                due.setdefault(str(segment.uri), until_s)
        soon_s = time.monotonic() + MARGIN_S
        listed = {segment.uri for segment in media.segments}
        left = [uri for uri, until_s in due.items() if uri not in listed and until_s > soon_s]
        assert left
        assert {uri: door.get(uri).answer.status for uri in left} == dict.fromkeys(left, 200)

    each(holds)


@rule(
    "6.2.2",
    MUST,
    "For three target durations after its tag was removed.",
)
def test_a_part_that_left_can_be_had(door: Door, windowed: Broadcast) -> None:
    def holds(track: str) -> None:
        media = door.newest(track)
        listed = {part.uri for part in media.parts}
        last_s = {p.uri: v.came_s for v in list(door.record[track]) for p in v.media.parts}
        since_s = time.monotonic() + MARGIN_S - 3 * media.target_s
        left = [uri for uri, seen_s in last_s.items() if uri not in listed and seen_s > since_s]
        assert left
        assert {uri: door.get(uri).answer.status for uri in left} == dict.fromkeys(left, 200)

    each(holds)


@rule(
    "6.2.5.2",
    SHOULD,
    "A request that cannot be answered is 503 after three target durations.",
)
def test_a_silent_stream_gets_503(door: Door, silenced: Broadcast) -> None:
    timed = silenced.in_silence[door.name]
    target_s = door.playlist("hi").media.target_s
    assert timed.answer.status == 503
    assert 3 * target_s - 0.5 < timed.took_s < 3 * target_s + 1.5
