"""The timeline only grows at one end and shrinks at the other, alike in all tracks."""

from __future__ import annotations

import pytest

from origin.model import Rendition
from origin.timeline import Part, Timeline
from origin.timing import NS, Timing

VIDEO = Rendition(track="v", kind="video", bandwidth=1, average_bandwidth=1, frame_rate=30)
AUDIO = Rendition(track="a", kind="audio", bandwidth=1, average_bandwidth=1)
WALL = 1_763_800_000 * NS


def timeline(*, window_s: float = 12) -> Timeline:
    return Timeline(
        stream="s",
        epoch="t0",
        timing=Timing.plan([VIDEO, AUDIO], window_s=window_s),
        renditions=[VIDEO, AUDIO],
        first_msn=100,
    )


def add(line: Timeline, track: str, msn: int, *, parts: int = 6, final: bool = True) -> None:
    """`parts` parts of a third of a second; the last one final if asked."""
    for i in range(parts):
        start, end = (msn * 2 * NS + j * NS // 3 for j in (i, i + 1))
        part = Part(path=f"/{track}/{msn}.{i}", start_ns=start, end_ns=end, independent=not i)
        line.add_part(track, msn, part, final=final and i == parts - 1)


@pytest.mark.parametrize(
    ("segment_s", "part_s", "target", "duration"),
    [
        (2.0, 1 / 3, 341_340_000, 2),
        (2.0, 0.2, 213_340_000, 2),
        (1.0, 0.5, 512_000_000, 1),
        (6.0, 1.0, 1_002_670_000, 6),
        (2.4, 0.4, 405_340_000, 3),
    ],
)
def test_constants(segment_s: float, part_s: float, target: int, duration: int) -> None:
    plan = Timing.plan([VIDEO, AUDIO], segment_s=segment_s, part_s=part_s)
    assert (plan.part_target_ns, plan.target_duration) == (target, duration)
    assert plan.skip_until_s == 6 * duration
    assert plan.hold_ms == 3000 * duration
    assert plan.advance == (int(3 * NS / target) if target < NS else 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment_s": 0.1}, "segment 0.1 s"),
        ({"segment_s": 60.0}, "segment 60.0 s"),
        ({"part_s": 0.0}, "part 0.0 s"),
        ({"part_s": 0.7}, "part 0.7 s"),
        ({"window_s": 5.0}, "window 5.0 s"),
        ({"segment_s": 1.0, "part_s": 1 / 30}, "part 0.033 s: found v with frames of 0.033 s"),
    ],
)
def test_grids_that_cannot_be(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Timing.plan([VIDEO, AUDIO], **changes)


def test_versions() -> None:
    line = timeline()
    track = line.tracks["v"]
    line.begin_generation(wall_ns=WALL)
    assert track.version == (100, 0, 0)
    add(line, "v", 100, parts=2, final=False)
    assert track.version == (100, 2, 0)
    line.close("v")
    assert track.version == (101, 0, 2)
    add(line, "v", 101)
    assert track.version == (102, 0, 6)
    add(line, "v", 102, parts=1, final=False)
    assert track.version == (102, 1, 6)


def test_all_tracks_end_a_generation_alike() -> None:
    line = timeline()
    assert line.begin_generation(wall_ns=WALL).first_msn == 100
    add(line, "v", 100)
    add(line, "v", 101, parts=2, final=False)
    assert line.level() == ["a"]
    assert [(s.msn, s.gap, s.complete) for s in line.tracks["a"].segments] == [
        (100, True, True),
        (101, True, True),
    ]
    # as long as what the other track has of them
    assert [round(s.duration_ns / NS, 3) for s in line.tracks["a"].segments] == [2.0, 0.667]
    assert line.tracks["v"].version == (102, 0, 2)
    assert line.tracks["a"].version == (102, 0, 0)
    assert line.level() == []
    assert line.begin_generation(wall_ns=WALL + 60 * NS).first_msn == 102


def test_skipped_segments_are_gaps() -> None:
    line = timeline()
    line.begin_generation(wall_ns=WALL)
    add(line, "v", 101)
    add(line, "v", 103)
    assert [(s.msn, s.gap) for s in line.tracks["v"].segments] == [
        (100, True),
        (101, False),
        (102, True),
        (103, False),
    ]


def test_a_part_of_another_segment_is_a_bug() -> None:
    line = timeline()
    line.begin_generation(wall_ns=WALL)
    add(line, "v", 100, parts=1, final=False)
    with pytest.raises(ValueError, match="part of segment 101 while 100 is open"):
        add(line, "v", 101)


def test_discontinuities_count_generations_that_made_something() -> None:
    line = timeline()
    line.begin_generation(wall_ns=WALL)
    add(line, "v", 100)
    line.begin_generation(wall_ns=WALL)  # died at once
    assert line.begin_generation(wall_ns=WALL).number == 2
    add(line, "v", 101)
    line.level()
    for track in line.tracks.values():
        assert [(s.tagged, s.discontinuity) for s in track.segments] == [(False, 0), (True, 1)]


def test_dates_never_go_back() -> None:
    line = timeline()
    line.begin_generation(wall_ns=WALL)
    add(line, "v", 100)
    assert line.tracks["v"].segments[0].wall_ns == WALL
    # fed the last group of pictures again, which arrived 1.5 s before the end
    line.begin_generation(wall_ns=WALL + NS // 2)
    add(line, "v", 101)
    assert line.tracks["v"].segments[1].wall_ns == WALL + 2 * NS
    # an outage: the date is the one of arrival again
    line.begin_generation(wall_ns=WALL + 60 * NS)
    add(line, "v", 102)
    assert line.tracks["v"].segments[2].wall_ns == WALL + 60 * NS


def test_now_is_at_the_end_of_the_media_wherever_the_clock_was_set_to() -> None:
    line = timeline()
    line.begin_generation(wall_ns=WALL)
    add(line, "v", 100)
    end_ns = WALL + 2 * NS
    assert line.dated(end_ns + NS) == end_ns + NS
    assert line.dated(end_ns + 3600 * NS) == end_ns + 4 * NS
    assert line.dated(end_ns - 3600 * NS) == end_ns


def test_the_window_slides_and_says_what_to_forget() -> None:
    line = timeline(window_s=12)
    line.begin_generation(wall_ns=WALL)
    line.set_init("v", "/v/init0", VIDEO)
    forgotten: list[str] = []
    for msn in range(100, 130):
        if msn == 110:
            line.begin_generation(wall_ns=WALL)
            line.set_init("v", "/v/init1", VIDEO)
        add(line, "v", msn)
        add(line, "a", msn)
        track = line.tracks["v"]
        listed = sum(s.duration_ns for s in track.segments)
        assert listed >= min(12 * NS, (msn - 99) * 2 * NS) - 100
        assert listed < 14 * NS
        forgotten += line.forget()
        # 3 target durations and 2 segments stay after they left: never what is listed
        assert len(track.retired) <= 6
        listed_paths = {p.path for s in track.segments for p in s.parts}
        assert not listed_paths & set(forgotten)
    assert len(forgotten) == len(set(forgotten))
    assert "/v/100.0" in forgotten
    assert "/v/init0" in forgotten
    assert "/v/init1" not in forgotten
    assert line.tracks["v"].segments[0].msn == 124
    assert line.tracks["v"].segments[0].discontinuity == 1


def test_gaps_have_no_path_to_forget() -> None:
    line = timeline(window_s=12)
    line.begin_generation(wall_ns=WALL)
    for msn in range(100, 130):
        add(line, "v", msn)
    line.level()
    paths = line.forget()
    assert any("/v/" in path for path in paths)
    assert not any("/a/" in path for path in paths)
