"""The origin is killed and comes back, while the POPs, the publisher and the players live on."""

from __future__ import annotations

import asyncio
import functools
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
from tests.serving_origin import ROOT, child, listening, run
from tests.sockets import free_port

BACK_S: Final = 30.0  # from the origin's start to pictures; 1.7 s were measured
DOWN_S: Final = 1.0
START_S: Final = 30.0
RETRY_S: Final = 0.25
TRACKS: Final = ("v", "audio")

pytestmark = pytest.mark.timeout(120)
patiently = functools.partial(looped, limit_s=100.0)


@dataclass(frozen=True)
class Seen:
    """One playlist. `epoch`: of the newest part's name. `msn`: the segment that grows, `parts`: how
    many of its parts are listed. `discontinuity`: the number of the newest one."""

    at_s: float
    text: str
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
    return Seen(time.monotonic(), text, epoch, msn, parts, discontinuity)


def segments(text: str) -> list[str]:
    """Names of the whole segments."""
    return re.findall(r"^[0-9a-z]+/[a-z0-9]+/\d+\.m4s$", text, re.MULTILINE)


def dates(text: str) -> list[str]:
    return re.findall(r"#EXT-X-PROGRAM-DATE-TIME:(\S+)", text)


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


def settings(home: Path, port: int, more: str) -> Path:
    path = home / "o.toml"
    path.write_text(
        f'http = {{ listen = "127.0.0.1:{port}", drain = "1s" }}\nadmin.listen = ""\n'
        f'data.dir = "{home}"\nkeys.{KID}.secret = "{SECRET}"\n'
        f'ladder.v = {{ width = 320, height = 180, bitrate = "250kbps" }}\n{more}'
    )
    return path


@asynccontextmanager
async def site(home: Path, *, hot: bool, resumes: bool = True) -> AsyncIterator[Site]:
    port = free_port()
    options = (f"origin.urls=http://127.0.0.1:{port}", "http.workers=1", "interest.lease=3s")
    with (
        Edge(("pop.name=pop-a", "ingest.listen=127.0.0.1:0", *options)) as a,
        Edge(("pop.name=pop-b", *options)) as b,
    ):
        pushed = f'pops.pop-b = {{ push = "http://{b.push}", hot = ["*"] }}\n' if hot else ""
        resume = "" if resumes else 'live.resume = "0s"\n'
        config = settings(home, port, resume + pushed)
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


@patiently
async def test_killed_and_back_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """At a POP that is pushed to and at one that pulls, each with an origin of its own."""
    homes = {hot: tmp_path / str(hot) for hot in (True, False)}
    for home in homes.values():
        home.mkdir()
    await asyncio.gather(*(killed_and_back(home, hot=hot) for hot, home in homes.items()))


async def killed_and_back(home: Path, *, hot: bool) -> None:
    async with site(home, hot=hot) as here:
        old = [(await player.until_epoch("", START_S))[-1] for player in here.players]
        failed = [len(player.failures) for player in here.players]  # before there was a stream
        await here.kill_origin()
        await asyncio.sleep(DOWN_S)
        async with child(*here.serve, cwd=ROOT):
            back_s = time.monotonic()
            for player, before, count in zip(here.players, old, failed, strict=True):
                fresh = await player.until_epoch(before.epoch, BACK_S)
                told = f"{player.path}: {fresh[0].at_s - back_s:.1f} s after the origin's return"
                sys.stderr.write(f"\nmeasured: {told}, {player.failures[count:]} before\n")
                await goes_on(player, fresh, before)
                assert set(player.failures[count:]) <= {503}  # ask again; never 404 or 400


async def goes_on(player: Player, fresh: list[Seen], before: Seen) -> None:
    """`fresh` are playlists of the same timeline as `before`, which nobody would tell from those of
    an encoder's restart but by the names."""
    newest = fresh[-1].text
    for line in ("#EXT-X-MEDIA-SEQUENCE:", "#EXT-X-DISCONTINUITY-SEQUENCE:"):
        assert re.findall(f"{line}.*", newest) == re.findall(f"{line}.*", before.text)
    assert segments(newest)[: len(segments(before.text))] == segments(before.text)
    assert "#EXT-X-GAP" not in newest
    assert dates(newest) == sorted(dates(newest))
    assert dates(newest)[: len(dates(before.text))] == dates(before.text)
    assert {one.discontinuity for one in fresh} == {before.discontinuity + 1}
    places = [(one.msn, one.parts) for one in player.seen if one.epoch]
    assert places == sorted(set(places))  # every part once, in order
    assert fresh[0].msn - before.msn <= 3  # those made until the kill, and the one that it cut
    for name in (*segments(newest), *re.findall(r'MAP:URI="(.*)"', newest)):
        async with player.http.get(f"/live/cam/{name}") as answer:
            assert (answer.status, bool(await answer.read())) == (200, True)


@patiently
async def test_without_its_past_it_begins_anew(tmp_path: Path) -> None:
    """In a new epoch, behind a discontinuity; and no value that the one before left blocks it: an
    end, or a version that this one only reaches in hours."""
    async with site(tmp_path, hot=True, resumes=False) as here:
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
                fresh = await player.until_epoch(before.epoch, BACK_S)
                assert {one.epoch for one in fresh} == {fresh[0].epoch}
                assert fresh[0].msn >= before.msn
                assert fresh[0].discontinuity > before.discontinuity
                assert not set(segments(fresh[-1].text)) & set(segments(before.text))
