"""A stream that a killed process left on the disk goes on: nothing of it is lost or said otherwise.

Most of it is one broadcast by a real encoder, killed in mid-segment; the tests read what is left.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import m3u8
import pytest

from origin import dash, manifest, names
from origin.chronicle import Chronicle, Past, Row, head, rebuild
from origin.disk import INDEX, Disk
from origin.journal import Journal
from origin.markers import Marker
from origin.model import PartObject, PlaylistVersion, Publication, Rendition, digest_of
from origin.presentation import Presentation
from origin.resume import Reach, take_up
from origin.store import Store
from origin.timeline import Timeline
from origin.timing import NS
from tests import encoded
from tests.encoded import TRACKS, encode
from tests.hand_made import fill, flush
from tests.looped import looped
from tests.serving_origin import serving

pytestmark = pytest.mark.timeout(60)

UNIX_S: Final = 1_763_800_000
FIRST: Final = UNIX_S // 2
WINDOW_S: Final = 6.0
REACH: Final = Reach(window_s=WINDOW_S, dvr_s=60.0)
TEXT: Final = Rendition(
    track="text-en", kind="text", bandwidth=9, average_bandwidth=9, codecs="wvtt"
)
PLAN: Final = (*encoded.PLAN, TEXT)


@dataclass
class Show:
    """A broadcast, and the store, the disk and the rows that it leaves."""

    disk: Disk
    presentation: Presentation = field(
        default_factory=lambda: Presentation(
            "cam",
            epoch=names.epoch_of(UNIX_S),
            renditions=PLAN,
            window_s=WINDOW_S,
            dvr_s=60.0,
        )
    )
    rows: dict[tuple[str, str, int, int], Row] = field(default_factory=dict)
    known: Chronicle | None = None

    def __post_init__(self) -> None:
        self.store = Store(disk=self.disk, archive_s=54.0)

    def publish(self, items: list[Publication]) -> None:
        fill(self.store, items)
        timeline = self.presentation.timeline
        if self.known is None:
            self.known = Chronicle(timeline)
            self.record([head(timeline, PLAN, discontinuities=7)])
        self.record(self.known.rows(items))

    def record(self, rows: list[Row]) -> None:
        self.disk.record("cam", rows)
        self.rows |= {row[:4]: row for row in rows}

    def encode(self, *, until_s: float) -> Iterator[None]:
        """A generation, piece by piece, up to `until_s` of media; it is not ended."""
        timeline = self.presentation.timeline
        wall_s = UNIX_S + 20 * len(timeline.generations)
        start = self.presentation.begin_generation(wall_ns=round(wall_s * NS))
        for track, data in encode(shutil.which("ffmpeg") or "ffmpeg", start.offset_s):
            if timeline.end_ns > (start.offset_s + until_s) * NS:
                return
            if made := self.presentation.feed(track, data, 0):
                self.publish(made)
                yield


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "first", queue_bytes=64 << 20, on_written=lambda *_: None)
    yield disk
    disk.close()


@pytest.fixture
def killed(disk: Disk, tmp_path: Path) -> Iterator[tuple[Show, Disk]]:
    """Two generations, killed in the middle of a segment; what is on the disk then."""
    show = Show(disk)
    for _ in show.encode(until_s=4.5):
        pass
    show.presentation.mark(Marker(id="ad", start_ns=UNIX_S * NS, planned_ns=NS))
    show.publish(show.presentation.end_generation())
    for _ in show.encode(until_s=5.0):
        pass
    flush(disk)
    shutil.copytree(tmp_path / "first", tmp_path / "left")
    left = Disk(tmp_path / "left", queue_bytes=64 << 20, on_written=lambda *_: None)
    assert list(left.load()) == []
    assert left.interrupted() == ["cam"]
    yield show, left
    left.close()


def texts(timeline: Timeline) -> dict[str, object]:
    """All that is said of a timeline."""
    said: dict[str, object] = {"periods": dash.periods(timeline, running=True)}
    for name, track in timeline.tracks.items():
        if not track.segments:
            continue
        said[name] = manifest.media_playlist(timeline, name)
        for v2 in (False, True):
            said[f"{name}+{v2}"] = manifest.delta_playlist(timeline, name, v2=v2)
        if track.rendition.key_bandwidth:
            said[f"{name}.iframes"] = manifest.iframe_playlist(timeline, name)
        said[f"{name}.retired"] = [segment.path for segment in track.retired]
    return said


def listed(items: list[Publication], track: str) -> m3u8.M3U8:
    """The newest of the track's playlists in `items`."""
    path = names.media_path("cam", track)
    newest = [each for each in items if isinstance(each, PlaylistVersion) and each.path == path][-1]
    return m3u8.loads(newest.full.decode())


