"""Preload hints and what may be asked for before it is there (RFC 8216bis 4.4.5.3, 6.2.6)."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tests.conformance.broadcast import AT_ONCE_S, BASE, Broadcast, Door, each
from tests.conformance.rules import MUST, SHOULD, rule
from tests.running import LIMIT_S

PAUSE_S = 0.15  # half a part: nothing is delayed that long between bytes that belong together


@dataclass(frozen=True)
class Trickle:
    """An answer as it arrived: bytes so far and when, monotonic seconds."""

    status: int
    asked_s: float
    arrivals: list[tuple[float, int]]
    body: bytes

    @property
    def held_s(self) -> float:
        return self.arrivals[0][0] - self.asked_s

    @property
    def pauses(self) -> list[int]:
        """How much had arrived whenever nothing came for a while."""
        return [n for (at, n), (then, _) in pairwise(self.arrivals) if then - at > PAUSE_S]


def trickle(door: Door, uri: str) -> Trickle:
    host, _, port = door.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
    asked_s = time.monotonic()
    connection.request("GET", BASE + uri)
    answer = connection.getresponse()
    body, arrivals = b"", []
    while piece := answer.read1(1 << 16):
        body += piece
        arrivals.append((time.monotonic(), len(body)))
    connection.close()
    return Trickle(answer.status, asked_s, arrivals, body)


@rule(
    "6.2.6",
    MUST,
    "A request for the hinted part is answered when it is made, then with all its bytes at once.",
)
def test_a_hinted_part_is_held_until_it_is_whole(door: Door, broadcast: Broadcast) -> None:
    def holds(track: str) -> None:
        media = door.opened(track)
        assert media.hint is not None
        found = trickle(door, media.hint)
        assert found.status == 200
        assert found.held_s > 0.05, "it was there before it was made"
        assert found.pauses == []
        assert found.body == door.get(media.hint).answer.body

    each(holds)


@rule(
    "6.2.6",
    MUST,
    "Of a segment that is not whole, bytes leave in whole parts.",
)
def test_a_growing_segment_leaves_part_by_part(door: Door, broadcast: Broadcast) -> None:
    media = door.opened()
    before, (msn, _) = media.segments[-1], media.next
    assert before.uri is not None
    uri = before.uri.replace(str(before.msn), str(msn))
    found = trickle(door, uri)
    assert found.status == 200
    segment = door.newest().segment(msn)
    assert segment.uri == uri
    ends = list(accumulate(len(door.get(part.uri).answer.body) for part in segment.parts))
    assert found.pauses, "all of it came at once"
    assert set(found.pauses) <= set(ends)
    assert len(found.body) == ends[-1]


@rule(
    "4.4.5.3",
    MUST,
    "The URI that was hinted is the URI of the part that is listed next.",
)
def test_the_hint_is_what_comes(door: Door, broadcast: Broadcast) -> None:
    def holds(track: str) -> None:
        media = door.newest(track)
        for _ in range(4):
            known = {part.uri for part in media.parts}
            after = door.after(track, media).media
            fresh = [part.uri for part in after.parts if part.uri not in known]
            assert fresh[0] == media.hint
            media = after

    each(holds)


@rule(
    "6.2.6",
    SHOULD,
    "A part far ahead, or of no rendition, is 404 at once.",
)
def test_what_is_not_hinted_is_not_found(door: Door, broadcast: Broadcast) -> None:
    media = door.newest()
    assert media.hint is not None
    msn = str(media.next[0])
    for uri in (
        media.hint.replace(msn, str(media.next[0] + 50)),
        media.hint.replace("/hi/", "/none/"),
        media.hint.replace(msn, "1"),
        "none.m3u8",
    ):
        timed = door.get(uri)
        assert timed.answer.status == 404, uri
        assert timed.took_s < AT_ONCE_S


@rule(
    "6.2.1",
    MUST,
    "Every URI of a playlist can be had, whole, the moment it is listed.",
)
def test_what_is_listed_is_there(door: Door, windowed: Broadcast) -> None:
    def holds(track: str) -> None:
        media = door.newest(track)
        listed = {part.uri for part in media.parts}
        listed |= {s.uri for s in media.segments if s.uri}
        listed |= {s.map_uri for s in media.every if s.map_uri}  # text has none
        for uri in sorted(listed, reverse=True):  # the newest first
            timed = door.get(uri)
            assert timed.answer.status == 200, uri
            assert len(timed.answer.body) == int(timed.answer.fields["content-length"])
            assert timed.took_s < AT_ONCE_S

    each(holds)
