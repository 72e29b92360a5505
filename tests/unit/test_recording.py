"""origin/archive/recording.py: what was kept, and the playlists it makes."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import m3u8
import pytest

from origin.archive.recording import KeptInit, Recording, Sheet, Storyboard, playlists_of
from origin.model import Kept, Rendition

FIRST = 1000
NS = 10**9
VIDEO = Rendition(
    track="v",
    kind="video",
    bandwidth=1,
    average_bandwidth=1,
    codecs="avc1.4d401e",
    width=320,
    height=180,
    frame_rate=30.0,
    key_bandwidth=1,
)
AUDIO = replace(VIDEO, track="audio", kind="audio", codecs="mp4a.40.2", width=0, key_bandwidth=0)


def kept(msn: int, *, generation: int = 0, size: int = 100_000, key: int = 20_000) -> Kept:
    start = msn * 2 * NS
    wall = start + 10**18 + generation * 7 * NS
    return Kept(
        msn=msn,
        size=size,
        digest=f"{msn:032x}",
        generation=generation,
        start_ns=start,
        end_ns=start + 2 * NS,
        wall_ns=wall,
        discontinuity=4 + generation,
        key_bytes=key,
        epoch="abc",
    )


def sheet(rendition: Rendition, *segments: Kept) -> Sheet:
    generations = {each.generation for each in segments}
    return Sheet(
        {n: KeptInit(700, "0" * 32, rendition, "abc") for n in generations}, list(segments)
    )


def recording(**tracks: Sheet) -> Recording:
    return Recording(
        stream="cam",
        epoch="abc",
        segment_ms=2000,
        parts=6,
        part_target_ns=333_340_000,
        tracks=tracks,
    )


def texts(made: Recording) -> dict[str, str]:
    found = playlists_of(made)
    assert all(version.ended for version in found.values())
    return {path.rpartition("/")[2]: version.full.decode() for path, version in found.items()}


def both(*numbers: int) -> Recording:
    audio = [kept(msn, size=24_000, key=0) for msn in numbers]
    return recording(v=sheet(VIDEO, *map(kept, numbers)), audio=sheet(AUDIO, *audio))


def test_it_reads_what_it_wrote() -> None:
    made = both(FIRST, FIRST + 1)
    made.storyboard = Storyboard(
        columns=5, rows=4, width=160, height=90, starts_ms=[0, 2000], sheets=[(9000, "a" * 32)]
    )
    assert Recording.from_json(made.to_json()) == made
    assert made.to_json() == Recording.from_json(made.to_json()).to_json()


@pytest.mark.parametrize("data", [b"", b"\x1f\x8bno", b"{}", both(FIRST).to_json()[:-9]])
def test_what_is_no_recording_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"recording|format|Expecting"):
        Recording.from_json(data)


def test_playlists_list_all_of_it_from_the_beginning() -> None:
    found = texts(both(*range(FIRST, FIRST + 500)))
    media = m3u8.loads(found["v.m3u8"])
    assert (media.playlist_type, media.is_endlist) == ("vod", True)
    assert (media.media_sequence, len(media.segments)) == (FIRST, 500)
    assert media.segments[0].uri == f"abc/v/{FIRST}.m4s"
    assert media.segments[0].init_section.uri == "abc/v/init0.mp4"
    assert media.discontinuity_sequence == 4
    assert "SERVER-CONTROL" not in found["v.m3u8"]
    assert "PART" not in found["v.m3u8"]
    frames = m3u8.loads(found["v.iframes.m3u8"])
    assert frames.is_i_frames_only
    assert len(frames.segments) == 500
    assert "audio.iframes.m3u8" not in found


def test_bit_rates_are_those_that_were_made() -> None:
    big = kept(FIRST + 1, size=300_000, key=50_000)
    made = recording(v=sheet(VIDEO, kept(FIRST), big))
    (variant,) = m3u8.loads(texts(made)["master.m3u8"]).playlists
    assert variant.stream_info.bandwidth == 300_000 * 8 // 2
    assert variant.stream_info.average_bandwidth == 400_000 * 8 // 4
    assert "BANDWIDTH=200000,CODECS" in texts(made)["master.m3u8"]


def test_what_is_missing_is_a_gap_at_the_same_place() -> None:
    made = both(FIRST, FIRST + 1, FIRST + 2, FIRST + 4)
    del made.tracks["audio"].segments[1]
    assert made.lost == {"v": 0, "audio": 1}
    found = texts(made)
    gaps = {
        name: [segment.gap_tag is not None for segment in m3u8.loads(found[name]).segments]
        for name in ("v.m3u8", "audio.m3u8")
    }
    assert gaps["v.m3u8"] == [False, False, False, True, False]  # which all tracks lack
    assert gaps["audio.m3u8"] == [False, True, False, True, False]
    mpd = ElementTree.fromstring(found["manifest.mpd"])
    periods = mpd.findall("{*}Period")
    numbers = [each.find(".//{*}SegmentTemplate") for each in periods]
    assert [each.get("startNumber") for each in numbers if each is not None] == [
        "1000",
        "1002",
        "1004",
    ]


def test_the_encoders_restart_is_a_discontinuity() -> None:
    rows = [kept(FIRST), kept(FIRST + 1, generation=2), kept(FIRST + 2, generation=2)]
    found = texts(recording(v=sheet(VIDEO, *rows)))
    media = m3u8.loads(found["v.m3u8"])
    assert [each.discontinuity for each in media.segments] == [False, True, False]
    assert media.segments[1].init_section.uri == "abc/v/init2.mp4"
    assert len(ElementTree.fromstring(found["manifest.mpd"]).findall("{*}Period")) == 2


def test_an_origin_that_went_on_named_its_media_by_another_epoch() -> None:
    later = kept(FIRST + 1, generation=1)._replace(epoch="abd")
    made = recording(v=sheet(VIDEO, kept(FIRST), later))
    made.tracks["v"].inits[1] = KeptInit(700, "1" * 32, VIDEO, "abd")
    found = texts(made)
    media = m3u8.loads(found["v.m3u8"])
    assert [each.uri for each in media.segments] == ["abc/v/1000.m4s", "abd/v/1001.m4s"]
    assert media.segments[1].init_section.uri == "abd/v/init1.mp4"
    assert 'media="abd/$RepresentationID$/$Number$.m4s"' in found["manifest.mpd"]
    paths = [path for path, _, _ in made.objects()]
    assert "/live/cam/abd/v/1001.m4s" in paths


def test_texts_are_kept_without_an_init_section() -> None:
    words = replace(VIDEO, track="text-en", kind="text", codecs="wvtt", key_bandwidth=0)
    made = both(FIRST, FIRST + 1)
    rows = [kept(msn, size=40, key=0) for msn in (FIRST, FIRST + 1)]
    made.tracks["text-en"] = Sheet({0: KeptInit(0, "", words, "abc")}, rows)
    assert Recording.from_json(made.to_json()) == made
    found = texts(made)
    media = m3u8.loads(found["text-en.m3u8"])
    assert [each.uri for each in media.segments] == [f"abc/text-en/{FIRST + i}.vtt" for i in (0, 1)]
    assert "EXT-X-MAP" not in found["text-en.m3u8"]
    assert "TYPE=SUBTITLES" in found["master.m3u8"]
    assert "/live/cam/abc/text-en/init0.mp4" not in [path for path, _, _ in made.objects()]


def test_nothing_kept_is_nothing_to_play() -> None:
    with pytest.raises(ValueError, match="nothing was kept"):
        playlists_of(recording(v=Sheet()))
