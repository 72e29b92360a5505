"""origin/wanted.py: what of a stream a POP is pushed."""

from __future__ import annotations

from dataclasses import replace

from origin.model import Publication
from origin.wanted import Wanted
from tests.hand_made import HandMade

MASTER = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2\nv.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\nw.m3u8\n"


def multivariant(made: HandMade) -> Publication:
    return replace(made.multivariant(), full=MASTER)


def taken(wanted: Wanted, made: HandMade, *tracks: str) -> list[str]:
    """Which tracks' next parts are pushed."""
    return [track for track in tracks if wanted.takes(made.part(track))]


def test_all_parts_go_where_nothing_is_said() -> None:
    made, wanted = HandMade(), Wanted("cam", None)
    assert wanted.takes(multivariant(made))
    assert taken(wanted, made, "v", "w", "audio") == ["v", "w", "audio"]


def test_all_parts_go_until_it_is_known_what_players_begin_with() -> None:
    made, wanted = HandMade(), Wanted("cam", ["w"])
    assert taken(wanted, made, "v", "w", "x") == ["v", "w", "x"]


def test_what_nobody_watches_stays_but_for_the_first_rendition_and_sound() -> None:
    made, wanted = HandMade(), Wanted("cam", ["x"])
    assert wanted.takes(multivariant(made))
    assert taken(wanted, made, "v", "w", "x", "audio") == ["v", "x", "audio"]
    assert wanted.takes(made.init("w"))
    assert wanted.takes(made.version("w"))


def test_a_segment_that_was_begun_is_pushed_to_its_end() -> None:
    made, wanted = HandMade(parts=3), Wanted("cam", ["v", "w"])
    wanted.takes(multivariant(made))
    assert taken(wanted, made, "w") == ["w"]
    assert wanted.widen(["v"]) == frozenset()
    assert taken(wanted, made, "w", "w") == ["w", "w"]
    assert taken(wanted, made, "w") == []


def test_a_segment_that_was_not_begun_is_not_pushed_from_its_middle_on() -> None:
    made, wanted = HandMade(parts=3), Wanted("cam", ["v"])
    wanted.takes(multivariant(made))
    assert taken(wanted, made, "w", "w", "w", "w") == []


def test_the_window_is_asked_about_with_the_newest_segment_first() -> None:
    """So a POP that was filled with the beginning of a segment gets its end."""
    made, wanted = HandMade(parts=3), Wanted("cam", ["v", "w"])
    older, newest = [made.part("w") for _ in range(3)], made.part("w")
    wanted.learn(multivariant(made))
    assert [wanted.takes(item) for item in (newest, *older)] == [True] * 4
    wanted.widen(["v"])
    assert taken(wanted, made, "w", "w", "w") == ["w", "w"]


def test_a_track_that_is_added_lacks_its_newest_parts() -> None:
    made, wanted = HandMade(), Wanted("cam", ["v"])
    wanted.takes(multivariant(made))
    assert wanted.widen(["v", "w"]) == frozenset({"w"})
    assert wanted.widen(["v"]) == frozenset()
    assert wanted.widen(None) is None
    assert wanted.widen(["v"]) == frozenset()
