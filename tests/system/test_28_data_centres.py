"""A data centre is killed, stands still, is stopped or cut off in mid-broadcast, and another one
goes on: what viewers at a POP miss."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from origin import testpattern
from origin.ffmpeg import find
from origin.testpattern import Pattern
from tests.barcode import stamps_of
from tests.looped import looped
from tests.partition import Router, address, apart
from tests.running import KID, LIMIT_S, SECRET, Edge, ask
from tests.serving_origin import ROOT, child, listening, run
from tests.sockets import free_port

START_S: Final = 30.0
POLL_S: Final = 0.1
LANES: Final = 4  # connections that a data centre pushes over

pytestmark = pytest.mark.timeout(150)
patiently = functools.partial(looped, limit_s=120.0)


@dataclass
class Viewer:
    """A player of whole segments: takes each that is listed and is no gap, once, as it appears."""

    http: aiohttp.ClientSession
    stream: str = "cam"
    media: dict[str, bytes] = field(default_factory=dict)  # by name, inits too, in playing order
    maps: dict[str, str] = field(default_factory=dict)  # segment -> init
    texts: list[str] = field(default_factory=list)
    failures: list[tuple[str, int]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self) -> None:
        while True:
            text = (await self._get("v.m3u8") or b"").decode()
            if text and text != (self.texts or [""])[-1]:
                self.texts.append(text)
                await self._take(text)
            await asyncio.sleep(POLL_S)

    async def _take(self, text: str) -> None:
        mapped, is_gap = "", False
        for line in text.splitlines():
            if line.startswith("#"):
                mapped = (re.findall(r'^#EXT-X-MAP:URI="(.*)"', line) or [mapped])[0]
                is_gap |= line == "#EXT-X-GAP"
                continue
            for name in () if is_gap else (mapped, line):
                if name not in self.media and (body := await self._get(name)):
                    self.media[name] = body
            if line in self.media:
                self.maps[line] = mapped
            is_gap = False
        self.changed.set()

    async def _get(self, name: str) -> bytes | None:
        async with self.http.get(f"/live/{self.stream}/{name}") as answer:
            if answer.status == 200:
                return await answer.read()
            self.failures.append((name, answer.status))
            return None

    def epochs(self) -> list[str]:
        """Of the segments that were taken, in order."""
        found = [name.partition("/")[0] for name in self.media if name.endswith(".m4s")]
        return list(dict.fromkeys(found))

    async def until(self, epochs: int, segments: int) -> None:
        """So many segments of the so-many-th epoch are here."""
        async with asyncio.timeout(START_S):
            while True:
                counted = Counter(name.partition("/")[0] for name in self.maps)
                if len(counted) >= epochs and [*counted.values()][epochs - 1] >= segments:
                    return
                self.changed.clear()
                await self.changed.wait()

    async def until_end(self) -> None:
        async with asyncio.timeout(START_S):
            while not self.texts[-1].rstrip().endswith("#EXT-X-ENDLIST"):
                self.changed.clear()
                await self.changed.wait()

    def stamps(self) -> list[list[int]]:
        """When each picture that was seen had been made, ms, by data centre in turn."""
        seen: dict[str, list[int]] = {}
        for init in dict.fromkeys(self.maps.values()):
            segments = [self.media[name] for name, mapped in self.maps.items() if mapped == init]
            found = pictures(self.media[init] + b"".join(segments))
            seen.setdefault(init.partition("/")[0], []).extend(found)
        return [*seen.values()]


def pictures(movie: bytes) -> list[int]:
    options = "-loglevel error -i pipe:0 -vf scale=320:180 -f rawvideo -pix_fmt gray pipe:1"
    made = subprocess.run(
        [find().path, *options.split()],
        input=movie,
        capture_output=True,
        check=True,
        timeout=30,
    )
    return [found for found in stamps_of(made.stdout) if found is not None]


def lost_s(sent: list[int], seen: list[int]) -> float:
    """Of what was sent between the first and the last picture that was seen, in any order. One or
    two in a row are the encoder's, which makes a constant rate of what comes."""
    known = set(seen)
    span = [each in known for each in sent if min(seen) <= each <= max(seen)]
    runs = [len([*run]) for was_seen, run in groupby(span) if not was_seen]
    return sum(run for run in runs if run > 2) / Pattern().fps


def publishing(url: str, copy: Path) -> list[str]:
    """The test pattern, sent to `url`, and kept."""
    command = testpattern.argv(find(), url)
    begin = len(command) - command[::-1].index("-f") - 1
    outputs = f"[f=flv:flush_packets=1]{url}|[f=flv:flush_packets=1]{copy}"
    return [*command[:begin], "-flags", "+global_header", "-f", "tee", outputs]