def test_rows_give_the_same_playlists_at_any_time(disk: Disk) -> None:
    """Whenever a process is killed, the next one says the same, as soon as an encoder runs."""
    show = Show(disk)
    compared = 0

    def compare() -> None:
        nonlocal compared
        said = texts(show.presentation.timeline)
        past = Past(list(show.rows.values()))
        again = Presentation(
            "cam", epoch=names.epoch_of(UNIX_S), renditions=past.planned, window_s=WINDOW_S,
            dvr_s=WINDOW_S, first_msn=past.first_msn,
        )  # fmt: skip
        rebuild(past, again.timeline, lambda _path, _size: True)
        again.timeline.running = show.presentation.timeline.running
        assert texts(again.timeline) == said
        compared += 1

    show.presentation = Presentation(
        "cam",
        epoch=names.epoch_of(UNIX_S),
        renditions=PLAN,
        window_s=WINDOW_S,
        dvr_s=WINDOW_S,
    )
    for _ in range(2):
        for count, _ in enumerate(show.encode(until_s=9.0)):
            if count % 3 == 0:
                compare()
        show.presentation.mark(Marker(id="ad", start_ns=UNIX_S * NS, planned_ns=NS))
        show.publish(show.presentation.end_generation())
        compare()
    assert "TYPE=MAP" not in manifest.media_playlist(show.presentation.timeline, TEXT.track)
    assert compared > 30


def whole(playlist: m3u8.M3U8) -> list[str]:
    return [segment.uri for segment in playlist.segments if segment.uri]


def test_what_was_published_is_there_as_it_was(killed: tuple[Show, Disk]) -> None:
    show, left = killed
    taken = take_up(left, "cam", REACH)
    assert taken.discontinuities == 7
    again = Store(disk=left)
    again.restore(taken.window)
    paths = [path for path in show.store._windows["cam"].objects if show.store.find(path)]
    assert len(paths) > 60  # all of it is younger than the live window
    for path in paths:
        old, new = show.store.find(path), again.find(path)
        assert old is not None
        assert new is not None
        assert (new.digest, new.slice(0, new.size)) == (old.digest, old.slice(0, old.size))
    fill(again, taken.publications)
    closed = [item for item in taken.publications if isinstance(item, PartObject)]
    assert {item.track for item in closed} == {*TRACKS, TEXT.track}
    told = {item.path for item in again.backfill("cam", 1)}  # what a POP is told first
    assert told >= {item.path for item in closed}
    assert sum(path.endswith(".mp4") for path in told) == 2 * len(TRACKS)
    for item in closed:
        segment, begun = again.find(item.segment_path), show.store.find(item.segment_path)
        assert item.final
        assert segment is not None
        assert begun is not None
        assert segment.slice(0, begun.size) == begun.slice(0, begun.size)
        assert segment.digest == digest_of(segment.slice(0, segment.size)) == item.segment_digest
    for name in TRACKS:
        slot = show.store.find_playlist(names.media_path("cam", name))
        assert slot is not None
        before, after = m3u8.loads(slot.full.decode()), listed(taken.publications, name)
        assert whole(after) == [*whole(before), f"{closed[0].path.split('/')[3]}/{name}/"
                                f"{closed[0].msn}.m4s"]  # fmt: skip
        assert not any(segment.gap_tag for segment in after.segments)


def test_it_goes_on_behind_a_discontinuity_under_new_names(killed: tuple[Show, Disk]) -> None:
    _, left = killed
    taken = take_up(left, "cam", REACH)
    before = {name: listed(taken.publications, name) for name in TRACKS}
    on = Show(left, taken.presentation, known=taken.chronicle)
    on.store.restore(taken.window)
    on.publish(taken.publications)
    for _ in on.encode(until_s=2.5):
        pass
    on.publish(on.presentation.end())
    flush(left)
    for name in TRACKS:
        version = on.store.find_playlist(names.media_path("cam", name))
        assert version is not None
        after = m3u8.loads(version.full.decode())
        count = len(whole(before[name]))
        assert after.is_endlist
        assert after.media_sequence == before[name].media_sequence == FIRST
        assert after.discontinuity_sequence == before[name].discontinuity_sequence
        assert whole(after)[:count] == whole(before[name])
        assert [n for n, s in enumerate(after.segments) if s.discontinuity] == [3, count]
        dates = [segment.program_date_time for segment in after.segments]
        assert dates == sorted(dates)
        epoch, _, msn = whole(after)[count].split("/")
        assert msn == f"{FIRST + count}.m4s"
        assert names.epoch_seconds(epoch) > UNIX_S
        assert after.segments[count].init_section.uri == f"{epoch}/{name}/init2.mp4"
    later = Disk(left._root, queue_bytes=1 << 20, on_written=lambda *_: None)
    recording = Store(disk=later)
    assert recording.state("cam") == "ended"
    assert later.interrupted() == []
    for path in (f"/live/cam/{uri}" for uri in whole(after)):
        file = recording.find(path)
        assert file is not None
        assert file.file is not None
        assert file.digest == digest_of(file.file.read_bytes())
    later.close()


