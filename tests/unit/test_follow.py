"""Following on the real store: when it begins, what it asks for, and why it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from edgecache._core import Plane, holdings
from edgecache.config import load_config
from edgecache.control.fill import Filler
from edgecache.control.follow import Follower
from edgecache.control.routes import Routes
from tests.looped import eventually, looped
from tests.unit.test_fill import ok, opened

KEY = b"/l/v.m3u8"


def text(first: int, *lines: str, target_s: int = 1) -> bytes:
    head = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{target_s}", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    named = [line for n in range(first, first + 3) for line in ("#EXTINF:1,", f"{n}.m4s")]
    return "\n".join([*head, *named, *lines, ""]).encode()


MISSING = ok(b"").replace(b"200 OK", b"404 Not Found")


@dataclass
class Site:
    """One origin that answers by target; what is not in `answers` is 404, None is silence."""

    answers: dict[bytes, bytes | None] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1]
                self.asked.append(target)
                answer = self.answers.get(target, MISSING)
                if answer is None:
                    await reader.read()
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def count(self, target: bytes) -> int:
        return self.asked.count(target)


@dataclass
class Pop:
    site: Site
    plane: Plane
    filler: Filler
    follower: Follower

    async def ask(self, key: bytes = KEY) -> None:
        """What a viewer's miss does."""
        self.filler.take([opened(self.plane, key)])
        await eventually(lambda: not self.filler.running)

    async def ends(self, why: str) -> None:
        await eventually(lambda: self.follower.counts[f"ended.{why}"] == 1)
        assert len(self.follower) == 0


@asynccontextmanager
async def pop(*overrides: str, **answers: bytes | None) -> AsyncIterator[Pop]:
    site = Site({f"/l/{name}".encode(): answer for name, answer in answers.items()})
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = load_config(None, [f"origin.urls={url}", "origin.first_byte=200ms", *overrides]).value
    routes = Routes(config)
    plane = Plane(name=b"edge", budget_bytes=16 << 20, keep=routes.keep())
    filler = Filler(routes.of, config)
    follower = Follower(plane, routes, filler, config)
    filler.on_text = follower.passed
    try:
        yield Pop(site, plane, filler, follower)
    finally:
        await follower.close()
        await filler.close()
        await routes.close()
        server.close()
        await asyncio.sleep(0.01)
        plane.stop()


def state(plane: Plane, key: bytes) -> object:
    return (plane.lookup(key) or {}).get("state")


@looped
async def test_a_live_playlist_is_renewed_and_what_it_names_is_fetched() -> None:
    async with pop() as it:
        it.site.answers[KEY] = ok(text(1))
        it.site.answers |= {b"/l/%d.m4s" % n: ok(b"media") for n in range(1, 5)}
        await it.ask()
        assert state(it.plane, KEY) == b"live"
        await eventually(lambda: state(it.plane, b"/l/3.m4s") == b"complete")
        it.site.answers[KEY] = ok(text(2))
        await eventually(lambda: it.plane.version(KEY) == (5, 0, 0))
        assert state(it.plane, b"/l/4.m4s") == b"complete"
        assert it.site.count(b"/l/4.m4s") == 1


@looped
async def test_another_process_goes_on_following_from_its_version() -> None:
    """What was followed there is asked for here only when it is renewed."""
    async with pop() as it, pop() as heir:
        it.site.answers[KEY] = ok(text(1), b"Cache-Control: max-age=1\r\n")
        await it.ask()
        (carried,) = [h for h in holdings(it.plane) if h.state == b"live"]
        version = carried.version()
        heir.site.answers[KEY] = ok(text(1))
        heir.follower.resume(KEY, version)
        assert heir.plane.version(KEY) == it.plane.version(KEY) == (4, 0, 0)
        assert heir.site.count(KEY) == 0
        heir.site.answers[KEY] = ok(text(2))
        await eventually(lambda: heir.plane.version(KEY) == (5, 0, 0))
        it.follower.leave()
        await eventually(lambda: len(it.follower) == 0)
        assert it.plane.version(KEY) == (4, 0, 0)  # not purged: it is still being answered from


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (ok(text(1, "#EXT-X-ENDLIST")), KEY),
        (ok(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n"), KEY),
        (ok(text(1), b"Cache-Control: no-store\r\n"), KEY),
        (ok(text(1)), b"/vod/v.m3u8"),
        (ok(text(1)), b"/none/v.m3u8"),
        (ok(text(1)), KEY + b"?_HLS_skip=YES"),
    ],
)
def test_nothing_else_is_followed(answer: bytes, key: bytes) -> None:
    @looped
    async def case() -> None:
        routes = 'route=[{prefix="/vod/", kind="vod"}, {prefix="/none/", prefetch=0}]'
        async with pop(routes) as it:
            it.site.answers[key] = answer
            await it.ask(key)
            assert (len(it.follower), it.follower.counts) == (0, {})
            assert it.site.asked == [key]

    case()


