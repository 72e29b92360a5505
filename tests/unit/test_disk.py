"""origin/disk.py: what a store wrote is there after a restart; a disk that fails stops nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from origin.disk import INDEX, Disk
from origin.model import MPD_TYPE
from origin.store import Store
from origin.window import Want
from tests.hand_made import HandMade, fill
from tests.looped import looped

pytestmark = pytest.mark.timeout(20)


class Written:
    """Waits until the writer has finished a stream."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.streams: list[tuple[str, list[tuple[str, Path]]]] = []

    def __call__(self, stream: str, files: list[tuple[str, Path]]) -> None:
        self.streams.append((stream, files))
        self.done.set()


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def disk(tmp_path: Path, written: Written) -> Iterator[Disk]:
    disk = Disk(tmp_path / "window", queue_bytes=1 << 20, on_written=written)
    yield disk
    disk.close()


def end(store: Store, made: HandMade) -> None:
    fill(store, [made.version("v", ended=True)])


@looped
async def test_an_ended_stream_survives_a_restart(
    tmp_path: Path, disk: Disk, written: Written
) -> None:
    store, made = Store(disk=disk), HandMade()
    fill(store, [*made.opening("v"), *made.segment("v"), made.mpd()])
    end(store, made)
    assert written.done.wait(5)
    before = (await store.playlist("/live/cam/v.m3u8", Want()))[1].body
    held = store.find("/live/cam/abc/v/11.m4s")
    assert held is not None
    body = await store.read(held, 0, held.size)
    store.to_files(*written.streams[0])
    assert held.chunks == []
    assert await store.read(held, 0, held.size) == body

    again = Store(disk=Disk(tmp_path / "window", queue_bytes=1 << 20, on_written=written))
    assert again.state("cam") == "ended"
    version, variant = await again.playlist("/live/cam/v.m3u8", Want(msn=99))
    assert (variant.body, version.ended) == (before, True)
    mpd = again.find_playlist("/live/cam/manifest.mpd")
    assert mpd is not None
    assert (mpd.full, mpd.content_type) == (made.mpd().full, MPD_TYPE)
    for name in ("10.m4s", "11.m4s", "init0.mp4"):
        old, new = (each.find(f"/live/cam/abc/v/{name}") for each in (store, again))
        assert old is not None
        assert new is not None
        assert (old.digest, old.size, old.content_type) == (new.digest, new.size, new.content_type)
        assert await store.read(old, 3, 40) == await again.read(new, 3, 40)
    again._disk.close()  # type: ignore[union-attr]


def test_an_unfinished_stream_is_removed_at_start(tmp_path: Path, disk: Disk) -> None:
    made = HandMade()
    fill(Store(disk=disk), made.opening("v"))
    disk.close()
    assert (tmp_path / "window/cam/abc/v/10.m4s").stat().st_size == 192
    again = Disk(tmp_path / "window", queue_bytes=1 << 20, on_written=lambda *_: None)
    store = Store(disk=again)
    assert store.state("cam") == "unknown"
    assert list((tmp_path / "window").iterdir()) == []
    again.close()


@looped
async def test_a_full_disk_does_not_stop_the_live_path(
    tmp_path: Path, disk: Disk, written: Written, caplog: pytest.LogCaptureFixture
) -> None:
    made = HandMade()
    store = Store(disk=disk)
    (tmp_path / "window/cam").write_bytes(b"a file where a folder must be: every write fails")
    fill(store, made.opening("v") + made.segment("v"))
    assert (await store.fetch("/live/cam/abc/v/11.m4s")).complete
    disk.close()
    assert disk.counters["failed"] == 6  # no index to drop, an init, twice a part and its segment
    assert caplog.text.count("disk write failed") == 1


@looped
async def test_a_disk_that_is_full_for_one_segment(
    tmp_path: Path, disk: Disk, written: Written
) -> None:
    """Every write of it ends with ENOSPC; then there is room again. Live goes on, and the recording
    says that it is a gap."""
    made, path = HandMade(), "/live/cam/abc/v/11.m4s"
    store = Store(disk=disk)
    (tmp_path / "window/cam/abc/v").mkdir(parents=True)
    (tmp_path / "window/cam/abc/v/11.m4s.tmp").symlink_to("/dev/full")
    fill(store, [*made.opening("v"), *made.segment("v"), *made.segment("v")])
    assert (await store.fetch(path)).complete  # viewers have it
    ended = made.version("v", ended=True)
    text = "".join(f"#EXTINF:2,\nabc/v/{msn}.m4s\n" for msn in (10, 11, 12))
    fill(store, [replace(ended, full=text.encode())])
    assert written.done.wait(5)
    names = [name.rpartition("/")[2] for name, _ in written.streams[0][1]]
    assert sorted(names) == ["10.m4s", "12.m4s", "init0.mp4"]
    assert (disk.counters["failed"], disk.counters["missing"]) == (2, 1)
    again = Store(disk=Disk(tmp_path / "window", queue_bytes=1 << 20, on_written=written))
    recording = (await again.playlist("/live/cam/v.m3u8", Want()))[1].body.decode()
    assert recording == text.replace("abc/v/11", "#EXT-X-GAP\nabc/v/11")
    again._disk.close()  # type: ignore[union-attr]


@looped
async def test_the_disk_queue_is_bounded(tmp_path: Path, written: Written) -> None:
    disk = Disk(tmp_path, queue_bytes=150, on_written=written)
    made = HandMade(size=200)
    store = Store(disk=disk)
    fill(store, made.opening("v"))  # init 64, parts 200, segment 600
    end(store, made)
    assert written.done.wait(5)
    assert disk.counters["dropped"] == 4
    assert [path for path, _ in written.streams[0][1]] == ["/live/cam/abc/v/init0.mp4"]
    store.to_files(*written.streams[0])
    segment = await store.fetch("/live/cam/abc/v/10.m4s")
    assert len(await store.read(segment, 0, 600)) == 600  # still in memory
    disk.close()


@looped
async def test_the_oldest_ended_stream_is_forgotten(
    tmp_path: Path, disk: Disk, written: Written
) -> None:
    store = Store(disk=disk, ended_max=2)
    for name in ("one", "two", "three"):
        made = HandMade(name)
        fill(store, made.opening("v"), name)
        fill(store, [made.version("v", ended=True)], name)
    disk.close()
    assert [store.state(name) for name in ("one", "two", "three")] == ["unknown", "ended", "ended"]
    assert sorted(path.name for path in (tmp_path / "window").iterdir()) == ["three", "two"]


@looped
async def test_a_broken_index_costs_its_stream_only(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(disk=disk)
    for name in ("good", "bad"):
        made = HandMade(name)
        fill(store, made.opening("v"), name)
        fill(store, [made.version("v", ended=True)], name)
    disk.close()
    (tmp_path / f"window/bad/{INDEX}").write_text("{")
    again = Disk(tmp_path / "window", queue_bytes=1 << 20, on_written=lambda *_: None)
    found = Store(disk=again)
    assert (found.state("good"), found.state("bad")) == ("ended", "unknown")
    assert "index not usable" in caplog.text
    again.close()
