"""After the end (RFC 8216bis 6.2.1, 6.2.5)."""

from __future__ import annotations

from tests.conformance.broadcast import AT_ONCE_S, TRACKS, Broadcast, Door, wanted
from tests.conformance.rules import MUST, MUST_NOT, rule


@rule(
    "6.2.1",
    MUST,
    "With the last segment there is EXT-X-ENDLIST, in all renditions at the same segment.",
)
def test_every_playlist_ends(door: Door, ended: Broadcast) -> None:
    final = [door.playlist(track).media for track in TRACKS]
    assert all(media.ended and media.open is None for media in final)
    assert len({media.segments[-1].msn for media in final}) == 1


@rule(
    "4.4.5.3",
    MUST_NOT,
    "A playlist that has ended has no preload hint.",
)
def test_nothing_is_hinted_any_more(door: Door, ended: Broadcast) -> None:
    for track in TRACKS:
        assert door.playlist(track).media.hints == []


@rule(
    "6.2.5.2",
    MUST,
    "_HLS_msn and _HLS_part of any number get the playlist at once.",
)
def test_directives_are_ignored_after_the_end(door: Door, ended: Broadcast) -> None:
    for track in TRACKS:
        final = door.playlist(track).media
        msn = final.segments[-1].msn
        for query in (wanted(msn + 1), wanted(msn, 7), wanted(msn + 1000, 3), wanted(0)):
            timed = door.playlist(track, query)
            assert timed.media.text == final.text
            assert timed.took_s < AT_ONCE_S


@rule(
    "6.2.5.1",
    MUST,
    "_HLS_skip gets the whole playlist.",
)
def test_skip_is_ignored_after_the_end(door: Door, ended: Broadcast) -> None:
    for track in TRACKS:
        final = door.playlist(track).media
        for query in ("?_HLS_skip=YES", "?_HLS_skip=v2", f"{wanted(1)}&_HLS_skip=YES"):
            assert door.playlist(track, query).media.text == final.text


@rule(
    "6.2.1",
    MUST,
    "Every segment of the final playlist can be had.",
)
def test_what_is_listed_stays(door: Door, ended: Broadcast) -> None:
    for track in TRACKS:
        segments = door.playlist(track).media.segments
        listed = [str(segment.uri) for segment in segments if not segment.gap]
        assert {uri: door.get(uri).answer.status for uri in listed} == dict.fromkeys(listed, 200)