@dataclass
class Centre:
    host: str
    port: int
    config: Path
    around: Sequence[str] = ()  # its command: where it runs
    process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[asyncio.subprocess.Process]:
        command = (sys.executable, "-m", "origin", "serve", "-c", str(self.config))
        async with child(*self.around, *command, cwd=ROOT) as process:
            await listening(self.port, START_S, self.host)
            yield process


def centre(home: Path, place: tuple[str, int], pop: Edge, around: Sequence[str]) -> Centre:
    home.mkdir()
    config, (host, port) = home / "o.toml", place
    config.write_text(
        f'http = {{ listen = "{host}:{port}", drain = "5s" }}\nadmin.listen = ""\n'
        f'data.dir = "{home}"\nlive.reconnect = "2s"\n'
        f'live.segment = "1s"\nkeys.{KID}.secret = "{SECRET}"\n'
        f'ladder.v = {{ width = 320, height = 180, bitrate = "250kbps" }}\n'
        f'pops.pop = {{ push = "http://{pop.push}", hot = ["*"] }}\n'
    )
    return Centre(host, port, config, around)


@dataclass
class Site:
    pop: Edge
    first: Centre
    second: Centre
    viewer: Viewer
    publisher: asyncio.subprocess.Process

    async def until_refused(self) -> None:
        """A data centre has told the POP what it must not, and knows it."""
        name = 'edge_push_refused_total{reason="epoch"}'
        async with asyncio.timeout(START_S):
            while not (await asyncio.to_thread(self.pop.metrics)).get(name):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)

    def counts(self) -> dict[str, float]:
        """Of the POP's broadcasters' door."""
        return {name: value for name, value in self.pop.metrics().items() if "ingest" in name}


@asynccontextmanager
async def site(home: Path, router: Router | None = None) -> AsyncIterator[Site]:
    """Two data centres with the same keys, both pushing to one POP. With a router: it has host 0,
    and they the others."""
    pop_host, *hosts = [address(host) if router else "127.0.0.1" for host in range(3)]
    around = [router.at(host) if router else () for host in (1, 2)]
    places = [(host, free_port()) for host in hosts]
    urls = ",".join(f"http://{host}:{port}" for host, port in places)
    doors = (f"push.listen={pop_host}:0", "http.workers=1", "ingest.listen=127.0.0.1:0")
    with Edge((f"origin.urls={urls}", "pop.name=pop", "ingest.move=500ms", *doors)) as pop:
        first, second = map(centre, (home / "a", home / "b"), places, (pop, pop), around)
        made = await asyncio.to_thread(run, "keys", "create", "cam", "-c", str(first.config))
        for file in (home / "a").glob("catalog.db*"):
            shutil.copy(file, home / "b")
        door = json.loads(ask(pop.admin, "GET", "/state", {}).body)["listening"]["ingest"]
        url = f"rtmp://{door}/live/{made.stdout.strip()}"
        async with (
            first.serving() as first.process,
            second.serving() as second.process,
            aiohttp.ClientSession(f"http://{pop.http}") as http,
            child(*publishing(url, home / "sent.flv")) as publisher,
        ):
            viewer = Viewer(http)
            playing = asyncio.create_task(viewer.play())
            try:
                yield Site(pop, first, second, viewer, publisher)
                assert not playing.done()
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)


@patiently
async def test_another_one_goes_on_with_nothing_lost(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        await at.viewer.until(1, 3)
        failed = len(at.viewer.failures)
        assert at.first.process is not None
        at.first.process.kill()
        await at.viewer.until(2, 3)
        async with (
            at.first.serving() as at.first.process
        ):  # it is back, and has an old past of this stream
            await at.viewer.until(2, 6)
            assert at.second.process is not None
            at.second.process.send_signal(signal.SIGSTOP)  # connected, and silent
            await at.viewer.until(3, 3)
            at.second.process.send_signal(signal.SIGCONT)  # it has what came meanwhile to publish
            await at.until_refused()
            assert at.first.process is not None
            at.first.process.terminate()
            await at.viewer.until(4, 3)
            assert await asyncio.wait_for(at.first.process.wait(), START_S) == 0
            stamps = at.viewer.stamps()
            sent = pictures((tmp_path / "sent.flv").read_bytes())
            lost = lost_s(sent, [*itertools.chain(*stamps)])
            sys.stderr.write(f"\nmeasured: {lost:.2f} s of video lost\n")
            assert at.publisher.returncode is None
            at.publisher.terminate()
            await at.viewer.until_end()
        assert lost == 0.0
        assert len(at.viewer.epochs()) == 4
        assert max(stamps[2]) < min(stamps[3])  # stopped in order: nothing comes twice
        assert between(at.viewer, 2, 3) == ["#EXT-X-DISCONTINUITY"]
        assert {status for _, status in at.viewer.failures[failed:]} <= {503}
        goes_on([*map(positions, at.viewer.texts)])
        counts = at.counts()
        became = {name: count for name, count in counts.items() if "_held_" in name}
        assert sum(became.values()) == counts["edge_ingest_tags_total"]
        assert not [name for name in became if "dropped" in name]
        assert counts["edge_ingest_moved_total"] == 3
        assert counts["edge_ingest_silent_total"] == 1


def between(viewer: Viewer, before: int, after: int) -> list[str]:
    """What players are told of where one epoch follows another, but for inits and dates."""
    one, other = (f"{viewer.epochs()[index]}/" for index in (before, after))
    lines = next(text for text in viewer.texts if f"\n{other}" in text).splitlines()
    named = [n for n, line in enumerate(lines) if line.startswith(one)]
    then = next(n for n, line in enumerate(lines) if line.startswith(other))
    usual = ("#EXT-X-MAP", "#EXT-X-PROGRAM-DATE-TIME", "#EXTINF", "#EXT-X-PART:")
    return [line for line in lines[named[-1] + 1 : then] if not line.startswith(usual)]


def positions(text: str) -> dict[str, int]:
    """Media sequence number of each segment, by name; of the whole ones, and gaps."""
    first = int(re.findall(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)[0])
    names = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: first + number for number, name in enumerate(names)}


