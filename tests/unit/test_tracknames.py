"""edgecache/tracknames.py: which track a request is of, as encoders name them."""

from __future__ import annotations

import pytest

from edgecache.tracknames import is_manifest, name_of, names_of


@pytest.mark.parametrize(
    ("init", "segment"),
    [
        ("video.cmfv", "video.cmfv"),
        ("Streams(video.cmfv)", "Streams(video.cmfv)"),
        ("live.isml/Streams(audio-1.cmfa)", "live.isml/Streams(audio-1.cmfa)"),
        ("init-stream0.m4s", "chunk-stream0-00017.m4s"),
        ("V300/init.mp4", "V300/17.m4s"),
        ("V300/init.cmfv", "V300/1700000000.cmfv"),
        ("video_1_init.mp4", "video_1_00017.mp4"),
        ("video-1.cmfv", "video-1-17.cmfv"),
        ("init_a.mp4", "seg_a17.m4s"),
        ("init.mp4", "seg-17.m4s"),
    ],
)
def test_an_init_section_and_its_segments_are_of_one_track(init: str, segment: str) -> None:
    name = name_of(init)
    assert name in names_of(segment)
    assert name in names_of(name), "what a POP has named is known by that name"
    assert name_of(name) == name


def test_tracks_are_told_apart() -> None:
    inits = ("init-stream0.m4s", "init-stream1.m4s", "v1/init.mp4", "v2/init.mp4", "video.cmfv")
    assert len({name_of(init) for init in inits}) == len(inits)
    assert names_of("chunk-stream1-00017.m4s") == ("stream-1-00017", "stream-1")
    assert names_of("audio.cmfa") == ("audio",)


def test_manifests() -> None:
    assert all(map(is_manifest, ("live.mpd", "a/master.M3U8")))
    assert not any(map(is_manifest, ("mpd/1.m4s", "video.cmfv", "m3u8")))
