"""origin/store.py, origin/window.py"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from origin.model import PartObject
from origin.store import Store, StoreError
from origin.window import Want
from tests.hand_made import HandMade, fill
from tests.looped import looped

pytestmark = pytest.mark.timeout(20)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def live(parts: int = 0, hold_ms: int = 6_000) -> tuple[Store, HandMade]:
    """A store with one whole segment (msn 10) of track `v`, and `parts` parts of msn 11."""
    made = HandMade(hold_ms=hold_ms)
    store = Store()
    fill(store, made.opening("v"))
    for _ in range(parts):
        fill(store, made.step("v"))
    return store, made


# -- objects


def test_a_segment_is_its_parts() -> None:
    store, _ = live(parts=1)
    whole = store.find("/live/cam/abc/v/10.m4s")
    parts = [store.find(f"/live/cam/abc/v/10.{index}.m4s") for index in range(3)]
    assert whole is not None
    assert whole.complete
    assert [part.chunks[0] for part in parts if part] == whole.chunks
    assert all(part and part.chunks[0] is whole.chunks[i] for i, part in enumerate(parts))
    growing = store.find("/live/cam/abc/v/11.m4s")
    assert growing is not None
    assert not growing.complete
    assert growing.size == 64


@looped
async def test_slices_cross_parts() -> None:
    store, _ = live()
    whole = store.find("/live/cam/abc/v/10.m4s")
    assert whole is not None
    text = b"".join(whole.chunks)
    for start, stop in ((0, 192), (0, 1), (60, 70), (64, 128), (63, 129), (191, 192), (5, 5)):
        assert await store.read(whole, start, stop) == text[start:stop]


def test_the_first_body_wins() -> None:
    store, made = live()
    part = made.part("v")
    store.add("cam", part)
    store.add("cam", part)
    store.add("cam", replace(part, body=b"other", digest="0" * 32))
    assert store.counters["duplicates"] == 1
    assert store.counters["conflicts"] == 1
    assert store.find(part.path).chunks == [part.body]  # type: ignore[union-attr]


def test_a_part_that_does_not_follow_is_not_taken() -> None:
    store, made = live()
    made.part("v")  # lost
    second = made.part("v")
    store.add("cam", second)
    assert store.counters["out_of_order"] == 1
    assert store.find(second.path) is None


@looped
async def test_a_growing_segment_is_followed_to_its_end() -> None:
    store, made = live(parts=1)
    growing = store.find("/live/cam/abc/v/11.m4s")
    assert growing is not None
    seen: list[bytes] = []
    first = asyncio.Event()

    async def follow() -> None:
        async for chunk in store.follow(growing, 5.0):
            seen.append(chunk)
            first.set()

    reader = asyncio.create_task(follow())
    await first.wait()
    assert len(seen) == 1
    fill(store, made.step("v") + made.step("v"))
    await reader
    assert b"".join(seen) == b"".join(growing.chunks)
    assert len(seen) == 3


@looped
async def test_a_segment_that_stops_growing_is_given_up() -> None:
    store, _ = live(parts=1)
    growing = store.find("/live/cam/abc/v/11.m4s")
    assert growing is not None
    with pytest.raises(StoreError) as error:
        _ = [chunk async for chunk in store.follow(growing, 0.01)]
    assert error.value.status == 503


def test_media_ages_and_inits_stay() -> None:
    clock = Clock()
    store = Store(monotonic_s=clock)
    made = HandMade(ttl_ms=10_000)
    fill(store, made.opening("v"))
    clock.now += 11
    fill(store, made.step("v"))
    assert store.find("/live/cam/abc/v/10.m4s") is None
    assert store.find("/live/cam/abc/v/10.0.m4s") is None
    assert store.find("/live/cam/abc/v/11.0.m4s") is not None
    assert store.find("/live/cam/abc/v/init0.mp4") is not None
    assert store.counters["evicted"] == 4


# -- the hinted part


@looped
async def test_the_hinted_part_is_waited_for() -> None:
    store, made = live(parts=1)
    path = "/live/cam/abc/v/11.1.m4s"
    waiter = asyncio.create_task(store.fetch(path))
    await asyncio.sleep(0)
    assert store.gauges()["waiters"] == 1
    fill(store, made.step("v"))
    assert (await waiter).path == path
    assert store.gauges()["waiters"] == 0


@pytest.mark.parametrize("name", ["11.2", "12.0", "10.3", "9", "16", "nothing"])
@looped
async def test_what_is_not_hinted_is_unknown(name: str) -> None:
    store, _ = live(parts=1)
    with pytest.raises(StoreError) as error:
        await store.fetch(f"/live/cam/abc/v/{name}.m4s")
    assert error.value.status == 404


@looped
async def test_a_hinted_init_section_is_waited_for() -> None:
    """RFC 8216bis 6.2.6, B.1: of the encoder that comes after the one that ended."""
    store, made = live(parts=1)
    first = made.init("v")
    coming = replace(first, path=first.path.replace("init0", "init1"))
    with pytest.raises(StoreError) as error:
        await store.fetch(coming.path)
    assert error.value.status == 404  # an encoder runs
    made.part("v")
    hint = b'#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="abc/v/init1.mp4"\n'
    store.add("cam", replace(made.version("v"), full=hint))
    waiter = asyncio.create_task(store.fetch(coming.path))
    await asyncio.sleep(0)
    assert store.gauges()["waiters"] == 1
    store.add("cam", coming)
    assert (await waiter).path == coming.path


@looped
async def test_a_hinted_part_that_is_not_made_is_unknown_then() -> None:
    """The encoder was restarted: the segment closed early, the hint moved."""
    store, made = live(parts=1)
    waiter = asyncio.create_task(store.fetch("/live/cam/abc/v/11.1.m4s"))
    await asyncio.sleep(0)
    for _ in range(2):
        made.part("v")
    fill(store, [made.version("v")])
    with pytest.raises(StoreError) as error:
        await waiter
    assert error.value.status == 404


# -- playlists: RFC 8216bis 6.2.5.2. The newest version is 11.2: segment 10 whole, 2 parts of 11.

READY, WAIT, BAD = 200, 503, 400


@pytest.mark.parametrize(
    ("msn", "part", "status"),
    [
        (None, None, READY),
        (None, 0, BAD),  # _HLS_part needs _HLS_msn
        (3, None, READY),  # stale: the newest is returned
        (3, 9, READY),
        (10, None, READY),
        (10, 2, READY),
        (10, 3, READY),  # past the end of 10: part 0 of 11
        (11, 0, READY),
        (11, 1, READY),
        (11, 2, WAIT),
        (11, 3, WAIT),
        (11, None, WAIT),
        (12, 0, WAIT),
        (12, None, WAIT),  # last segment (10) + 2
        (13, None, BAD),
        (13, 0, BAD),
        (11, 10, WAIT),  # 2 listed + advance 9 = index 10
        (11, 11, BAD),
        (12, 7, WAIT),
        (12, 8, BAD),
        (10**18, 0, BAD),
    ],
)
@looped
async def test_blocking_reload(msn: int | None, part: int | None, status: int) -> None:
    store, _ = live(parts=2, hold_ms=20)
    want = Want(msn=msn, part=part)
    if status == READY:
        version, _ = await store.playlist("/live/cam/v.m3u8", want)
        assert version.version == (11, 2, 3)
        return
    with pytest.raises(StoreError) as error:
        await store.playlist("/live/cam/v.m3u8", want)
    assert error.value.status == status


@looped
async def test_waiters_are_woken_by_the_version_they_want() -> None:
    store, made = live(parts=2)
    path = "/live/cam/v.m3u8"
    wants = [Want(msn=11, part=2), Want(msn=11, part=3), Want(msn=12, part=0), Want(msn=11)]
    tasks = [asyncio.create_task(store.playlist(path, want)) for want in wants]
    await asyncio.sleep(0)
    fill(store, made.step("v"))  # 11 is whole: 12.0
    done = {i for i, task in enumerate(tasks) if (await asyncio.wait([task], timeout=0.05))[0]}
    assert done == {0, 3}
    fill(store, made.step("v"))  # 12.1
    versions = [(await task)[0].version for task in tasks]
    assert versions == [(12, 0, 3), (12, 1, 3), (12, 1, 3), (12, 0, 3)]
    counted = store.counters
    assert counted["parked"] == counted["woken"] == 4


@looped
async def test_the_end_releases_everybody() -> None:
    store, made = live(parts=2)
    waiter = asyncio.create_task(store.playlist("/live/cam/v.m3u8", Want(msn=12, part=1)))
    await asyncio.sleep(0)
    fill(store, [made.version("v", ended=True)])
    version, variant = await waiter
    assert version.ended
    assert store.state("cam") == "ended"
    version, variant = await store.playlist(
        "/live/cam/v.m3u8", Want(msn=99, part=9, skip=True), gzip=True
    )
    assert (variant.body, variant.gzip) == (version.full_gzip, True)


@looped
async def test_variants() -> None:
    store, _ = live()
    path = "/live/cam/v.m3u8"
    version, plain = await store.playlist(path, Want())
    bodies = [
        (await store.playlist(path, Want(skip=skip), gzip=gzip))[1].body
        for skip, gzip in ((False, True), (True, False), (True, True))
    ]
    assert plain.body == version.full
    assert bodies == [version.full_gzip, version.delta, version.delta_gzip]
    _, multivariant = await store.playlist("/live/cam/master.m3u8", Want(msn=99, skip=True))
    assert multivariant.body.startswith(b"#EXTM3U")


@looped
async def test_unknown_playlists() -> None:
    store, _ = live()
    for path in ("/live/cam/x.m3u8", "/live/nobody/v.m3u8", "/live/x", "/", ""):
        with pytest.raises(StoreError) as error:
            await store.playlist(path, Want())
        assert error.value.status == 404


@looped
async def test_waiters_are_bounded_and_leave_no_trace() -> None:
    made = HandMade()
    store = Store(max_waiters=1)
    fill(store, made.opening("v"))
    want = Want(msn=11, part=0)
    first = asyncio.create_task(store.playlist("/live/cam/v.m3u8", want))
    await asyncio.sleep(0)
    with pytest.raises(StoreError) as error:
        await store.playlist("/live/cam/v.m3u8", want)
    assert error.value.status == 503
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert store.counters["gone"] == 1
    assert store.gauges()["waiters"] == 0


@looped
async def test_an_old_version_is_not_taken() -> None:
    store, made = live()
    old = made.version("v")
    fill(store, made.step("v"))
    store.add("cam", old)
    assert store.counters["stale_versions"] == 1
    assert (await store.playlist("/live/cam/v.m3u8", Want()))[0].version == (11, 1, 3)


@looped
async def test_a_new_epoch_begins_with_smaller_numbers() -> None:
    store, made = live()
    fill(store, [made.version("v", ended=True)])
    again = HandMade(epoch="abd", first_msn=0)
    fill(store, again.opening("v"))
    assert store.state("cam") == "live"
    assert (await store.playlist("/live/cam/v.m3u8", Want()))[0].version == (1, 0, 3)
    assert store.find("/live/cam/abc/v/10.m4s") is not None  # whoever still plays it


def test_back_fill_is_newest_first() -> None:
    made = HandMade()
    store = Store()
    fill(store, made.opening("v", "a"))
    for _ in range(3):
        fill(store, made.segment("v", "a"))
    fill(store, made.step("v", "a"))
    items = store.backfill("cam", 2)
    parts = [item for item in items if isinstance(item, PartObject)]
    assert [item.path.rpartition("/")[2] for item in items[:2]] == ["init0.mp4", "init0.mp4"]
    assert [(p.msn, p.track, p.index) for p in parts] == [
        (14, "v", 0), (14, "a", 0),
        (13, "v", 0), (13, "v", 1), (13, "v", 2), (13, "a", 0), (13, "a", 1), (13, "a", 2),
    ]  # fmt: skip
    assert [item.path for item in items[-3:]] == [
        "/live/cam/v.m3u8",
        "/live/cam/a.m3u8",
        "/live/cam/master.m3u8",
    ]
    fill(store, [made.version("v", ended=True), made.version("a", ended=True)])
    assert store.backfill("cam", 2) == []
