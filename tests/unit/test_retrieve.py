"""Texts from origins: whole, decoded, bounded; tried elsewhere, but not when they are held."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import xxhash

from edgecache.control import retrieve as retrieve_module
from edgecache.control.response import Head
from edgecache.control.retrieve import Text, plain, retrieve
from edgecache.control.routes import Route
from edgecache.control.upstream import Patience, Upstreams
from edgecache.errors import UpstreamError
from tests.looped import looped
from tests.routed import route
from tests.unit.test_fill import CONFIG, Origin, ok

SETTINGS = CONFIG.origin
PACKED = gzip.compress(b"hello")


@asynccontextmanager
async def routed(*origins: Origin) -> AsyncIterator[Route]:
    servers = [await asyncio.start_server(origin.serve, "127.0.0.1", 0) for origin in origins]
    urls = [f"http://127.0.0.1:{s.sockets[0].getsockname()[1]}" for s in servers]
    upstreams = Upstreams(urls, Patience(min_rate=0))
    try:
        yield route(upstreams)
    finally:
        await upstreams.close()
        for server in servers:
            server.close()
        await asyncio.sleep(0.01)


def never(_key: bytes, _head: Head) -> bool:
    """Nothing that an origin says is of the past."""
    return False


async def failure(found: Route, *, held: bool = False) -> str:
    with pytest.raises(UpstreamError) as caught:
        await retrieve(found, b"/a.m3u8", SETTINGS, held=held, outdated=never)
    return caught.value.reason


@looped
async def test_a_text_is_whole_and_plain() -> None:
    answers = [ok(b"hello", b"Age: 7\r\n"), ok(PACKED, b"Content-Encoding: gzip\r\n")]
    async with routed(Origin(answers)) as found:
        first = await retrieve(found, b"/a.m3u8", SETTINGS, held=False, outdated=never)
        second = await retrieve(found, b"/a.m3u8", SETTINGS, held=False, outdated=never)
        assert (first.body, first.age_s, first.refused) == (b"hello", 7, 0)
        assert (second.body, second.age_s) == (b"hello", 0)


@looped
async def test_another_origin_is_tried_and_a_refusal_is_an_answer() -> None:
    busy, missing = (
        Origin([ok(b"").replace(b"200", b"503")]),
        Origin([ok(b"").replace(b"200", b"404")]),
    )
    async with routed(busy, missing) as found:
        assert (
            await retrieve(found, b"/a.m3u8", SETTINGS, held=False, outdated=never)
        ).refused == 404
        assert (len(busy.heads), len(missing.heads)) == (1, 1)


@looped
async def test_what_is_of_the_past_is_passed_over() -> None:
    def outdated(key: bytes, head: Head) -> bool:
        assert key == b"/a.m3u8"
        return head.get("edge-epoch") == "t1"

    for late in (
        ok(b"late", b"Edge-Epoch: t1\r\n"),
        ok(b"", b"Edge-Epoch: t1\r\n").replace(b"200", b"400"),
    ):
        news = ok(b"news", b"Edge-Epoch: t2\r\n")
        async with routed(Origin([late]), Origin([news])) as found:
            text = await retrieve(found, b"/a.m3u8", SETTINGS, held=False, outdated=outdated)
            assert text.body == b"news"
        async with routed(Origin([late])) as found:
            with pytest.raises(UpstreamError, match="goes on elsewhere"):
                await retrieve(found, b"/a.m3u8", SETTINGS, held=False, outdated=outdated)


@looped
async def test_silence_of_who_holds_is_not_a_reason_to_ask_another() -> None:
    settings = SETTINGS.model_copy(update={"blocking": 100})
    silent, other = Origin([b""]), Origin([ok(b"other")])
    async with routed(silent, other) as found:
        with pytest.raises(UpstreamError, match="no answer"):
            await retrieve(found, b"/a.m3u8?_HLS_msn=1", settings, held=True, outdated=never)
        assert other.heads == []


@looped
async def test_what_is_wrong_is_never_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieve_module, "TEXT_BYTES", 100)
    digest = xxhash.xxh3_128_hexdigest(b"other").encode()
    for answer, reason in (
        (ok(b"x" * 101), "too_large"),
        (ok(b"x", b"Content-Encoding: br\r\n"), "coding"),
        (ok(b"x", b"Edge-Digest: " + digest + b"\r\n"), "digest"),
    ):
        async with routed(Origin([answer])) as found:
            assert await failure(found) == reason
    async with routed() as found:
        assert await failure(found) == "unavailable"


@pytest.mark.parametrize("body", [b"x", PACKED[:-1], b"", gzip.compress(b"x" * (1 << 21))])
def test_a_coding_that_cannot_be_undone(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="cannot be read"):
        plain(Head(200, (("content-encoding", "gzip"),), -1), body)


@pytest.mark.parametrize(("value", "age_s"), [("3", 3), ("-3", 0), ("x", 0), ("9" * 30, 1 << 31)])
def test_ages(value: str, age_s: int) -> None:
    assert Text(Head(200, (("age", value),), -1)).age_s == age_s
