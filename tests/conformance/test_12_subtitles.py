"""Subtitles: WebVTT segments and their parts (RFC 8216bis 3.1.4, 4.4.6.1)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import vtt
from tests.conformance import fragments
from tests.conformance.broadcast import MASTER, TEXT, Broadcast, Door
from tests.conformance.playlist import Segment, read_multivariant
from tests.conformance.recording import SPOKEN_MS
from tests.conformance.rules import MUST, SHOULD, rule

MOMENT_S = 0.002  # times are told in whole milliseconds


def spoken(door: Door) -> Iterator[tuple[Segment, float, float, list[vtt.Cue]]]:
    """The newest whole segments, from when to when their picture lasts, and their cues; in seconds
    as MPEG-2 wraps them."""
    pictures = {segment.msn: segment for segment in door.newest("hi").segments}
    for segment in door.playlist(TEXT).media.segments[-6:]:
        if segment.msn in pictures:
            picture = fragments.fetch(door, pictures[segment.msn])
            start_s = picture.start_s % vtt.WRAP_S
            cues = vtt.read(door.body(segment.uri))
            yield segment, start_s, start_s + picture.duration_s, cues


@rule(
    "4.4.6.1",
    MUST,
    "A rendition of subtitles has a URI, NAME and LANGUAGE, and FORCED only there.",
)
def test_a_language_is_a_rendition(door: Door, broadcast: Broadcast) -> None:
    renditions = read_multivariant(door.get(MASTER).answer.body.decode()).renditions
    (text,) = (r for r in renditions if r["TYPE"] == "SUBTITLES")
    assert (text["URI"], text["NAME"], text["LANGUAGE"]) == (f"{TEXT}.m3u8", "English", "en")
    assert (text["DEFAULT"], text["AUTOSELECT"], text["FORCED"]) == ("NO", "YES", "NO")
    assert not any("FORCED" in r for r in renditions if r["TYPE"] != "SUBTITLES")


@rule(
    "3.1.4",
    MUST,
    "Each WebVTT segment begins with a header, and so does each of its parts.",
)
def test_segments_and_parts_are_webvtt(door: Door, broadcast: Broadcast) -> None:
    segments = [segment for segment in door.newest(TEXT).segments if segment.parts]
    for uri in (uri for s in segments for uri in (s.uri, *(part.uri for part in s.parts))):
        assert uri is not None
        answer = door.get(uri).answer
        assert answer.fields["content-type"] == "text/vtt"
        assert vtt.read(answer.body) is not None


@rule(
    "3.1.4",
    MUST,
    "A segment holds each cue that is shown in its time, once, and no other.",
)
def test_a_segment_holds_what_is_shown(door: Door, windowed: Broadcast) -> None:
    found = list(spoken(door))
    cues = {cue for *_, those in found for cue in those}
    assert len(cues) > 3
    for segment, start_s, end_s, those in found:
        for cue in cues:
            expected = cue.start_s < end_s and cue.end_s > start_s
            assert those.count(cue) == expected, (segment.msn, cue)


@rule(
    "3.1.4",
    MUST,
    "A cue that crosses into another segment has the same, whole times in both.",
)
def test_cues_keep_their_times(door: Door, windowed: Broadcast) -> None:
    times: dict[str, set[tuple[float, float]]] = {}
    places: dict[str, int] = {}
    for *_, cues in spoken(door):
        for cue in cues:
            times.setdefault(cue.text, set()).add((cue.start_s, cue.end_s))
            places[cue.text] = places.get(cue.text, 0) + 1
    assert max(places.values()) > 1
    for ((start_s, end_s),) in times.values():
        assert end_s - start_s == pytest.approx(SPOKEN_MS[1] / 1000, abs=MOMENT_S)


@rule(
    "3.1.4",
    SHOULD,
    "X-TIMESTAMP-MAP places what is said where the publisher said it, in 33 bits of 90 kHz.",
)
def test_what_is_said_stands_in_its_place(door: Door, broadcast: Broadcast) -> None:
    told = {cue for *_, cues in spoken(door) for cue in cues}
    began = {round(cue.start_s - int(cue.text.split()[1]) / 1000, 2) for cue in told}
    assert max(began) - min(began) <= 0.05
