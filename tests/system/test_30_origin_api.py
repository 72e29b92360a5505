"""Pull from the origin over HTTP, as any cache or browser would."""

from __future__ import annotations

import asyncio
import gzip

import pytest
import xxhash

from tests.hand_made import HandMade
from tests.looped import eventually, looped
from tests.serving_origin import (
    publish,
    serving,
)

pytestmark = pytest.mark.timeout(60)


def whole(made: HandMade, msn: int = 10, track: str = "v") -> bytes:
    """The bytes of a segment of `made`."""
    again = HandMade(made.stream, first_msn=msn, size=made.size)
    return b"".join(again.part(track).body for _ in range(made.parts))


@looped
async def test_an_object_and_its_validators() -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        path, body = "/live/cam/abc/v/10.m4s", whole(made)
        async with http.get(path) as answer:
            assert (answer.status, await answer.read()) == (200, body)
            etag = answer.headers["ETag"]
            assert etag == f'"{xxhash.xxh3_128_hexdigest(body)}"'
            assert answer.headers["Cache-Control"].endswith("immutable")
            assert answer.headers["Content-Type"] == "video/mp4"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Age" in answer.headers["Access-Control-Expose-Headers"]
        async with http.head(path) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(body)))
            assert await answer.read() == b""
        for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            async with http.get(path, headers={"If-None-Match": known}) as answer:
                assert answer.status == 304
        async with http.get(path, headers={"If-Match": '"other"'}) as answer:
            assert answer.status == 412
        async with http.options(path) as answer:
            assert answer.status == 204
            assert "Range" in answer.headers["Access-Control-Allow-Headers"]
        async with http.get("/live/cam/abc/v/10.1.m4s") as answer:
            assert await answer.read() == body[64:128]


@pytest.mark.parametrize(
    ("value", "status", "span"),
    [
        ("bytes=0-9", 206, (0, 10)),
        ("bytes=60-70", 206, (60, 71)),
        ("bytes=190-", 206, (190, 192)),
        ("bytes=-5", 206, (187, 192)),
        ("bytes=-500", 206, (0, 192)),
        ("bytes=0-99999999999999", 206, (0, 192)),
        ("bytes=192-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-2", 200, (0, 192)),
        ("bytes=0-1,3-4", 200, (0, 192)),
        ("bytes=a-b", 200, (0, 192)),
        ("lines=0-1", 200, (0, 192)),
        ("bytes=99999999999999999999-", 200, (0, 192)),
    ],
)
@looped
async def test_ranges(value: str, status: int, span: tuple[int, int] | None) -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        async with http.get("/live/cam/abc/v/10.m4s", headers={"Range": value}) as answer:
            assert answer.status == status
            if span is None:
                assert answer.headers["Content-Range"] == "bytes */192"
                return
            assert await answer.read() == whole(made)[slice(*span)]
            if status == 206:
                told = f"bytes {span[0]}-{span[1] - 1}/192"
                assert answer.headers["Content-Range"] == told


@looped
async def test_a_range_of_an_object_that_changed_is_the_whole() -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        headers = {"Range": "bytes=0-9", "If-Range": '"other"'}
        async with http.get("/live/cam/abc/v/10.m4s", headers=headers) as answer:
            assert (answer.status, len(await answer.read())) == (200, 192)


@looped
async def test_a_growing_segment_comes_part_by_part() -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        publish(origin, made.step("v"))
        async with http.get("/live/cam/abc/v/11.m4s") as answer:
            assert answer.status == 200
            assert "Content-Length" not in answer.headers
            assert answer.headers["Cache-Control"] == "no-store"
            chunks = answer.content.iter_chunks()
            assert len((await anext(chunks))[0]) == 64
            publish(origin, made.step("v"))
            assert len((await anext(chunks))[0]) == 64
            publish(origin, made.step("v"))
            assert len((await anext(chunks))[0]) == 64
            assert await answer.content.read() == b""
        async with http.get("/live/cam/abc/v/11.m4s") as answer:
            assert await answer.read() == whole(made, 11)


@looped
async def test_a_playlist_blocks_until_its_version() -> None:
    made = HandMade(hold_ms=200)
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        path = "/live/cam/v.m3u8"
        waiting = asyncio.create_task(http.get(f"{path}?_HLS_msn=11&_HLS_part=1"))
        hinted = asyncio.create_task(http.get("/live/cam/abc/v/11.0.m4s"))
        await eventually(lambda: origin.store.gauges()["waiters"] == 2)
        publish(origin, made.step("v"))
        assert (await (await hinted).read()) == whole(made, 11)[:64]
        assert not waiting.done()
        publish(origin, made.step("v"))
        answer = await waiting
        assert gzip.decompress(await answer.read()) == made.version("v").full
        assert answer.headers["Content-Type"] == "application/vnd.apple.mpegurl"
        async with http.get(path, params={"_HLS_msn": "12", "_HLS_part": "0"}) as late:
            assert late.status == 503
            assert late.headers["Cache-Control"] == "no-store"