def test_nothing_that_is_not_whole_is_listed(killed: tuple[Show, Disk]) -> None:
    _, left = killed
    epoch = names.epoch_of(UNIX_S)
    tracks = left._root / "cam" / epoch
    with (tracks / "180p" / f"{FIRST + 1}.m4s").open("r+b") as cut:
        cut.truncate(100)
    (tracks / "90p" / f"{FIRST + 2}.m4s").unlink()
    begun = next((tracks / "audio").glob("*.tmp"))
    begun.unlink()
    taken = take_up(left, "cam", REACH)
    gaps = {"180p": FIRST + 1, "90p": FIRST + 2, "audio": int(begun.name.partition(".")[0])}
    for name, gap in gaps.items():
        segments = listed(taken.publications, name).segments
        assert [FIRST + n for n, s in enumerate(segments) if s.gap_tag] == [gap]
        path = names.segment_path("cam", epoch, name, gap)
        assert taken.window.find(path) is None
        assert taken.window.find(names.part_path("cam", epoch, name, gap, 0)) is None


def test_an_init_section_of_other_bytes_is_no_stream(killed: tuple[Show, Disk]) -> None:
    _, left = killed
    init = left._root / "cam" / names.epoch_of(UNIX_S) / "90p" / "init0.mp4"
    init.write_bytes(init.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"init0\.mp4: found other bytes than were written"):
        take_up(left, "cam", REACH)


def test_what_is_no_journal_is_one_error(killed: tuple[Show, Disk]) -> None:
    _, left = killed
    folder = left._root / "cam"
    for file in folder.glob("journal.db*"):
        file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(OSError, match="not a database"):
        take_up(left, "cam", REACH)
    for file in folder.glob("journal.db*"):
        file.unlink()
    Journal(folder).close()
    with pytest.raises(ValueError, match="found format None, allowed 1"):
        take_up(left, "cam", REACH)


@pytest.mark.parametrize("resume", ["0s", "1000000h"])
@looped
async def test_what_cannot_go_on_is_a_recording(
    killed: tuple[Show, Disk], tmp_path: Path, resume: str
) -> None:
    """Its media is too old, or there is another ladder now. A stream that cannot be read is
    forgotten, and is in nobody's way."""
    shutil.copytree(tmp_path / "left", tmp_path / "data" / "window")
    (tmp_path / "data" / "window" / "lost").mkdir()
    (tmp_path / "data" / "window" / "lost" / "journal.db").write_bytes(b"no database")
    settings = (f"data.dir={tmp_path / 'data'}", "live.window=6s", "live.dvr=60s")
    async with serving(*settings, f"live.resume={resume}") as (origin, http):
        assert [origin.store.state(name) for name in ("cam", "lost")] == ["ended", "unknown"]
        for name in TRACKS:
            plain = {"Accept-Encoding": "identity"}
            async with http.get(f"/live/cam/{name}.m3u8", headers=plain) as answer:
                playlist = m3u8.loads(await answer.text())
            assert playlist.is_endlist
            assert len(playlist.segments) == 6
            for uri in whole(playlist):
                async with http.get(f"/live/cam/{uri}") as answer:
                    assert answer.status == 200
                    assert f'"{digest_of(await answer.read())}"' == answer.headers["ETag"]
    assert (tmp_path / "data" / "window" / "cam" / INDEX).exists()
    assert not (tmp_path / "data" / "window" / "lost").exists()


def test_names_are_never_given_twice(killed: tuple[Show, Disk]) -> None:
    _, left = killed
    epochs = [take_up(left, "cam", REACH).window.epoch for _ in range(3)]
    assert epochs == sorted(set(epochs))


def test_rows_leave_with_what_they_speak_of(killed: tuple[Show, Disk]) -> None:
    show, _ = killed
    disk, epoch = show.disk, names.epoch_of(UNIX_S)
    for track in ("90p", TEXT.track):
        disk.archived(names.segment_path("cam", epoch, track, FIRST))
        disk.remove(names.segment_path("cam", epoch, track, FIRST + 1))
    flush(disk)
    kept = [row[:3] for row in disk.rows("cam") if row.track == TEXT.track]
    assert ("segment", TEXT.track, FIRST) in kept
    assert ("segment", TEXT.track, FIRST + 1) not in kept
    assert ("part", TEXT.track, FIRST) not in kept
    left = {row[:3] for row in disk.rows("cam") if row.track == "90p" and row.number < FIRST + 3}
    assert left == {
        ("init", "90p", 0), ("init", "90p", 1), ("segment", "90p", FIRST),
        ("segment", "90p", FIRST + 2), ("part", "90p", FIRST + 2),
    }  # fmt: skip
    show.publish(show.presentation.end())
    flush(disk)
    assert (disk._root / "cam" / INDEX).exists()
    assert not list((disk._root / "cam").glob("journal*"))
