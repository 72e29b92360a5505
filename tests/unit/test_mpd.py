"""The reader of dynamic MPDs: templates, timelines, and when a segment is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.control import mpd

HEAD = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic"
 minimumUpdatePeriod="PT1M2.5S" availabilityStartTime="1970-01-01T00:16:40Z"><Period start="PT10S">
"""
TAIL = "</Period></MPD>"
TIMELINE = """<AdaptationSet><SegmentTemplate timescale="10" startNumber="5"
 initialization="i-$RepresentationID$.mp4" media="$RepresentationID$/$Number%04d$-$Time$.m4s">
 <SegmentTimeline><S t="100" d="20" r="2"/><S d="10"/></SegmentTimeline></SegmentTemplate>
 <Representation id="v1" bandwidth="9"/><Representation id="v2"><BaseURL>x/</BaseURL>
 </Representation></AdaptationSet>"""
COUNTED = """<AdaptationSet><Representation id="a" bandwidth="64"><SegmentTemplate duration="4"
 timescale="2" availabilityTimeOffset="0.5" media="a$Bandwidth$_$Number$.m4s"/></Representation>
 </AdaptationSet>"""


def read(inner: str, base: str = "/d/m.mpd") -> mpd.Mpd:
    found = mpd.read((HEAD + inner + TAIL).encode(), base)
    assert found is not None
    return found


def test_a_timeline_lists_its_segments() -> None:
    found = read(TIMELINE)
    first, second = found.representations
    assert found.update_ms == 62_500
    assert first.initialization == "/d/i-v1.mp4"
    assert first.listed == ((5, 100), (6, 120), (7, 140), (8, 160))
    assert first.url(8, 160) == "/d/v1/0008-160.m4s"
    assert second.url(5, 100) == "/d/x/v2/0005-100.m4s"
    assert first.pattern().fullmatch("/d/v1/0123-99.m4s")
    assert not first.pattern().fullmatch("/d/v2/0123-99.m4s")


def test_a_constant_duration_says_when_a_segment_is_due() -> None:
    (track,) = read(COUNTED).representations
    assert track.media == "/d/a64_$Number$.m4s"
    assert track.due_s(1) == 1000 + 10 + 2 - 0.5
    assert [track.newest(now) for now in (1011.4, 1011.6, 1013.4, 1013.6)] == [0, 1, 1, 2]


def test_a_long_timeline_is_counted_to_its_end() -> None:
    text = TIMELINE.replace('r="2"', 'r="99999999"')
    assert read(text).representations[0].listed[-1] == (100_000_005, 100 + 20 * 100_000_000)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html/>",
        HEAD.replace("dynamic", "static") + TIMELINE + TAIL,
        "<!DOCTYPE x [<!ENTITY a 'b'>]>" + HEAD + TAIL,
        HEAD + COUNTED.replace('duration="4"', "") + TAIL,
        HEAD + COUNTED.replace('duration="4"', 'duration="x"') + TAIL,
        HEAD + COUNTED.replace('timescale="2"', 'timescale="0"') + TAIL,
        HEAD.replace("1970-01", "1970-99") + COUNTED + TAIL,
    ],
)
def test_what_is_not_understood_is_none(body: str) -> None:
    assert mpd.read(body.encode(), "/d/m.mpd") is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("PT2S", 2), ("P1DT1H1M1.5S", 90061.5), ("PT", 0), ("P1Y", 0), ("2", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert mpd.duration_s(text) == seconds


@given(st.binary(max_size=200))
def test_any_bytes_give_something(body: bytes) -> None:
    assert mpd.read(body, "/m.mpd") is None
