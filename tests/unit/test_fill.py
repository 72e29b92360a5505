"""Fills on the real store: bounds and ends that no viewer can bring about on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from edgecache._core import PUT_CREATED, Fill, Plane
from edgecache.config import EdgeConfig, load_config
from edgecache.control import fill as fill_module
from edgecache.control import filling as filling_module
from edgecache.control.fill import Filler
from edgecache.control.upstream import Patience, Upstreams
from tests.looped import eventually, looped
from tests.routed import route

CONFIG = load_config(
    None, ["origin.total=500ms", "origin.first_byte=300ms", "origin.push_wait=200ms"]
).value
PATIENT = load_config(None, ["origin.total=60s", "origin.push_wait=1s"]).value
ETAG = b'ETag: "v1"\r\n'


@dataclass
class Origin:
    """Answers request number n with answer n (the last repeats); b"" hangs."""

    answers: Sequence[bytes]
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                answer = self.answers[min(len(self.heads), len(self.answers)) - 1]
                writer.write(answer or b"")
                if not answer:
                    await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def ok(body: bytes, extra: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (size, extra, body)


@asynccontextmanager
async def filling(
    *answers: bytes, config: EdgeConfig = CONFIG, min_rate: int = 0
) -> AsyncIterator[tuple[Filler, Plane, Origin]]:
    origin = Origin(answers)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    upstreams = Upstreams([url] if answers else [], Patience(min_rate=min_rate))
    filler = Filler(lambda _: route(upstreams), config)
    plane = Plane(name=b"edge", budget_bytes=16 << 20)
    try:
        yield filler, plane, origin
    finally:
        await filler.close()
        await upstreams.close()
        server.close()
        await asyncio.sleep(0.01)
        plane.stop()


def opened(plane: Plane, key: bytes) -> Fill:
    fill = plane.open(key)
    assert fill is not None
    return fill


async def done(filler: Filler) -> None:
    await eventually(lambda: not filler.running)


@looped
async def test_a_body_is_stored_with_a_validator() -> None:
    async with filling(ok(b"hello")) as (filler, plane, _):
        filler.take([opened(plane, b"/a.m4s")])
        await done(filler)
        found = plane.lookup(b"/a.m4s") or {}
        assert (found["state"], found["size"]) == (b"complete", 5)
        assert 0 < int(found["ttl_ms"]) <= 6 * CONFIG.cache.target_duration
        assert filler.counts == {"started": 1, "completed": 1, "bytes": 5}


@looped
async def test_without_an_origin_it_fails_at_once() -> None:
    async with filling() as (filler, plane, _):
        filler.take([opened(plane, b"/a.m4s")])
        await done(filler)
        assert filler.counts["failed.unavailable"] == 1


@looped
async def test_no_answer_is_one_request_and_a_failure() -> None:
    async with filling(b"") as (filler, plane, origin):
        filler.take([opened(plane, b"/a.m4s")])
        await done(filler)
        assert filler.counts["failed.timeout"] == 1
        assert len(origin.heads) == 1


@looped
async def test_an_abandoned_body_that_is_not_kept_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filling_module, "_LONELY_S", 0.0)
    private = ok(b"half", b"Cache-Control: private\r\n", length=1000)
    async with filling(private) as (filler, plane, _):
        filler.take([opened(plane, b"/a.m4s")])
        await done(filler)
        assert filler.counts["stopped.abandoned"] == 1


@looped
async def test_one_look_at_the_waiters_is_not_enough() -> None:
    """A chunked body of one piece was cut in 1 of 7 answers: its waiter was between two waits."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    async with filling(chunked) as (filler, plane, _):
        filler.take([opened(plane, b"/a.m4s")])
        await done(filler)
        assert filler.counts["completed"] == 1


@looped
async def test_a_purged_entry_ends_its_fill() -> None:
    async with filling(ok(b"half", ETAG, length=1000)) as (filler, plane, origin):
        filler.take([opened(plane, b"/a.m4s")])
        await eventually(lambda: (plane.lookup(b"/a.m4s") or {}).get("size") == 4)
        assert plane.purge(b"/a.m4s")
        assert origin.heads
        await filler.close()
        assert plane.lookup(b"/a.m4s") is None


@looped
async def test_closing_cancels_what_runs() -> None:
    async with filling(b"") as (filler, plane, _):
        filler.take([opened(plane, b"/%d.m4s" % n) for n in range(5)])
        assert filler.running == 5
        await filler.close()
        await done(filler)


@looped
async def test_too_many_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill_module, "_FILLS_MAX", 2)
    async with filling(b"") as (filler, plane, _):
        filler.take([opened(plane, b"/%d.m4s" % n) for n in range(5)])
        assert filler.running == 2
        assert filler.counts["failed.crowded"] == 3