@looped
async def test_a_playlist_says_of_which_timeline_it_is() -> None:
    """A refusal, too: that there is no such version may be of the past."""
    made = HandMade(epoch="abc")
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        for query, status in (("", 200), ("?_HLS_msn=99", 400)):
            async with http.get(f"/live/cam/v.m3u8{query}") as answer:
                assert (answer.status, answer.headers["Edge-Epoch"]) == (status, "abc")
        publish(origin, HandMade(epoch="abd").opening("v"))
        async with http.get("/live/cam/v.m3u8") as answer:
            assert answer.headers["Edge-Epoch"] == "abd"
        async with http.get("/live/other/v.m3u8") as answer:
            assert (answer.status, "Edge-Epoch" in answer.headers) == (404, False)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?_HLS_msn=10", 200),
        ("?_HLS_msn=10&_HLS_part=7", 400),
        ("?_HLS_part=1", 400),
        ("?_HLS_msn=99", 400),
        ("?_HLS_msn=x", 400),
        ("?_HLS_msn=-1", 400),
        ("?_HLS_msn=9&_HLS_part=", 400),
        ("?_HLS_skip=NO", 200),
        ("?utm_source=x", 200),
    ],
)
@looped
async def test_directives(query: str, status: int) -> None:
    made = HandMade(hold_ms=50)
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        plain = {"Accept-Encoding": "identity"}
        async with http.get(f"/live/cam/v.m3u8{query}", headers=plain) as answer:
            text = await answer.text()
            if query == "?_HLS_msn=10&_HLS_part=7":  # past the end of 10: part 0 of 11, to come
                assert answer.status == 503
                return
            assert answer.status == status, text
            if status == 400:
                assert text.count("\n") == 1
                assert "allowed" in text


@looped
async def test_variants_of_a_playlist() -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        version = made.version("v")
        seen = set()
        for skip, accepted, body in (
            ("", "identity", version.full),
            ("", "gzip, br", version.full_gzip),
            ("", "gzip;q=0", version.full),
            ("?_HLS_skip=YES", "identity", version.delta),
            ("?_HLS_skip=v2", "gzip", version.delta_gzip),
        ):
            headers = {"Accept-Encoding": accepted}
            async with http.get(f"/live/cam/v.m3u8{skip}", headers=headers) as answer:
                assert await answer.read() == body
                assert answer.headers["Vary"] == "Accept-Encoding"
                zipped = answer.headers.get("Content-Encoding") == "gzip"
                assert zipped == (body in (version.full_gzip, version.delta_gzip))
                seen.add(answer.headers["ETag"])
                headers = {**headers, "If-None-Match": answer.headers["ETag"]}
            async with http.get(f"/live/cam/v.m3u8{skip}", headers=headers) as answer:
                assert answer.status == 304
        assert len(seen) == 4
        async with http.get("/live/cam/master.m3u8?_HLS_msn=5000") as answer:
            assert gzip.decompress(await answer.read()).startswith(b"#EXTM3U")


@pytest.mark.parametrize(
    "path",
    [
        "/live/nobody/master.m3u8",
        "/live/cam/abc/v/99.m4s",
        "/live/cam/abc/v/11.4.m4s",
        "/live/cam/../cam/v.m3u8/x",
        "/live/x",
        "/static/nothing.js",
        "/watch/UPPER",
        "/nothing",
    ],
)
@looped
async def test_unknown_names(path: str) -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        async with http.get(path) as answer:
            assert answer.status == 404
            assert (await answer.text()).count("\n") == 1


@looped
async def test_pages_and_their_files() -> None:
    async with serving() as (_, http):
        async with http.get("/watch/cam") as answer:
            assert answer.status == 200
            assert "cam" in await answer.text()
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            headers = {"If-None-Match": answer.headers["ETag"]}
        async with http.get("/watch/cam", headers=headers) as answer:
            assert answer.status == 304
        async with http.get("/") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            assert not answer.history  # a POP takes no redirect
            first = await answer.read()
        async with http.get("/state") as answer:
            assert await answer.read() == first
