"""An operator tells an ad break at the origin; a player at a POP hears of it with the next part."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import aiohttp
import m3u8
import pytest

from edgecache import amf
from edgecache.flv import HEADER, SCRIPT, FlvReader, encode_tag
from origin.ffmpeg import find
from origin.testpattern import Pattern, argv
from tests.looped import eventually, looped
from tests.running import Edge
from tests.serving_origin import SIGN, child, operators, serving, upload
from tests.sockets import free_port

pytestmark = pytest.mark.timeout(60)

# skip boundary: 6 s
GRID = ("live.segment=500ms", "live.parts=2", "live.window=10s", "encoder.fps=20")
RUNG = "ladder={v={width=160,height=90,bitrate='150kbps'}}"
PATH = "/live/cam/v.m3u8"


class Player:
    """Reloads a playlist at the POP, the way low-latency players do."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._next: tuple[int, int] | None = None

    async def reload(self, skip: str = "") -> str:
        query = f"_HLS_skip={skip}" if skip else ""
        if self._next:
            query = f"_HLS_msn={self._next[0]}&_HLS_part={self._next[1]}&{query}"
        async with self._http.get(f"{PATH}?{query}") as answer:
            text = await answer.text()
            assert answer.status == 200, text
        hint = re.search(r'TYPE=PART,URI="[^"]*/(\d+)\.(\d+)\.m4s"', text)
        assert hint is not None
        self._next = int(hint[1]), int(hint[2])
        return text


@asynccontextmanager
async def broadcast() -> AsyncIterator[tuple[aiohttp.ClientSession, Player]]:
    """(operators' door, a player at a POP that is pushed to)."""
    port = free_port()
    with Edge((f"origin.urls=http://127.0.0.1:{port}",)) as pop:
        pushed = (f"pops.b.push=http://{pop.push}", 'pops.b.hot=["*"]')
        pattern = argv(find(), "pipe:1", Pattern(width=160, height=90, fps=20))
        async with (
            serving(f"http.listen=127.0.0.1:{port}", RUNG, *GRID, *pushed) as (origin, http),
            operators(origin) as admin,
            child(*pattern, stdout=asyncio.subprocess.PIPE) as source,
            aiohttp.ClientSession(f"http://{pop.http}") as viewer,
        ):
            sent = asyncio.create_task(upload(http, source))
            await eventually(lambda: origin.store.find_playlist(PATH), 15)
            await eventually(lambda: pop.metrics().get("edgecache_push_total", 1), 5)
            try:
                yield admin, Player(viewer)
            finally:
                source.terminate()
                await sent


async def tell(admin: aiohttp.ClientSession, **marker: object) -> int:
    async with admin.post("/api/streams/cam/markers", json=marker) as answer:
        return answer.status


@looped
async def test_an_ad_break_reaches_players_and_is_skipped_later() -> None:
    async with broadcast() as (admin, player):
        await player.reload()
        out = "FC302500000000000000FFF01405000000017FEFFE"
        told = await tell(admin, id="b1", kind="ad", planned=30, scte35_out=f"0x{out}")
        assert told == 201
        texts = [await player.reload() for _ in range(3)]
        (row,) = re.findall(r"#EXT-X-DATERANGE:.*", texts[-1])
        assert re.fullmatch(
            r'#EXT-X-DATERANGE:ID="b1",CLASS="ad",START-DATE="[0-9T:.-]+Z"'
            rf",PLANNED-DURATION=30\.0,SCTE35-OUT=0x{out}",
            row,
        )
        # what was told longer ago than the skip boundary is not told again to who has it
        while "#EXT-X-SKIP" not in (plain := await player.reload("YES")):
            pass
        assert row in plain
        while row in (text := await player.reload("v2")):
            pass
        assert text.startswith("#EXTM3U\n#EXT-X-VERSION:10\n")
        assert 'RECENTLY-REMOVED-DATERANGES=""' in text
        assert await tell(admin, id="b1", duration=7.5, scte35_in="FC30") == 201
        texts = [await player.reload("v2") for _ in range(3)]
        assert 'ID="b1"' in texts[-1]
        assert "DURATION=7.5,SCTE35-IN=0xFC30" in texts[-1]
        assert "PLANNED" not in texts[-1]
        assert row in await player.reload()


async def with_cue(source: asyncio.StreamReader, after: int) -> AsyncIterator[bytes]:
    """FLV as it comes, and a broadcaster's ad cue behind so many tags."""
    reader, count = FlvReader(), 0
    section = bytes.fromhex("fc302500000000000000fff01405000000017feffe")
    cue = base64.b64encode(section).decode()
    told: amf.Value = {"type": "SCTE-35", "id": "break-9", "duration": 12.0, "cue": cue}
    body = amf.encode("onAdCue", told)
    yield HEADER
    while data := await source.read(65536):
        for tag in reader.feed(data):
            yield tag.encode()
            count += 1
            if count == after:
                yield encode_tag(SCRIPT, tag.timestamp, body)


@looped
async def test_a_publisher_tells_a_break_where_it_stands_in_its_media() -> None:
    pattern = argv(find(), "pipe:1", Pattern(width=160, height=90, fps=20))
    async with (
        serving(RUNG, *GRID) as (origin, http),
        child(*pattern, stdout=asyncio.subprocess.PIPE) as source,
    ):
        assert source.stdout is not None
        fields = {"Content-Type": "video/x-flv", "Authorization": SIGN("PUT", "/ingest/cam")}
        # 20 pictures and 47 sounds a second: the cue stands about 2 s into the media
        body = with_cue(source.stdout, after=134)
        sent = asyncio.create_task(http.put("/ingest/cam", data=body, headers=fields))

        def told() -> str:
            version = origin.store.find_playlist(PATH)
            return version.full.decode() if version else ""

        await eventually(lambda: 'ID="break-9"' in told(), 15)
        (row,) = re.findall(r"#EXT-X-DATERANGE:.*", told())
        assert row.endswith(
            ",PLANNED-DURATION=12.0,SCTE35-CMD=0xFC302500000000000000FFF01405000000017FEFFE"
        )
        (start,) = re.findall(r'START-DATE="([^"]+)"', row)
        began = m3u8.loads(told()).segments[0].program_date_time
        since = (datetime.fromisoformat(start) - began).total_seconds()
        assert 1.5 < since < 2.5
        source.terminate()
        await sent


@looped
async def test_what_cannot_be_told_is_one_clear_line() -> None:
    async with broadcast() as (admin, _):
        assert await tell(admin, id="b1", kind="ad") == 201
        url = "/api/streams/cam/markers"
        refused: list[tuple[str, object, int, str]] = [
            (url, {"id": 'b"1'}, 400, "id: "),
            (url, {"id": "b2", "scte35_out": "xyz"}, 400, "scte35_out: "),
            (url, {"id": "b2", "start": "2026-01-01T00:00:00"}, 400, "start: "),
            (url, {"id": "b2", "length": 3}, 400, "length: "),
            (url, {"id": "b1", "kind": "other"}, 409, "b1: kind was told as ad"),
            ("/api/streams/nobody/markers", {"id": "b1"}, 404, "no such live stream"),
        ]
        for path, marker, status, says in refused:
            async with admin.post(path, json=marker) as answer:
                assert (answer.status, (await answer.text()).startswith(says)) == (status, True)
        # a page that a browser was lured to can send this without asking, and must not be heard
        async with admin.post(url, data='{"id": "b3"}') as answer:
            assert answer.status == 415