@looped
async def test_a_next_part_is_held_until_it_is_pushed() -> None:
    async with filling(ok(b"pulled")) as (filler, plane, origin):
        track = b"/live/cam/t0/360p/"
        filler.pushed(track + b"7.0.m4s")
        filler.take([opened(plane, track + b"7.1.m4s")])
        await eventually(lambda: filler.counts["held"])
        result = plane.put(track + b"7.1.m4s", b"pushed", b"", etag=b"x", ttl_ms=1000)
        assert result == PUT_CREATED
        filler.pushed(track + b"7.1.m4s")
        await done(filler)
        assert filler.counts["held_pushed"] == 1
        assert origin.heads == []


@looped
async def test_a_segment_is_held_as_long_as_its_track_is_pushed() -> None:
    """The encoder is more than two segments behind the clock that the viewer goes by."""
    async with filling(ok(b"pulled"), config=PATIENT) as (filler, plane, origin):
        track = b"/live/cam/t0/360p/"
        filler.pushed(track + b"7.0.m4s")
        filler.take([opened(plane, track + b"9.m4s")])
        for msn in (7, 8):
            for part in range(1, 8):
                filler.pushed(track + b"%d.%d.m4s" % (msn, part))
                await asyncio.sleep(0.1)
        assert plane.put(track + b"9.m4s", b"pushed", b"", etag=b"x", ttl_ms=1000) == PUT_CREATED
        filler.pushed(track + b"9.m4s")
        await done(filler)
        assert (filler.counts["held"], filler.counts["held_pushed"]) == (1, 1)
        assert origin.heads == []


@looped
async def test_the_next_init_section_is_held_until_it_is_pushed() -> None:
    """Hinted at between two encoders; no other one is anybody's next."""
    async with filling(ok(b"pulled"), config=PATIENT) as (filler, plane, origin):
        track = b"/live/cam/t0/360p/"
        for name in (b"init0.mp4", b"7.0.m4s"):
            filler.pushed(track + name)
        filler.take([opened(plane, track + b"init2.mp4")])
        await done(filler)
        assert (filler.counts["held"], len(origin.heads)) == (0, 1)
        filler.take([opened(plane, track + b"init1.mp4")])
        await eventually(lambda: filler.counts["held"])
        body = plane.put(track + b"init1.mp4", b"pushed", b"", etag=b"x", ttl_ms=1000)
        assert body == PUT_CREATED
        filler.pushed(track + b"init1.mp4")
        await done(filler)
        assert (filler.counts["held_pushed"], len(origin.heads)) == (1, 1)


@looped
async def test_a_segment_that_is_passed_over_is_pulled_at_once() -> None:
    async with filling(ok(b"pulled"), config=PATIENT) as (filler, plane, origin):
        track = b"/live/cam/t0/360p/"
        filler.pushed(track + b"7.0.m4s")
        filler.take([opened(plane, track + b"8.m4s")])
        await eventually(lambda: filler.counts["held"])
        filler.pushed(track + b"9.0.m4s")
        await done(filler)
        assert filler.counts["completed"] == 1
        assert len(origin.heads) == 1


@looped
async def test_a_held_part_that_never_comes_is_pulled() -> None:
    async with filling(ok(b"pulled")) as (filler, plane, origin):
        filler.pushed(b"/live/cam/t0/360p/7.0.m4s")
        filler.take([opened(plane, b"/live/cam/t0/360p/7.1.m4s")])
        await done(filler)
        assert filler.counts["completed"] == 1
        assert len(origin.heads) == 1


@looped
async def test_a_cut_without_a_validator_is_not_resumed() -> None:
    async with filling(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n") as (filler, plane, origin):
        origin.answers = [ok(b"half", length=1000)]
        filler.take([opened(plane, b"/a.m4s")])
        await eventually(lambda: (plane.lookup(b"/a.m4s") or {}).get("size") == 4)
        await filler._route_of(b"/a.m4s").upstreams.close()
        await done(filler)
        assert filler.counts["failed.cut"] == 1
        assert len(origin.heads) == 1


@looped
async def test_what_is_pushed_no_more_is_not_waited_for() -> None:
    async with filling(ok(b"pulled")) as (filler, plane, _):
        for epoch in (b"t0", b"t1"):
            filler.pushed(b"/live/cam/" + epoch + b"/360p/7.0.m4s")
        assert len(filler._newest) == 1  # the old timeline is forgotten
        filler.forget("cam")
        filler.take([opened(plane, b"/live/cam/t1/360p/7.1.m4s")])
        await done(filler)
        assert filler.counts["held"] == 0


@looped
async def test_a_body_that_stalls_is_continued_where_it_stopped() -> None:
    rest = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 4-8/9\r\n"
    answers = [ok(b"half", ETAG, length=9), rest + ETAG + b"\r\n+rest"]
    async with filling(*answers, min_rate=1000) as (filler, plane, origin):
        filler.take([opened(plane, b"/a.m4s")])
        await done(filler)
        assert (plane.lookup(b"/a.m4s") or {})["size"] == 9
        assert b'Range: bytes=4-\r\nIf-Match: "v1"' in origin.heads[1]
        assert (filler.counts["resumed"], filler.counts["completed"]) == (1, 1)
