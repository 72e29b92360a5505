"""Media that has left the live window and is still listed: on disk, and out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.disk import Disk
from origin.model import Rendition
from origin.presentation import Presentation
from origin.store import Store, StoreError
from origin.timing import NS, Timing
from tests.hand_made import HandMade, fill, flush
from tests.looped import looped

pytestmark = pytest.mark.timeout(20)

TTL_MS = 10_000
ARCHIVE_S = 60.0
FIRST = "/live/cam/abc/v/10.m4s"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "window", queue_bytes=1 << 20, on_written=lambda *_: None)
    yield disk
    disk.close()


def aged(disk: Disk, segments: int = 4) -> tuple[Store, HandMade, Clock]:
    """A stream whose first segments have left the live window, and one that has not."""
    clock = Clock()
    store = Store(disk=disk, archive_s=ARCHIVE_S, monotonic_s=clock)
    made = HandMade(ttl_ms=TTL_MS)
    fill(store, made.opening("v"))
    for _ in range(segments - 1):
        fill(store, made.segment("v"))
    flush(disk)
    clock.now += TTL_MS / 1000 + 1
    fill(store, made.segment("v"))
    return store, made, clock


@looped
async def test_what_left_the_live_window_is_read_from_disk(disk: Disk) -> None:
    store, made, _ = aged(disk)
    found = store.find(FIRST)
    assert found is not None
    assert (found.chunks, found.parts) == ([], [])
    assert found.file is not None
    body = found.file.read_bytes()
    assert await store.read(found, 5, 100) == body[5:100]
    assert found.size == len(body) == 3 * made.size
    assert found.digest
    with pytest.raises(StoreError) as error:  # its parts are no longer listed
        await store.fetch("/live/cam/abc/v/10.0.m4s")
    assert error.value.status == 404
    gauges = store.gauges()
    assert (gauges["archived"], gauges["memory_bytes"]) == (4, 3 * made.size + made.size)


def test_what_left_the_playlist_leaves_the_disk(disk: Disk, tmp_path: Path) -> None:
    store, made, clock = aged(disk)
    clock.now += ARCHIVE_S - 1
    fill(store, made.segment("v"))
    assert store.find(FIRST) is not None
    clock.now += 2
    fill(store, made.segment("v"))
    flush(disk)
    assert store.find(FIRST) is None
    assert not (tmp_path / "window/cam/abc/v/10.m4s").exists()
    assert disk.holds(FIRST) is None
    assert (tmp_path / "window/cam/abc/v/init0.mp4").exists()


def test_a_segment_that_was_not_written_is_lost_and_counted(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "window/cam").write_bytes(b"a file where a folder must be: every write fails")
    store, _, _ = aged(disk)
    assert store.find(FIRST) is None
    assert store.counters["not_archived"] == 4


@looped
async def test_an_ended_stream_keeps_all_that_its_playlists_listed(
    disk: Disk, tmp_path: Path
) -> None:
    store, made, clock = aged(disk)
    fill(store, [made.version("v", ended=True)])
    flush(disk)
    clock.now += 10 * ARCHIVE_S
    assert store.find(FIRST) is not None
    disk.close()
    later = Disk(tmp_path / "window", queue_bytes=1 << 20, on_written=lambda *_: None)
    again = Store(disk=later, archive_s=ARCHIVE_S)
    for msn in range(10, 15):
        old, new = (each.find(f"/live/cam/abc/v/{msn}.m4s") for each in (store, again))
        assert old is not None
        assert new is not None
        assert (new.digest, new.size) == (old.digest, old.size)
        assert await again.read(new, 0, new.size) == await store.read(old, 0, old.size)
    later.close()


def test_media_of_an_older_epoch_is_not_archived(disk: Disk) -> None:
    store, _, clock = aged(disk)
    made = HandMade(epoch="abd", ttl_ms=TTL_MS)
    fill(store, made.opening("v"))
    flush(disk)
    clock.now += 61  # how long media of an epoch that was followed lingers
    fill(store, made.segment("v"))
    assert [store.find(f"/live/cam/abc/v/{msn}.m4s") for msn in range(10, 15)] == [None] * 5
    assert store.find("/live/cam/abd/v/10.m4s") is not None
    assert store.gauges()["archived"] == 1


def test_playlists_reach_back_further_than_memory() -> None:
    video = Rendition(track="v", kind="video", bandwidth=1, average_bandwidth=1)
    plan = Timing.plan([video], window_s=30, dvr_s=7200)
    assert (plan.window_ns, plan.live_ns) == (7200 * NS, 30 * NS)
    plan = Timing.plan([video], window_s=30)
    assert (plan.window_ns, plan.live_ns) == (30 * NS, 30 * NS)


@pytest.mark.parametrize("segment_s", [0.5, 1.0, 2.0, 4.0, 6.0])
@pytest.mark.parametrize("dvr_s", [0.0, 7200.0])
def test_what_left_a_playlist_can_still_be_had(segment_s: float, dvr_s: float) -> None:
    """RFC 8216bis 6.2.2: a segment for its own and the longest playlist's duration from when it
    first appeared, a part for 3 target durations from when it left."""
    video = Rendition(track="v", kind="video", bandwidth=1, average_bandwidth=1)
    show = Presentation(
        "s",
        epoch="t0",
        renditions=[video],
        segment_s=segment_s,
        part_s=segment_s / 2,
        window_s=20.0,
        dvr_s=dvr_s,
    )
    timing = show.timing
    kept_s = show.media_ttl_ms / 1000
    archived_s = max(0.0, dvr_s - 20.0)
    # a segment leaves when the window is full without it; the one that grows is listed, too
    longest_s = timing.window_ns / NS + 2 * segment_s
    assert kept_s + archived_s >= segment_s + longest_s
    # parts are listed by whole segments that begin within 3 target durations of the end
    listed_s = 3 * timing.target_duration + segment_s
    assert kept_s >= listed_s + 3 * timing.target_duration
