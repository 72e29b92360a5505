"""Playlist delta updates (RFC 8216bis 6.2.5.1)."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.broadcast import TRACKS, Broadcast, Door, each, wanted
from tests.conformance.playlist import Media
from tests.conformance.rules import MUST, rule


def both(door: Door, track: str, skip: str = "YES") -> tuple[Media, Media]:
    """The same version, whole and as an update."""
    query = wanted(*door.newest(track).next)
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(door.playlist, track, query)
        delta = pool.submit(door.playlist, track, f"{query}&_HLS_skip={skip}")
    assert whole.result().media.last == delta.result().media.last
    return whole.result().media, delta.result().media


@rule(
    "6.2.5.1",
    MUST,
    "_HLS_skip=YES gets a playlist with EXT-X-SKIP.",
)
def test_skip_gets_a_delta_update(door: Door, windowed: Broadcast) -> None:
    for track in TRACKS:
        assert door.playlist(track, "?_HLS_skip=YES").media.skipped > 0


@rule(
    "6.2.5.1",
    MUST,
    "_HLS_skip=v2 does, too.",
)
def test_version_two_gets_a_delta_update(door: Door, windowed: Broadcast) -> None:
    def holds(track: str) -> None:
        assert both(door, track, "v2")[1].skipped > 0

    each(holds)


@rule(
    "6.2.5.1",
    MUST,
    "Left out is what is further from the last segment's end than CAN-SKIP-UNTIL.",
)
def test_skips_exactly_to_the_boundary(door: Door, windowed: Broadcast) -> None:
    whole, delta = both(door, "hi")
    boundary_s = float(whole.control["CAN-SKIP-UNTIL"])
    behind_s, kept = 0.0, 0
    for segment in reversed(whole.segments):  # further: wholly behind the boundary
        if behind_s > boundary_s + 1e-4:
            break
        kept += 1
        behind_s += segment.duration_s
    assert delta.skipped == len(whole.segments) - kept


@rule(
    "6.2.5.1",
    MUST,
    "With the skipped segments put back the update is the playlist, line by line.",
)
def test_keeps_everything_else(door: Door, windowed: Broadcast) -> None:
    def holds(track: str) -> None:
        whole, delta = both(door, track)
        ours = {segment.msn: segment for segment in whole.every}
        assert [s.msn for s in delta.every] == [s.msn for s in whole.every[delta.skipped :]]
        for segment in delta.every:
            known = ours[segment.msn]
            assert (segment.uri, segment.date, segment.parts, segment.map_uri) == (
                (known.uri, known.date, known.parts, known.map_uri)
            )
            assert (segment.discontinuity, segment.tagged) == (known.discontinuity, known.tagged)
        assert (delta.hints, delta.reports) == (whole.hints, whole.reports)
        differs = {"EXT-X-VERSION"}
        assert delta.header.keys() == whole.header.keys()
        assert {k: v for k, v in delta.header.items() if k not in differs} == (
            {k: v for k, v in whole.header.items() if k not in differs}
        )

    each(holds)


@rule(
    "6.2.5.1",
    MUST,
    "Only YES and v2 ask for an update; anything else gets the playlist.",
)
def test_an_unknown_skip_is_ignored(door: Door, windowed: Broadcast) -> None:
    for value in ("NO", "v3", "yes", ""):
        media = door.playlist("hi", f"?_HLS_skip={value}").media
        assert not media.skipped


@rule(
    "4.4.5.2, 6.2.5.1",
    MUST,
    "An update of version 2 says in RECENTLY-REMOVED-DATERANGES which events have left the "
    "playlist since the skip boundary.",
)
def test_removed_events_are_said(door: Door, windowed: Broadcast) -> None:
    media = door.newest()
    oldest = media.segments[1].date
    assert oldest is not None
    name = f"of-{door.name}"
    windowed.origin.mark({"id": name, "start": oldest.isoformat()})
    while name not in media.text:
        media = door.after("hi", media).media
    while name in media.text:
        media = door.after("hi", media).media
    update = both(door, "hi", "v2")[1].text
    removed = re.search(r'RECENTLY-REMOVED-DATERANGES="([^"]*)"', update)
    assert removed is not None
    assert name in removed[1].split("\t")
    assert f'ID="{name}"' not in update


@rule(
    "6.2.5",
    MUST,
    "An update may be waited for like a playlist.",
)
def test_delta_and_blocking_combine(door: Door, windowed: Broadcast) -> None:
    media = door.newest()
    timed = door.after("hi", media, "&_HLS_skip=YES")
    assert timed.media.last >= media.next
    assert timed.media.skipped
