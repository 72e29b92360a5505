"""What following comes down to: each name once, the newest only, and what is late tried again."""

from __future__ import annotations

import pytest

from edgecache.control import views
from edgecache.control.views import DashView, HlsView


def hls(first: int, count: int, *tail: str, parts: str = "") -> bytes:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", f"#EXT-X-MEDIA-SEQUENCE:{first}", parts]
    lines += ['#EXT-X-MAP:URI="i.mp4"']
    for msn in range(first, first + count):
        lines += ["#EXTINF:4,", f"{msn}.m4s"]
    return "\n".join([*lines, *tail]).encode()


LOW = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-PART-INF:PART-TARGET=1"


def part(name: str) -> str:
    return f'#EXT-X-PART:DURATION=1,URI="{name}"'


def hint(name: str) -> str:
    return f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{name}"'


def test_a_classic_playlist() -> None:
    view = HlsView()
    assert view.take(hls(5, 4))
    assert (view.every_s, view.directives, view.skips, view.ended) == (2, "", (), False)
    assert view.media(2) == ["i.mp4", "7.m4s", "8.m4s"]
    assert view.media(2) == []
    assert view.take(hls(6, 4))
    assert view.media(2) == ["9.m4s"]
    assert view.take(hls(7, 4) + b"\n#EXT-X-ENDLIST\n")
    assert view.ended


def test_a_low_latency_playlist_goes_by_parts() -> None:
    view = HlsView()
    assert view.take(hls(5, 1, part("6.0"), part("6.1"), hint("6.2"), parts=LOW))
    assert view.directives == "_HLS_msn=6&_HLS_part=2"
    assert (view.media(3), view.hints()) == (["i.mp4", "6.0", "6.1"], ["6.2"])
    assert view.take(hls(5, 1, part("6.0"), part("6.1"), part("6.2"), hint("6.3"), parts=LOW))
    assert view.media(3) == ["6.2"]
    assert view.stamp["hold_ms"] == 12_000


def test_updates_without_events_are_asked_for_once_there_were_events() -> None:
    event = '#EXT-X-DATERANGE:ID="a",START-DATE="2026-01-01T00:00:00Z"'
    can = "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=24"
    for told, kinds in (
        ("", ("YES",)),
        (",CAN-SKIP-DATERANGES=YES", ("YES", "v2")),
    ):
        view = HlsView()
        assert view.take(hls(5, 4, parts=can + told))
        assert view.skips == ("YES",)
        assert view.take(hls(6, 4, event, parts=can + told))
        assert view.skips == kinds
        assert view.take(hls(7, 4, parts=can + told))
        assert view.skips == kinds  # an update says for a while which have left


def test_a_delta_update_of_the_version_before_covers_nothing() -> None:
    def skipped(count: int) -> bytes:
        text = hls(9, count, part("n"), parts=LOW).decode()
        return text.replace("#EXT-X-MAP", "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXT-X-MAP").encode()

    view = HlsView()
    assert view.take(hls(9, 4, part("n"), parts=LOW))
    assert [view.covers(skipped(count)) for count in (1, 2, 3)] == [False, True, True]
    assert not view.covers(hls(9, 4, part("n"), parts=LOW))


def test_a_stream_that_starts_anew_is_new() -> None:
    view = HlsView()
    assert view.take(hls(100, 3))
    view.media(3)
    assert view.take(hls(0, 2))
    assert view.media(3) == ["0.m4s", "1.m4s"]


def test_what_is_no_playlist_changes_nothing() -> None:
    view = HlsView()
    assert view.take(hls(5, 1))
    assert not view.take(b"<html>")
    assert view.every_s == 2


MPD = """<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" minimumUpdatePeriod="PT2S"
 availabilityStartTime="1970-01-01T00:00:00Z"><Period><AdaptationSet>
 <Representation id="a"><SegmentTemplate {kind} media="$RepresentationID$-$Number$.m4s">{timeline}
 </SegmentTemplate></Representation><Representation id="b"><SegmentTemplate duration="2"
 media="b-$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.5]
    monkeypatch.setattr(views, "time", lambda: now[0])
    return now


def test_tracks_in_use_are_fetched_by_the_clock(clock: list[float]) -> None:
    view = DashView("/d/v.mpd")
    assert view.take(MPD.format(kind='duration="2"', timeline="").encode())
    assert view.media(2) == []
    assert view.seen("/d/a-490.m4s")
    assert not view.seen("/d/c-1.m4s")
    assert view.media(2) == ["/d/a-499.m4s", "/d/a-500.m4s"]
    assert view.due_s() == pytest.approx(1.5)
    clock[0] += 1.5
    assert view.media(2) == ["/d/a-501.m4s"]
    view.failed("/d/a-501.m4s")
    assert view.due_s() == pytest.approx(0.25)
    assert view.media(2) == ["/d/a-501.m4s"]
    clock[0] += 60
    assert view.media(2) == []  # nobody asked for a minute


@pytest.mark.usefixtures("clock")
def test_a_timeline_is_fetched_as_it_is_listed() -> None:
    view = DashView("/d/v.mpd")
    timeline = "<SegmentTimeline><S d='2' r='{}'/></SegmentTimeline>"
    assert view.take(MPD.format(kind="", timeline=timeline.format(4)).encode())
    view.seen("/d/a-1.m4s")
    assert view.media(2) == ["/d/a-4.m4s", "/d/a-5.m4s"]
    view.failed("/d/a-5.m4s")
    assert view.media(2) == []
    assert view.due_s() == view.every_s == 2
    assert view.take(MPD.format(kind="", timeline=timeline.format(5)).encode())
    assert view.media(2) == ["/d/a-6.m4s"]
    assert not view.take(b"<x/>")


@pytest.mark.usefixtures("clock")
def test_a_window_that_counts_from_one_is_told_apart_by_time() -> None:
    """nginx's RTMP module says no startNumber: the newest of six was number 6 for ever."""
    view = DashView("/d/v.mpd")
    template = MPD.replace('$Number$.m4s">{', '$Time$.m4s">{')
    for time, fresh in ((0, ["/d/a-4.m4s", "/d/a-6.m4s"]), (2, ["/d/a-8.m4s"])):
        timeline = f"<SegmentTimeline><S t='{time}' d='2' r='3'/></SegmentTimeline>"
        assert view.take(template.format(kind="", timeline=timeline).encode())
        view.seen("/d/a-1.m4s")
        assert view.media(2) == fresh