@looped
async def test_each_kind_of_update_is_kept_with_its_version() -> None:
    """RFC 8216bis 6.2.5.1: who asks for one without events gets that."""
    control = "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=6,CAN-SKIP-DATERANGES=YES"
    event = '#EXT-X-DATERANGE:ID="a",START-DATE="2026-01-01T00:00:00Z"'
    async with pop() as it:
        it.site.answers[KEY] = ok(text(1, control, event))
        for kind in (b"YES", b"v2"):
            update = text(1, f"#EXT-X-SKIP:SKIPPED-SEGMENTS=1 {kind.decode()}")
            it.site.answers[KEY + b"?_HLS_skip=" + kind] = ok(update)
        it.site.answers |= {b"/l/%d.m4s" % n: ok(b"media") for n in range(1, 6)}
        await it.ask()
        it.site.answers[KEY] = ok(text(2, control, event))
        await eventually(lambda: it.plane.version(KEY) == (5, 0, 0))
        assert it.site.count(KEY + b"?_HLS_skip=v2") == it.site.count(KEY + b"?_HLS_skip=YES") > 0


@looped
async def test_playlists_beyond_the_bound_are_only_filled() -> None:
    async with pop('route=[{prefix="/", followed=1}]') as it:
        for name in (KEY, b"/l/w.m3u8"):
            it.site.answers[name] = ok(text(1))
            await it.ask(name)
        assert (state(it.plane, KEY), state(it.plane, b"/l/w.m3u8")) == (b"live", b"complete")


@looped
async def test_nobody_asks_and_it_ends() -> None:
    async with pop() as it:
        it.site.answers[KEY] = ok(text(1))
        await it.ask()
        await it.ends("idle")
        assert it.plane.lookup(KEY) is None


@looped
async def test_a_failing_origin_leaves_the_last_version() -> None:
    async with pop() as it:
        it.site.answers[KEY] = ok(text(1))
        await it.ask()
        it.site.answers[KEY] = ok(b"").replace(b"200 OK", b"503 Busy")
        await eventually(lambda: it.follower.counts["failures.busy"])
        assert it.plane.version(KEY) == (4, 0, 0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (MISSING, "gone"),
        (ok(b"<html>"), "unreadable"),
        (ok(text(1, "#EXT-X-ENDLIST")), "ended"),
    ],
)
def test_why_it_ends(answer: bytes, why: str) -> None:
    @looped
    async def case() -> None:
        async with pop() as it:
            it.site.answers[KEY] = ok(text(1))
            await it.ask()
            it.site.answers[KEY] = answer
            await it.ends(why)
            assert (state(it.plane, KEY) == b"live") == (why == "ended")

    case()


@looped
async def test_a_push_takes_over() -> None:
    async with pop() as it:
        it.site.answers[KEY] = ok(text(1))
        await it.ask()
        it.follower.pushed(b"/l/other.m3u8")
        it.follower.pushed(KEY)
        await it.ends("pushed")
        assert state(it.plane, KEY) == b"live"


@looped
async def test_an_earlier_version_is_a_new_start() -> None:
    async with pop() as it:
        it.site.answers[KEY] = ok(text(100))
        await it.ask()
        it.site.answers[KEY] = ok(text(1))
        await eventually(lambda: it.plane.version(KEY) == (4, 0, 0))


@looped
async def test_only_our_own_names_are_fetched() -> None:
    """Relative, absolute at our origin, with a space, and those that nobody here can answer."""
    async with pop('route=[{prefix="/l/", query=["t"], prefetch=16}]') as it:
        url = it.follower._routes.of(KEY).upstreams.origins[0].url
        uris = [f"{url}/l/own.m4s?x=1", "http://other.example/l/a.m4s", "//other.example/b.m4s"]
        uris += ["../l/up%7Eper.m4s?t=2&u=3#f", "../c.m4s?%", "a b.m4s", "a%2Fb.m4s"]
        lines = [line for uri in uris for line in ("#EXTINF:1,", uri)]
        it.site.answers[KEY] = ok(text(1, *lines))
        await it.ask()
        await eventually(lambda: len(it.site.asked) >= 8)
        named = {b"/l/own.m4s", b"/l/up~per.m4s?t=2", b"/c.m4s", b"/l/a%20b.m4s"}
        assert set(it.site.asked) == {KEY, *(b"/l/%d.m4s" % n for n in (1, 2, 3)), *named}
