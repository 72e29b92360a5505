"""Another data centre goes on with a timeline of which it has not a byte."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import m3u8
import pytest

from edgecache.flv import AUDIO, VIDEO, Tag
from origin import names
from origin.chronicle import Row, told
from origin.entries import Entries
from origin.handover import UNKNOWN, published, take_over, whole
from origin.model import PartObject, PlaylistVersion
from origin.presentation import Presentation
from origin.resume import Reach
from origin.timeline import Segment
from origin.timing import NS
from tests.encoded import PLAN, TRACKS, encode

UNIX_S = 1_763_800_000
REACH = Reach(window_s=6.0, dvr_s=0.0)


@pytest.fixture(scope="module")
def first() -> Presentation:
    """Killed in its fourth segment."""
    return begun()


def begun() -> Presentation:
    made = Presentation(
        "cam", epoch=names.epoch_of(UNIX_S), renditions=PLAN, window_s=REACH.window_s
    )
    start = made.begin_generation(wall_ns=UNIX_S * NS)
    assert published(made.timeline) is None
    for track, data in encode(shutil.which("ffmpeg") or "ffmpeg", start.offset_s):
        made.feed(track, data, 0)
        if made.timeline.end_ns > (start.offset_s + 7) * NS:
            break
    return made


def past(first: Presentation) -> tuple[int, list[Row]]:
    found = published(first.timeline)
    assert found is not None
    return found[0], travelled(told(first.timeline, first.planned, until_msn=found[0]))


def travelled(rows: list[Row]) -> list[Row]:
    return [Row(*each) for each in json.loads(json.dumps(rows))]


def test_published_is_what_all_tracks_have_followed_on(first: Presentation) -> None:
    begun = UNIX_S // 2
    assert published(first.timeline) == (begun + 3, 6000.0)


def test_it_lists_what_was_published_and_leaves_out_what_is_not_known(first: Presentation) -> None:
    msn, rows = past(first)
    taken = take_over("cam", rows, REACH)
    timeline = taken.presentation.timeline
    assert timeline.next_msn == msn + UNKNOWN
    assert timeline.epoch not in ("", first.timeline.epoch)
    for name, track in timeline.tracks.items():
        before = {s.msn: s for s in first.timeline.tracks[name].segments}
        whole = [s for s in track.segments if not s.gap]
        assert [s.msn for s in track.segments if s.gap] == [msn, msn + 1]
        assert whole
        for segment in whole:
            same = before[segment.msn]
            assert places(segment) == places(same)


def test_of_one_that_was_left_in_order_nothing_is_left_out() -> None:
    left = begun()
    left.end_generation()
    timeline = take_over("cam", travelled(whole(left)), REACH).presentation.timeline
    assert timeline.next_msn == left.timeline.next_msn
    for name, track in timeline.tracks.items():
        listed = [*map(places, track.segments)]
        assert listed[-1][-1] is False  # no gap
        assert listed == [*map(places, left.timeline.tracks[name].segments)][-len(listed) :]


def places(segment: Segment) -> tuple[object, ...]:
    return segment.path, segment.start_ns, segment.end_ns, segment.wall_ns, segment.gap


def test_what_it_makes_follows_behind_a_discontinuity(first: Presentation) -> None:
    msn, rows = past(first)
    taken = take_over("cam", rows, REACH)
    versions = [i for i in taken.publications if isinstance(i, PlaylistVersion) and i.hold_ms]
    assert {one.path for one in versions} >= {f"/live/cam/{track}.m3u8" for track in TRACKS}
    made = taken.presentation
    start = made.begin_generation(wall_ns=(UNIX_S + 12) * NS)
    assert start.msn == msn + UNKNOWN
    items = [
        item
        for track, data in encode(shutil.which("ffmpeg") or "ffmpeg", start.offset_s)
        for item in made.feed(track, data, 0)
    ]
    parts = [item for item in items if isinstance(item, PartObject)]
    assert min(part.msn for part in parts) == start.msn
    for track in TRACKS:
        path = f"/live/cam/{track}.m3u8"
        mine = [i for i in items if isinstance(i, PlaylistVersion) and i.path == path]
        listed = m3u8.loads(mine[0].full.decode())
        assert listed.discontinuity_sequence == 0
        dates = [s.program_date_time for s in listed.segments if s.program_date_time]
        assert dates == sorted(dates)
        last = [i for i in versions if i.path == path][-1]
        found = [last.version, *(i.version for i in mine)]
        assert all(a < b for a, b in pairwise(found))


@pytest.mark.parametrize("change", [{"format": 99}, {"planned": [{"track": "../etc"}]}])
def test_what_is_not_usable_is_refused(first: Presentation, change: dict[str, object]) -> None:
    _, rows = past(first)
    rows[0] = replace_data(rows[0], change)
    with pytest.raises((ValueError, TypeError)):
        take_over("cam", rows, REACH)


def replace_data(row: Row, change: dict[str, object]) -> Row:
    return row._replace(data=row.data | change)


def test_an_encoder_begins_at_the_newest_picture_that_needs_no_other_one() -> None:
    entries = Entries()
    late = Tag(VIDEO, 0, b"\x17\x01\x00\x00\x50")  # shown 80 ms after it is decoded
    assert entries.before(1e9) is None
    entries.add(late, 0, 3)
    entries.add(late, 2000, 60)
    entries.add(Tag(AUDIO, 0, b"\xaf\x01"), 4000, 120)
    assert [entries.before(at) for at in (79, 80, 2079, 2080, 3999, 4000)] == [
        None, 3, 3, 60, 60, 120,
    ]  # fmt: skip