def goes_on(seen: list[dict[str, int]]) -> None:
    """A name never changes its number, nor a number its name; numbers never go back."""
    known: dict[int, str] = {}
    for listed in seen:
        for name, number in listed.items():
            assert known.setdefault(number, name) == name
    newest = [max(listed.values(), default=0) for listed in seen]
    assert newest == sorted(newest)


@dataclass
class Asker:
    """Asks again and again, for what is here and for what nobody has, each on its own connection:
    statuses, and how long an answer took at most, s."""

    http: aiohttp.ClientSession
    statuses: Counter[int] = field(default_factory=Counter)
    longest_s: float = 0.0

    async def ask(self, names: Iterable[str]) -> None:
        loop = asyncio.get_running_loop()
        for name in names:
            began_s = loop.time()
            async with self.http.get(f"/live/cam/{name}") as answer:
                await answer.read()
            self.statuses[answer.status] += 1
            self.longest_s = max(self.longest_s, loop.time() - began_s)
            await asyncio.sleep(POLL_S)


def sockets(pid: int) -> int:
    """How many a process has open."""
    found = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(path).startswith("socket:")
    return found


@patiently
async def test_a_line_that_swallows_everything(tmp_path: Path) -> None:
    """Both ways, no RST, no FIN: nobody is told. When it is back, nothing is left of that."""
    with apart(3) as router:
        async with site(tmp_path, router) as at, asyncio.TaskGroup() as tasks:
            await at.viewer.until(1, 2)
            loop, failed = asyncio.get_running_loop(), len(at.viewer.failures)
            centres = [each.process.pid for each in (at.first, at.second) if each.process]
            room = sockets(centres[0]) + 2
            cached, unknown = Asker(at.viewer.http), Asker(at.viewer.http)
            names = (f"v{number}/v/1.m4s" for number in itertools.count())
            asking = [
                tasks.create_task(cached.ask(itertools.repeat(next(iter(at.viewer.maps))))),
                tasks.create_task(unknown.ask(names)),
            ]
            router.cut((0, 1), (1, 0))
            began_s = loop.time()
            await at.viewer.until(2, 2)
            took_s = loop.time() - began_s
            router.cut()
            await at.until_refused()
            for task in asking:
                task.cancel()
            async with asyncio.timeout(START_S):
                while max(map(sockets, centres)) > room:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
            await asyncio.to_thread(at.pop.settled, "edge_push_connections", 2 * LANES)
            seen = [*itertools.chain(*at.viewer.stamps())]
            lost = lost_s(pictures((tmp_path / "sent.flv").read_bytes()), seen)
            sys.stderr.write(
                f"\nmeasured: {lost:.2f} s of video lost, two segments of another data centre"
                f" {took_s:.1f} s after the cut; answers took at most"
                f" {cached.longest_s:.2f} s, for what nobody has {unknown.longest_s:.2f} s\n"
            )
            assert lost == 0.0
            assert {*cached.statuses} == {200}
            assert {*unknown.statuses} <= {404, 502, 503, 504}
            assert unknown.longest_s < LIMIT_S
            assert {status for _, status in at.viewer.failures[failed:]} <= {404, 503}
            goes_on([*map(positions, at.viewer.texts)])
            counts = at.counts()
            assert not [name for name in counts if "dropped" in name]
            assert counts["edge_ingest_moved_total"] == 1
            assert counts["edge_ingest_silent_total"] == 1
