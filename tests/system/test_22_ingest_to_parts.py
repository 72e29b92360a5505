"""The whole way up: ffmpeg over RTMP to a POP's router, to a real origin, to published parts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager

import pytest
import uvloop

from edgecache.control.admission import Admission
from edgecache.control.ingest import IngestRouter
from edgecache.signing import Fields, sign
from origin import ffmpeg, testpattern
from origin.config import Config
from origin.model import PartObject, PlaylistVersion, Publication
from origin.server import Origin
from tests.serving_origin import child

SECRET = "0123456789abcdef0123456789abcdef"
RUNG = {"width": 160, "height": 90, "bitrate": "100kbps", "preset": "ultrafast"}
PATTERN = testpattern.Pattern(width=320, height=180, bitrate=400_000)


def on_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run an async test on uvloop, bounded in time."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(**fixtures), 40))

    return run


def _sign(method: str, target: str, fields: Fields = ()) -> str:
    return sign(method, target, fields, kid="k1", secret=SECRET.encode())


class Site:
    """An origin and a POP's router in front of it."""

    def __init__(self, origin: Origin, router: IngestRouter, url: str) -> None:
        self.origin = origin
        self.router = router
        self.url = url
        self.items: list[tuple[float, Publication]] = []
        self.changed = asyncio.Event()

    def saw(self, publication: Publication) -> None:
        self.items.append((time.time(), publication))
        self.changed.set()

    def parts(self, track: str) -> list[PartObject]:
        return [i for _, i in self.items if isinstance(i, PartObject) and i.track == track]

    def playlist(self, track: str) -> PlaylistVersion:
        path = f"/live/cam/{track}.m3u8"
        listed = [i for _, i in self.items if isinstance(i, PlaylistVersion) and i.path == path]
        return listed[-1]

    async def until(self, met: Callable[[], object]) -> None:
        async with asyncio.timeout(15):
            while not met():
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def site(*, slate: str = "nothing", **live: object) -> AsyncIterator[Site]:
    settings = {
        "live": live,
        "slate": {"show": slate, "after": "100ms"},
        "http": {"listen": "127.0.0.1:0", "drain": "200ms"},
        "admin": {"listen": ""},
        "keys": {"k1": {"secret": SECRET}},
        "ladder": {"90p": RUNG},
    }
    origin = Origin(Config.model_validate(settings))
    key = origin._catalog.create_key("cam")
    await origin.start()
    admission = Admission(data_centres=[f"http://127.0.0.1:{origin.port}"], sign=_sign)
    router = IngestRouter(admission=admission, sign=_sign)
    listener = socket.create_server(("127.0.0.1", 0))
    await router.start(listener)
    at = Site(origin, router, f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live/{key}")
    publish = origin._ingest._publish

    def both(stream: str, publication: Publication) -> None:
        publish(stream, publication)
        at.saw(publication)

    origin._ingest._publish = both
    try:
        yield at
    finally:
        await router.stop()
        await origin.stop()


def publisher(url: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return child(*testpattern.argv(ffmpeg.find(), url, PATTERN), stderr=asyncio.subprocess.PIPE)


@on_loop
async def test_from_rtmp_to_parts_and_back_again(
    record_property: Callable[[str, object], None],
) -> None:
    async with site() as at:
        async with publisher(at.url):
            await at.until(lambda: len(at.parts("90p")) > 6 and len(at.parts("audio")) > 6)
            async with publisher(at.url) as second:
                _, errors = await second.communicate()
                assert b"being published already" in errors
            live = at.origin._ingest.stream("cam")
            assert live is not None
            assert live.presentation is not None
            lag_s = live.presentation.lag_ns / 1e9
            record_property("part_behind_arrival_s", round(lag_s, 3))
            assert lag_s < 2.0
            before = at.parts("90p")[-1].msn
        async with publisher(at.url):
            await at.until(lambda: at.parts("90p")[-1].msn > before + 1)
        told = live.describe()
        assert told["generation"] == 1
        assert {part.path.split("/")[3] for part in at.parts("90p")} == {live.epoch}
        await live.end()
    final = at.playlist("90p")
    assert final.ended
    assert final.full.count(b"#EXT-X-DISCONTINUITY\n") == 1
    assert at.router.counts["rejected.busy"] == 1


@on_loop
async def test_a_second_publisher_may_take_over_and_the_first_is_told() -> None:
    async with site(takeover=True) as at, publisher(at.url) as first:
        await at.until(lambda: len(at.parts("90p")) > 6)
        before = at.parts("90p")[-1].msn
        async with publisher(at.url) as second:
            _, errors = await first.communicate()
            assert b"another publisher took this stream over" in errors
            await at.until(lambda: at.parts("90p")[-1].msn > before + 1)
            assert second.returncode is None
        live = at.origin._ingest.stream("cam")
        assert live is not None
        await live.end()
        msns = sorted({part.msn for part in at.parts("90p")})
        assert msns == list(range(msns[0], msns[-1] + 1))
        assert {part.path.split("/")[3] for part in at.parts("90p")} == {live.epoch}
        assert at.router.counts["rejected.replaced"] == 1


@on_loop
async def test_a_slate_is_shown_until_the_publisher_is_back_or_given_up() -> None:
    async with site(slate="clock", reconnect="1m") as at:
        async with publisher(at.url):
            await at.until(lambda: len(at.parts("90p")) > 6)
        live = at.origin._ingest.stream("cam")
        assert live is not None
        await at.until(lambda: live.describe()["publisher"] == "slate" and generation(at) == 1)
        shown = len(at.parts("90p"))
        await at.until(lambda: len(at.parts("90p")) > shown + 4)
        async with publisher(at.url) as back:
            await at.until(lambda: generation(at) == 2)
            assert live.describe()["publisher"] == "127.0.0.1"
            assert back.returncode is None
            at.origin._ingest._showing._reconnect_s = 6.0  # a busy machine's time to begin it
        await at.until(lambda: generation(at) == 3)
        await at.until(lambda: live.state == "ended" and at.playlist("90p").ended)
        assert at.playlist("90p").full.count(b"#EXT-X-DISCONTINUITY\n") == 3
        msns = sorted({part.msn for part in at.parts("90p")})
        assert msns == list(range(msns[0], msns[-1] + 1))


def generation(at: Site) -> int:
    """Of the newest init section in the playlist."""
    mapped = at.playlist("90p").full.rpartition(b"-MAP:URI=")[2]
    return int(mapped.partition(b"/init")[2].partition(b".")[0])


@on_loop
async def test_a_lost_connection_to_the_data_centre_is_not_seen() -> None:
    """Neither a tag is lost nor one comes twice, and the encoder never knows."""
    async with site() as at:
        async with publisher(at.url) as process:
            await at.until(lambda: len(at.parts("90p")) > 2)
            live = at.origin._ingest.stream("cam")
            assert live is not None
            for times, parts in ((1, 6), (2, 7)):
                cut(at)
                goes_on = functools.partial(shows, at, len(at.parts("90p")) + parts, times)
                await at.until(goes_on)
            counts = at.router.counts
            assert counts["reconnects"] == 2
            await at.until(lambda: counts["held.acknowledged"])
            assert live.describe()["jumps"] == 0
            assert process.returncode is None
            broker = live.broker
            assert broker is not None
        await at.until(lambda: live.state == "reconnecting")
        assert broker.tags == counts["tags"]
        assert (generation(at), at.playlist("90p").full.count(b"#EXT-X-DISC")) == (0, 1)
    assert sum(whole(counts)) == counts["tags"]


def shows(at: Site, parts: int, reconnects: int) -> bool:
    """What was on its way through the encoder comes before the connection is back."""
    return len(at.parts("90p")) >= parts and at.router.counts["reconnects"] >= reconnects


def cut(at: Site) -> None:
    (session,) = at.router._publishers
    assert session._relay is not None
    assert session._relay._put is not None
    session._relay._put.abort()


def whole(counts: Counter[str]) -> list[int]:
    """What became of a publisher's tags, when it has gone; none was dropped."""
    assert counts["held.dropped"] == 0
    return [counts[f"held.{what}"] for what in ("acknowledged", "passed", "configuration")]


@pytest.mark.parametrize("key", ["cam.wrong", "nothing"])
def test_wrong_key(key: str) -> None:
    @on_loop
    async def run() -> None:
        async with site() as at, publisher(at.url.rpartition("/")[0] + "/" + key) as process:
            _, errors = await process.communicate()
            assert b"bad stream key" in errors
            assert at.items == []

    run()
