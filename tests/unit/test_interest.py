"""Interest: who is watched, what is asked of the origin, and what happens when it is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiohttp import web

from edgecache._core import Plane
from edgecache.config import Interest as InterestConfig
from edgecache.config import load_config
from edgecache.control import interest as interest_module
from edgecache.control.interest import Interest, Watch
from edgecache.signing import Verifier, sign
from tests.looped import eventually, looped

SECRET = b"0123456789abcdef"


def config(*options: str) -> InterestConfig:
    return load_config(None, [f"interest.{option}" for option in options]).value.interest


def test_streams_are_forgotten_when_nobody_asks() -> None:
    watch = Watch(config("idle=10s", "streams=2"))
    assert watch.note("a", 0.0)
    assert watch.note("b", 5.0)
    assert not watch.note("c", 5.0)  # beyond the bound: only pulled
    assert watch.wanted(9.0) == ["a", "b"]
    assert watch.wanted(11.0) == ["b"]
    assert watch.note("c", 11.0)
    watch.granted({"b": "live", "x": "live"})
    assert not watch.note("b", 12.0)
    assert watch.streams["b"].state == "live"


def test_hits_on_pushed_playlists_keep_a_stream() -> None:
    watch = Watch(config("idle=10s"))
    watch.note("a", 0.0)
    watch.playlist("a", b"/live/a/360p.m3u8")
    watch.playlist("stranger", b"/live/stranger/360p.m3u8")
    entry: dict[str, int | bytes] = {"waiters": 3}
    watch.look(lambda _: entry, 9.0)
    assert watch.streams["a"].viewers == 3
    entry["waiters"], entry["uses"] = 0, 5
    watch.look(lambda _: entry, 18.0)
    assert watch.wanted(27.0) == ["a"]
    watch.look(lambda _: entry, 27.0)  # nothing new: not seen again
    assert watch.wanted(29.0) == []
    watch.look(lambda _: None, 30.0)


@asynccontextmanager
async def asking(
    answer: Callable[[dict[str, object]], web.Response], *, push_url: str = "http://pop:1"
) -> AsyncIterator[tuple[Interest, SimpleNamespace]]:
    """An Interest and what it asks of one origin; `seen.up` is the origin's server."""
    seen = SimpleNamespace(asked=[], verifier=Verifier({"k": SECRET}))

    async def subscribe(request: web.Request) -> web.Response:
        seen.verifier.verify("POST", request.path_qs, list(request.headers.items()))
        seen.asked.append(await request.json())
        return answer(seen.asked[-1])

    app = web.Application()
    app.router.add_post("/api/subscriptions", subscribe)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    plane = Plane(name=b"edge", budget_bytes=16 << 20)
    interest = Interest(
        plane, config("lease=1s"), pop="pop-1", push_url=push_url,
        sign=lambda method, target, fields: sign(method, target, fields, kid="k", secret=SECRET),
    )  # fmt: skip
    interest.origins = [f"http://127.0.0.1:{runner.addresses[0][1]}"]

    task = asyncio.create_task(interest.run())
    try:
        yield interest, seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()
        plane.stop()


def granted(asked: dict[str, object]) -> web.Response:
    streams = asked["streams"]
    assert isinstance(streams, list)
    return web.json_response({"lease_ms": 1000, "streams": dict.fromkeys(streams, "live")})


@looped
async def test_a_miss_subscribes_and_the_lease_is_renewed() -> None:
    async with asking(granted) as (interest, seen):
        interest.missed(b"/watch/cam")
        interest.missed(b"/live/cam/master.m3u8")
        interest.missed(b"/live/cam/360p.m3u8")
        await eventually(lambda: len(seen.asked) >= 3, 5)
        assert seen.asked[0] == {
            "pop": "pop-1", "push": "http://pop:1", "streams": ["cam"], "lease_ms": 1000,
            "viewers": {"cam": 0},
        }  # fmt: skip
        assert interest.watch.streams["cam"].state == "live"
        assert interest.counts["granted"] >= 2


@looped
async def test_nothing_is_asked_when_nobody_watches() -> None:
    async with asking(granted) as (interest, seen):
        await eventually(lambda: not interest.watch.streams)
        assert seen.asked == []


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [(503, "{}", "status_503"), (200, "no json", "protocol"), (200, '{"lease_ms": 0}', "protocol")],
)
def test_a_wrong_answer_is_counted_and_asked_again(
    status: int, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interest_module, "_RETRY_S", 0.02)

    @looped
    async def case() -> None:
        async with asking(lambda _: web.Response(status=status, text=text)) as (interest, seen):
            interest.missed(b"/live/cam/master.m3u8")
            await eventually(lambda: len(seen.asked) >= 2)
            assert interest.counts[f"failures.{reason}"] >= 1

    case()


@looped
async def test_what_one_origin_does_not_know_the_next_is_asked() -> None:
    def unknown(asked: dict[str, object]) -> web.Response:
        return web.json_response({"lease_ms": 1000, "streams": {"a": "live", "b": "unknown"}})

    async with asking(unknown) as (first, _), asking(granted) as (second, other):
        first.origins = [*first.origins, "http://127.0.0.1:1", *second.origins]
        first.missed(b"/live/a/x")
        first.missed(b"/live/b/x")
        await eventually(lambda: other.asked)
        assert json.dumps(other.asked[0]["streams"]) == '["b"]'
        assert first.watch.streams["b"].state == "live"
        assert first.counts["failures.refused"] >= 1
