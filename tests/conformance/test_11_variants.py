"""Renditions of one presentation, side by side (RFC 8216bis 4.4.6, 6.2.4)."""

from __future__ import annotations

import pytest

from tests.conformance import fragments
from tests.conformance.broadcast import BASE, MASTER, MEDIA, TEXT, TRACKS, VIDEO, Broadcast, Door
from tests.conformance.playlist import Multivariant, read_multivariant
from tests.conformance.rules import MUST, rule


def multivariant(door: Door) -> Multivariant:
    return read_multivariant(door.get(MASTER).answer.body.decode())


@rule(
    "B.1",
    MUST,
    "The server of one playlist serves all of the multivariant playlist's.",
)
def test_every_rendition_is_offered_here(door: Door, broadcast: Broadcast) -> None:
    paths = set(multivariant(door).playlists(MASTER))
    assert paths == {f"{BASE}{track}.m3u8" for track in TRACKS}
    for path in paths:
        assert door.get(path).media.segments


@rule(
    "6.2.4",
    MUST,
    "CODECS of a variant lists the format of each of its renditions, read from their init "
    "sections.",
)
def test_codecs_name_what_is_in_the_segments(door: Door, broadcast: Broadcast) -> None:
    audio = fragments.read_init(door.body(door.playlist("audio").media.segments[-1].map_uri))
    for variant in multivariant(door).variants:
        video = fragments.read_init(door.body(door.get(variant.uri).media.segments[-1].map_uri))
        assert set(variant.attributes["CODECS"].split(",")) == {video.codec, audio.codec}
        assert variant.attributes["RESOLUTION"] == f"{video.width}x{video.height}"


@rule(
    "4.4.6.2",
    MUST,
    "AUDIO and SUBTITLES groups that a variant names have renditions; names in a group differ; "
    "the default is selectable.",
)
def test_groups_are_defined(door: Door, broadcast: Broadcast) -> None:
    found = multivariant(door)
    groups = {(r["TYPE"], r["GROUP-ID"]) for r in found.renditions}
    named = {(t, v.attributes[t]) for v in found.variants for t in ("AUDIO", "SUBTITLES")}
    assert named == groups
    names = [(r["GROUP-ID"], r["NAME"]) for r in found.renditions]
    assert len(names) == len(set(names))
    defaults = [r for r in found.renditions if r.get("DEFAULT") == "YES"]
    assert [r["AUTOSELECT"] for r in defaults] == ["YES"]


@rule(
    "4.4.6.2",
    MUST,
    "No second of a variant, its audio and subtitles takes more bits than BANDWIDTH.",
)
def test_bandwidth_bounds_the_segments(door: Door, windowed: Broadcast) -> None:
    def peak(uri: str) -> float:
        segments = door.get(uri).media.segments[-6:]
        return max(8 * len(door.body(s.uri)) / s.duration_s for s in segments)

    others = peak("audio.m3u8") + peak(f"{TEXT}.m3u8")
    for variant in multivariant(door).variants:
        assert peak(variant.uri) + others <= int(variant.attributes["BANDWIDTH"])


@rule(
    "6.2.4",
    MUST,
    "Target duration, part target and server control are the same in all renditions.",
)
def test_targets_and_control_are_the_same_in_all(door: Door, broadcast: Broadcast) -> None:
    found = {
        tuple(
            door.playlist(track).media.header[f"EXT-X-{name}"]
            for name in ("TARGETDURATION", "PART-INF", "SERVER-CONTROL")
        )
        for track in TRACKS
    }
    assert len(found) == 1


@rule(
    "4.4.2.1",
    MUST,
    "With EXT-X-INDEPENDENT-SEGMENTS, every segment begins with a key frame.",
)
def test_independent_segments_are_declared_truly(door: Door, broadcast: Broadcast) -> None:
    assert "#EXT-X-INDEPENDENT-SEGMENTS\n" in door.get(MASTER).answer.body.decode()
    for track in VIDEO:
        for segment in door.playlist(track).media.segments[-4:]:
            assert fragments.fetch(door, segment).syncs[0]


@rule(
    "6.2.4",
    MUST,
    "Date less media timestamp is the same in all renditions, to a millisecond.",
)
def test_dates_map_to_the_same_timestamps(door: Door, broadcast: Broadcast) -> None:
    offsets = []
    for track in MEDIA:
        for segment in door.playlist(track).media.segments[-2:]:
            assert segment.date is not None
            offsets.append(segment.date.timestamp() - fragments.fetch(door, segment).start_s)
    assert max(offsets) - min(offsets) == pytest.approx(0, abs=0.0011)
