"""The reader of other people's playlists: what is followed, and what is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.control import playlist
from edgecache.control.playlist import Named

LOW = """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24.0,PART-HOLD-BACK=3.0
#EXT-X-PART-INF:PART-TARGET=1.004
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-MAP:URI="i,1.mp4"
#EXTINF:4.0,
a7.m4s
#EXT-X-PART:DURATION=1,URI="a8.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=1,URI="a8.1.m4s",GAP=YES
#EXTINF:4.0,
a8.m4s
#EXT-X-PART:DURATION=1,URI="a9.0.m4s"
#EXT-X-PART:DURATION=1,URI="a9.m4s",BYTERANGE="20000@0"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="a9.2.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="a9.m4s",BYTERANGE-START=20000
#EXT-X-RENDITION-REPORT:URI="b.m3u8",LAST-MSN=9,LAST-PART=1
"""


def read(text: str) -> playlist.MediaPlaylist:
    found = playlist.read(text)
    assert found is not None
    return found


def test_a_low_latency_playlist() -> None:
    found = read(LOW)
    assert (found.version, found.last_parts) == ((9, 2), 2)
    assert (found.target_ms, found.part_target_ms, found.hold_ms) == (4000, 1004, 12_000)
    assert found.advance == 3
    assert (found.blocks, found.skips, found.ended) == (True, True, False)
    assert found.named == [
        Named(7, -1, "a7.m4s"), Named(8, 0, "a8.0.m4s"), Named(8, -1, "a8.m4s"),
        Named(9, 0, "a9.0.m4s"),
    ]  # fmt: skip
    assert (found.maps, found.hints) == (["i,1.mp4"], ["a9.2.m4s"])


def test_events_and_updates_without_them() -> None:
    assert (read(LOW).skips_dates, read(LOW).dated) == (False, False)
    told = LOW.replace("CAN-SKIP-UNTIL", "CAN-SKIP-DATERANGES=YES,CAN-SKIP-UNTIL")
    found = read(told + '#EXT-X-DATERANGE:ID="a"\n')
    assert (found.skips, found.skips_dates, found.dated) == (True, True, True)


def test_a_delta_update_counts_what_it_skips() -> None:
    text = LOW.replace("#EXT-X-MAP", "#EXT-X-SKIP:SKIPPED-SEGMENTS=5\n#EXT-X-MAP")
    assert read(text).version == (14, 2)


def test_an_ended_playlist_holds_nobody() -> None:
    assert read(LOW + "#EXT-X-ENDLIST\n").hold_ms == 0


def test_gaps_and_ranges_are_not_named() -> None:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-GAP", "#EXTINF:2,", "a", "#EXTINF:2,"]
    lines += ["#EXT-X-BYTERANGE:5@0", "b", "#EXTINF:2,", "c"]
    assert read("\r\n".join(lines)).named == [Named(2, -1, "c")]


def test_short_parts_may_be_asked_for_three_seconds_ahead() -> None:
    assert read(LOW.replace("1.004", "0.2")).advance == 15


@pytest.mark.parametrize(
    "text", ["", "<html>", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n", "\ufeff" + LOW]
)
def test_anything_else_is_none(text: str) -> None:
    assert playlist.read(text) is None


@given(st.text(alphabet='#EXTM3U-:=,"\n0123456789.ABPRTG', max_size=300))
def test_any_text_gives_something(text: str) -> None:
    found = playlist.read("#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + text)
    assert found is None or found.msn >= 0
