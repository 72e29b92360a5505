"""The origin is killed and comes back, while the POPs, the publisher and the players live on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import xxhash

from tests.looped import looped
from tests.running import KID, SECRET, Edge, ask
from tests.serving_origin import ROOT, child, run
from tests.sockets import free_port

BACK_S: Final = 10.0  # from the origin's start to pictures; 2.0 s were measured
DOWN_S: Final = 1.0
START_S: Final = 15.0
RETRY_S: Final = 0.25
TRACKS: Final = ("v", "audio")

pytestmark = pytest.mark.timeout(90)


@dataclass(frozen=True)
class Seen:
    """One playlist. `msn`: the segment that grows, `parts`: how many of its parts are listed.
    `discontinuity`: the number of the newest one."""

    at_s: float
    epoch: str
    msn: int
    parts: int
    discontinuity: int


@dataclass
class Player:
    """A low-latency player of one playlist: always the next part, from the start if that fails."""

    http: aiohttp.ClientSession
    path: str
    seen: list[Seen] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)

    async def play(self) -> None:
        want: dict[str, str] = {}
        while True:
            async with self.http.get(self.path, params=want) as answer:
                text = await answer.text()
            if answer.status == 200:
                now = position(text)
                self.seen.append(now)
                want = {"_HLS_msn": str(now.msn), "_HLS_part": str(now.parts)}
            else:
                self.failures.append(answer.status)
                want = {}
            if not want or not self.seen[-1].epoch:
                await asyncio.sleep(RETRY_S)

    async def until_epoch(self, other_than: str, within_s: float) -> list[Seen]:
        """At least six playlists of an epoch that is new."""
        async with asyncio.timeout(within_s):
            while True:
                fresh = [one for one in self.seen if one.epoch not in ("", other_than)]
                if len(fresh) > 5:
                    return fresh
                await asyncio.sleep(0.02)


def position(text: str) -> Seen:
    """Where a media playlist ends, received now."""
    first = int(re.findall(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)[0])
    msn = first + len(re.findall(r"^#EXTINF", text, re.MULTILINE))
    names = re.findall(r'#EXT-X-PART:.*URI="([0-9a-z]+)/[a-z0-9]+/(\d+)\.\d+\.m4s"', text)
    epoch = names[-1][0] if names else ""
    numbered = re.findall(r"#EXT-X-DISCONTINUITY-SEQUENCE:(\d+)", text)
    discontinuity = int(numbered[0]) if numbered else 0
    discontinuity += len(re.findall(r"^#EXT-X-DISCONTINUITY$", text, re.MULTILINE))
    parts = sum(int(name[1]) == msn for name in names)
    return Seen(time.monotonic(), epoch, msn, parts, discontinuity)


@dataclass
class Site:
    """Two POPs, a publisher at POP A, players at POP B; `serve` is the origin's command."""

    b: Edge
    players: list[Player]
    serve: tuple[str, ...]
    origin: asyncio.subprocess.Process

    async def kill_origin(self) -> None:
        self.origin.kill()
        await self.origin.wait()


def settings(home: Path, port: int, hot: str) -> Path:
    path = home / "o.toml"
    path.write_text(
        f'http = {{ listen = "127.0.0.1:{port}", drain = "1s" }}\nadmin.listen = ""\n'
        f'data.dir = "{home}"\nkeys.{KID}.secret = "{SECRET}"\n'
        f'ladder.v = {{ width = 320, height = 180, bitrate = "250kbps" }}\n{hot}'
    )
    return path


@asynccontextmanager
async def site(home: Path, *, hot: bool) -> AsyncIterator[Site]:
    port = free_port()
    options = (f"origin.urls=http://127.0.0.1:{port}", "http.workers=1", "interest.lease=3s")
    with (
        Edge(("pop.name=pop-a", "ingest.listen=127.0.0.1:0", *options)) as a,
        Edge(("pop.name=pop-b", *options)) as b,
    ):
        pushed = f'pops.pop-b = {{ push = "http://{b.push}", hot = ["*"] }}\n' if hot else ""
        config = settings(home, port, pushed)
        made = await asyncio.to_thread(run, "keys", "create", "cam", "-c", str(config))
        door = json.loads(ask(a.admin, "GET", "/state", {}).body)["listening"]["ingest"]
        python = (sys.executable, "-m", "origin")
        serve = (*python, "serve", "-c", str(config))
        publish = (*python, "testpattern", f"rtmp://{door}/live/{made.stdout.strip()}")
        quiet = asyncio.subprocess.DEVNULL
        async with (
            child(*serve, cwd=ROOT) as origin,
            aiohttp.ClientSession(f"http://{b.http}") as http,
        ):
            await listening(port)
            async with child(*publish, cwd=ROOT, stderr=quiet) as publisher:
                players = [Player(http, f"/live/cam/{track}.m3u8") for track in TRACKS]
                tasks = [asyncio.create_task(player.play()) for player in players]
                try:
                    yield Site(b, players, serve, origin)
                    assert publisher.returncode is None
                    assert not [task for task in tasks if task.done()]
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)


async def listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("hot", [True, False])
@looped
async def test_killed_and_back_it_goes_on_in_a_new_epoch(hot: bool, tmp_path: Path) -> None:
    async with site(tmp_path, hot=hot) as here:
        old = [(await player.until_epoch("", START_S))[-1] for player in here.players]
        await here.kill_origin()
        await asyncio.sleep(DOWN_S)
        refused = [len(player.failures) for player in here.players]
        async with child(*here.serve, cwd=ROOT):
            back_s = time.monotonic()
            for player, before, count in zip(here.players, old, refused, strict=True):
                fresh = await player.until_epoch(before.epoch, BACK_S)
                told = f"{player.path}: {fresh[0].at_s - back_s:.1f} s after the origin's return"
                sys.stderr.write(f"\nmeasured: {told}, {player.failures[count:]} before\n")
                assert {one.epoch for one in fresh} == {fresh[0].epoch}
                assert fresh[0].msn >= before.msn
                assert fresh[0].discontinuity > before.discontinuity
                places = [(one.msn, one.parts) for one in fresh]
                assert places == sorted(set(places))  # every part once, in order
                assert set(player.failures[count:]) <= {503}  # ask again; never 404 or 400


@looped
async def test_no_value_that_was_left_behind_blocks_it(tmp_path: Path) -> None:
    """An origin that died may have left an end, or a version that the next one only reaches in
    hours."""
    async with site(tmp_path, hot=True) as here:
        old = [(await player.until_epoch("", START_S))[-1] for player in here.players]
        await here.kill_origin()
        for player, msn, ended in zip(here.players, (9_999_999_999, 0), "01", strict=True):
            body = b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:1\n"
            fields = {
                "Edge-Digest": xxhash.xxh3_128_hexdigest(body), "Edge-TTL": "600000",
                "Edge-Version": f"{msn}.0.6", "Edge-Hold": "6000", "Edge-Advance": "9",
                "Edge-Ended": ended, "Edge-Variants": f"full={len(body)}",
                "Content-Type": "application/vnd.apple.mpegurl",
            }  # fmt: skip
            put = await asyncio.to_thread(here.b.put, player.path, body, fields)
            assert put.status == 204
            assert here.b.get(player.path).body == body
        async with child(*here.serve, cwd=ROOT):
            for player, before in zip(here.players, old, strict=True):
                await player.until_epoch(before.epoch, BACK_S)
