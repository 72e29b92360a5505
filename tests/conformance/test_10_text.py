"""What stands in a playlist: form, headers, tags and their places (RFC 8216bis 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urljoin

import m3u8

from tests.conformance import grammar
from tests.conformance.broadcast import BASE, MASTER, MEDIA, TRACKS, Broadcast, Door
from tests.conformance.playlist import read_media, read_multivariant
from tests.conformance.rules import MUST, MUST_NOT, SHOULD_NOT, rule


def media_texts(door: Door, tracks: Sequence[str] = TRACKS) -> Iterator[str]:
    """The playlist of each rendition, whole and as a delta update."""
    for track in tracks:
        yield door.playlist(track).media.text
        yield door.playlist(track, "?_HLS_skip=YES").media.text


def master(door: Door) -> str:
    return door.get(MASTER).answer.body.decode()


@rule(
    "4.2",
    MUST,
    "Every tag is known, every attribute of its tag, of its type, and there once.",
)
def test_attribute_lists_follow_the_grammar(door: Door, windowed: Broadcast) -> None:
    texts = [master(door), *media_texts(door)]
    assert [problem for text in texts for problem in grammar.problems(text)] == []


def test_the_grammar_finds_problems() -> None:
    """A checker that accepts everything would prove nothing."""
    good = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="i"\n#EXTINF:1.0,\ns\n'
    assert grammar.problems(good) == []
    for bad in (
        good[1:],
        good[:-1],
        good.replace('URI="i"', "URI=i"),
        good.replace('URI="i"', 'URI="i",URI="i"'),
        good.replace('URI="i"', 'BYTERANGE="1@2"'),
        good.replace('URI="i"', 'URI="i",NAME="x"'),
        good.replace('URI="i"', 'URI="i",'),
        good.replace(":1\n", ":0\n"),
        good.replace("#EXT-X-TARGETDURATION:1\n", ""),
        good.replace("#EXTINF:1.0,", "#EXTINF:1.0"),
        good.replace("#EXTINF", "#EXT-X-NEW:1\n#EXTINF"),
        good.replace("#EXTINF", "#EXT-X-GAP:1\n#EXTINF"),
        good.replace("#EXTINF", "#EXT-X-TARGETDURATION:2\n#EXTINF"),
        good.replace("#EXTINF", "#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXTINF"),
    ):
        assert grammar.problems(bad), bad


@rule(
    "4.1",
    MUST,
    "An independent parser finds the same segments, parts, hints, reports and variants.",
)
def test_a_second_parser_agrees(door: Door, windowed: Broadcast) -> None:
    for text in media_texts(door):
        ours, theirs = read_media(text), m3u8.loads(text)
        assert [s.uri for s in ours.segments] == [s.uri for s in theirs.segments if s.uri]
        whole = [s for s in theirs.segments if s.uri]
        assert [s.duration_s for s in ours.segments] == [s.duration for s in whole]
        assert [s.date for s in ours.segments] == [s.program_date_time for s in whole]
        listed = [part.uri for segment in theirs.segments for part in segment.parts]
        assert [part.uri for part in ours.parts] == listed
        assert theirs.preload_hint.uri == ours.hint
        assert [r["URI"] for r in ours.reports] == [r.uri for r in theirs.rendition_reports]
        assert (theirs.skip.skipped_segments if theirs.skip else 0) == ours.skipped
    found, known = m3u8.loads(master(door)), read_multivariant(master(door))
    assert found.is_variant
    assert [p.uri for p in found.playlists] == [v.uri for v in known.variants]
    assert [m.uri for m in found.media] == [r["URI"] for r in known.renditions]


@rule(
    "4",
    MUST,
    "Playlists are UTF-8 without a byte order mark, served as application/vnd.apple.mpegurl.",
)
def test_is_utf8_of_the_registered_type(door: Door, broadcast: Broadcast) -> None:
    for path in (MASTER, *(f"{track}.m3u8" for track in TRACKS)):
        answer = door.get(path).answer
        assert answer.fields["content-type"] == "application/vnd.apple.mpegurl"
        assert answer.body.decode().startswith("#EXTM3U\n")


@rule(
    "4.4.3",
    MUST,
    "Target duration, server control with PART-HOLD-BACK, part target and media sequence "
    "are all there.",
)
def test_the_header_is_complete(door: Door, broadcast: Broadcast) -> None:
    for track in TRACKS:
        media = door.playlist(track).media
        assert media.target_s >= 1
        assert media.part_target_s > 0
        assert "EXT-X-MEDIA-SEQUENCE" in media.header
        assert media.control["CAN-BLOCK-RELOAD"] == "YES"
        assert float(media.control["PART-HOLD-BACK"]) > 0


@rule(
    "6.2.1, 8",
    SHOULD_NOT,
    "EXT-X-VERSION is what the tags need: 3 for fractions, 6 for EXT-X-MAP, 9 for EXT-X-SKIP.",
)
def test_version_covers_the_tags_and_no_more(door: Door, windowed: Broadcast) -> None:
    texts = list(media_texts(door))
    for text in texts:
        needed = "9" if "#EXT-X-SKIP" in text else "6" if "#EXT-X-MAP" in text else "3"
        assert read_media(text).header["EXT-X-VERSION"] == needed
    assert any("#EXT-X-SKIP" in text for text in texts)
    assert "EXT-X-VERSION" not in master(door), "nothing in it needs more than 1"


@rule(
    "4.4.3.8",
    MUST,
    "HOLD-BACK is at least three target durations.",
)
def test_hold_back_is_three_targets(door: Door, broadcast: Broadcast) -> None:
    media = door.playlist("hi").media
    assert float(media.control["HOLD-BACK"]) >= 3 * media.target_s


@rule(
    "4.4.3.8; Apple 14.3",
    MUST,
    "PART-HOLD-BACK is at least three part targets (the RFC's MUST is two).",
)
def test_part_hold_back_is_three_part_targets(door: Door, broadcast: Broadcast) -> None:
    media = door.playlist("hi").media
    assert float(media.control["PART-HOLD-BACK"]) >= 3 * media.part_target_s - 1e-9


@rule(
    "4.4.3.8",
    MUST,
    "CAN-SKIP-UNTIL is at least six target durations.",
)
def test_skip_boundary_is_six_targets(door: Door, broadcast: Broadcast) -> None:
    media = door.playlist("hi").media
    assert float(media.control["CAN-SKIP-UNTIL"]) >= 6 * media.target_s


@rule(
    "4.4.4.9",
    MUST,
    "Discontinuity, map and date of a segment stand before its first part.",
)
def test_segment_tags_stand_before_the_first_part(door: Door, broadcast: Broadcast) -> None:
    for text in media_texts(door):
        media = read_media(text)
        assert media.parts
        assert [line for segment in media.every for line in segment.late_tags] == []


@rule(
    "3.1.2, 4.4.4.5",
    MUST,
    "Each segment is in the scope of an EXT-X-MAP, and that section is a whole ftyp and moov.",
)
def test_every_segment_has_its_map(door: Door, broadcast: Broadcast) -> None:
    for text in media_texts(door, MEDIA):
        maps = {segment.map_uri for segment in read_media(text).every}
        for uri in maps:
            assert uri is not None
            body = door.get(urljoin(BASE, uri)).answer.body
            size = int.from_bytes(body[:4], "big")
            assert (body[4:8], body[size + 4 : size + 8]) == (b"ftyp", b"moov")
            assert size + int.from_bytes(body[size : size + 4], "big") == len(body)


@rule(
    "6.2.2",
    MUST_NOT,
    "No EXT-X-PLAYLIST-TYPE where segments leave.",
)
def test_a_live_playlist_has_no_type(door: Door, windowed: Broadcast) -> None:
    assert not any("#EXT-X-PLAYLIST-TYPE" in text for text in media_texts(door))


@rule(
    "6.2.6",
    SHOULD_NOT,
    "No two preload hints have the same TYPE.",
)
def test_one_hint_of_a_type(door: Door, broadcast: Broadcast) -> None:
    for text in media_texts(door):
        types = [hint["TYPE"] for hint in read_media(text).hints]
        assert len(types) == len(set(types))


@rule(
    "B.1",
    MUST,
    "While it is live and lists parts there is a hint of the next part.",
)
def test_a_live_playlist_with_parts_hints(door: Door, broadcast: Broadcast) -> None:
    for text in media_texts(door):
        media = read_media(text)
        assert media.parts
        assert media.hint is not None


@rule(
    "B.1, 6.2.4",
    MUST,
    "Each segment of each media playlist has an EXT-X-PROGRAM-DATE-TIME, to the millisecond "
    "with its zone.",
)
def test_every_segment_is_dated(door: Door, broadcast: Broadcast) -> None:
    for text in media_texts(door):
        dates = [segment.date for segment in read_media(text).every]
        assert all(date is not None and date.tzinfo is not None for date in dates)
