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
from edgecache.control.dial import Ways
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


def nobody(_key: bytes) -> bool:
    """Nobody asked since the last look."""
    return False


V, W, AUDIO = (f"/live/a/{track}.m3u8".encode() for track in ("360p", "180p", "audio"))


def test_who_waits_on_pushed_playlists_is_counted_once() -> None:
    watch = Watch(config())
    for key in (V, W, AUDIO, V):
        watch.playlist("a", key, 0.0)
    at = {V: 3, W: 2, AUDIO: 4}
    assert watch.look(at.__getitem__, nobody, 0.0) == 3
    assert watch.viewers() == {"a": 5}
    assert watch.audiences["a"].parked == 5
    at |= {V: 0, W: 0, AUDIO: 7}  # listeners only
    watch.look(at.__getitem__, nobody, 0.1)
    assert watch.viewers() == {"a": 7}
    text = b"/live/a/text-en.m3u8"
    watch.playlist("a", text, 0.2)
    at |= {text: 9}  # who reads along has a picture, or sound, too
    watch.look(at.__getitem__, nobody, 0.2)
    assert watch.audiences["a"].parked == 7


def test_every_language_is_sound() -> None:
    watch = Watch(config())
    german = b"/live/a/audio-de.m3u8"
    for key in (V, AUDIO, german):
        watch.playlist("a", key, 0.0)
    watch.look({V: 5, AUDIO: 3, german: 2}.__getitem__, nobody, 0.0)
    assert watch.viewers() == {"a": 5}


def test_the_most_since_the_last_telling_is_told() -> None:
    watch = Watch(config())
    watch.playlist("a", V, 0.0)
    for parked in (4, 20, 0):  # all have been woken
        watch.look({V: parked}.__getitem__, nobody, 0.0)
    assert watch.viewers() == {"a": 20}
    watch.look(lambda _: 6, nobody, 0.1)
    watch.told()
    assert watch.viewers() == {"a": 6}
    watch.look(lambda _: 0, nobody, 0.2)
    watch.told()
    assert watch.viewers() == {"a": 0}


def test_viewers_of_a_hot_stream_are_interest() -> None:
    watch = Watch(config("idle=10s"))
    watch.playlist("a", V, 0.0)
    watch.look(lambda _: 0, nobody, 0.0)
    assert watch.wanted(0.0) == []
    watch.look(lambda _: 1, nobody, 1.0)
    assert watch.wanted(1.0) == ["a"]
    watch.playlist("a", V, 8.0)
    assert watch.wanted(11.5) == []
    assert watch.viewers() == {"a": 1}
    watch.wanted(18.5)  # not pushed any more
    assert watch.viewers() == {}


def test_players_that_poll_keep_a_stream_wanted() -> None:
    """They wait on nothing: the lease of a stream with only such viewers ran out again and again,
    and each time its window was pushed anew."""
    watch = Watch(config("idle=10s"))
    watch.note("a", 0.0)
    for second in range(1, 40):
        watch.playlist("a", V, second)
        watch.playlist("a", AUDIO, second)
        watch.look(lambda _: 0, (lambda key: key == V) if second % 4 == 0 else nobody, second)
        assert watch.wanted(second) == ["a"]
    assert watch.viewers() == {"a": 0}
    watch.look(lambda _: 0, nobody, 49.5)
    assert watch.wanted(49.5) == []


def test_each_track_is_watched_by_itself() -> None:
    """A new one is told at once; one that nobody asked for within the idle time is told no more."""
    watch = Watch(config("idle=10s"))
    assert watch.note("a", 0.0)  # the multivariant playlist: nothing is known yet
    assert watch.tracks(0.0) == {}
    watch.granted({"a": "live"})
    for key in (V, W, AUDIO):
        watch.playlist("a", key, 0.0)
    waiting = {V: 1, W: 0, AUDIO: 1}
    watch.look(waiting.__getitem__, nobody, 1.0)
    assert watch.fresh
    watch.fresh = False
    assert watch.tracks(1.0) == {"a": ["360p", "audio"]}
    watch.look({V: 0, W: 0, AUDIO: 1}.__getitem__, lambda key: key == W, 9.0)
    assert watch.fresh
    assert watch.tracks(9.0) == {"a": ["180p", "360p", "audio"]}
    assert watch.tracks(12.0) == {"a": ["180p", "audio"]}
    assert watch.note("a", 12.0, "360p")  # it has to be asked for again


def test_a_track_is_watched_by_its_segments_too() -> None:
    """A DASH player reads no media playlist, and what it asks for is a hit."""
    watch = Watch(config("idle=10s"))
    watch.segment("a", b"/live/a/e/360p/1.m4s")  # of a stream without a playlist: passed over
    watch.playlist("a", V, 0.0)
    keys = [b"/live/a/e/360p/%d.m4s" % number for number in range(6)]
    for key in (*keys, keys[-1]):
        watch.segment("a", key)
    looked: list[bytes] = []

    def asked(key: bytes) -> bool:
        looked.append(key)
        return key == keys[4]

    watch.look(lambda _: 0, asked, 1.0)
    assert watch.tracks(1.0) == {"a": ["360p"]}
    assert [key for key in looked if b"m4s" in key] == keys[2:]


def test_who_takes_whole_segments_is_counted_by_the_newest() -> None:
    """Players that poll, and those of DASH: one request a segment and track each. Who waits on
    playlists takes parts, and is somebody else."""
    watch = Watch(config())
    watch.playlist("a", V, 0.0)
    counts = {b"360p": (30, 29, 5), b"180p": (10, 10, 0), b"audio": (36, 35, 6)}  # oldest first
    taken: dict[bytes, int] = {}
    for track, numbers in counts.items():
        for msn, number in enumerate(numbers):
            key = b"/live/a/e/%b/%d.m4s" % (track, msn)
            watch.segment("a", key)
            taken[key] = number
    watch.look(lambda _: 3, nobody, 0.0, taken.__getitem__)
    assert watch.viewers() == {"a": 3 + 30 + 10}
    for key in taken:
        watch.segment("a", key.replace(b"/e/", b"/f/"))  # nobody came along
        watch.segment("a", key.replace(b"/e/", b"/g/"))
    watch.look(lambda _: 0, nobody, 0.1, lambda _: 0)
    watch.told()
    assert watch.viewers() == {"a": 0}


def test_what_is_counted_is_bounded() -> None:
    watch = Watch(config("streams=1"))
    watch.playlist("a", V, 0.0)
    watch.playlist("b", b"/live/b/360p.m3u8", 0.0)
    for number in range(100):
        watch.playlist("a", b"/live/a/t%d.m3u8" % number, 0.0)
    assert watch.viewers() == {"a": 0}
    assert watch.look(lambda _: 0, nobody, 0.0) == 64


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
        plane, config("lease=1s"), pop="pop-1", push_url=push_url, ways=Ways(),
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
            "viewers": {"cam": 0}, "tracks": {"cam": ["360p"]},
        }  # fmt: skip
        assert interest.watch.streams["cam"].state == "live"
        assert interest.counts["granted"] >= 2


@looped
async def test_viewers_of_what_is_pushed_are_told_without_a_lease() -> None:
    async with asking(granted) as (interest, seen):
        interest.stored(b"/live/hot/360p.m3u8")
        interest.stored(b"/live/hot/e/360p/7.m4s")
        await eventually(lambda: seen.asked, 5)
        assert (seen.asked[0]["streams"], seen.asked[0]["viewers"]) == ([], {"hot": 0})
        assert interest.describe() == {
            "hot": {
                "state": "pushed", "viewers_parked": 0, "viewers_taking": 0, "idle_s": None,
                "playlists": {"/live/hot/360p.m3u8": None},
            }
        }  # fmt: skip


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
