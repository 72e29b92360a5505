"""A viewer seeks back further than memory reaches, in pictures that a POP pulls; then the stream
ends, and the same addresses are the recording."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import m3u8
import pytest

from origin.model import Rendition, digest_of
from origin.names import epoch_of
from origin.presentation import Presentation
from origin.server import Origin
from tests.encoded import SECONDS, encode
from tests.hand_made import flush
from tests.looped import looped
from tests.running import Edge
from tests.serving_origin import publish, serving

pytestmark = pytest.mark.timeout(90)

UNIX_S: Final = 1_763_800_000
PLAN: Final = (
    Rendition(
        track="180p",
        kind="video",
        bandwidth=300_000,
        average_bandwidth=250_000,
        key_bandwidth=125_000,
    ),
    Rendition(track="90p", kind="video", bandwidth=120_000, average_bandwidth=100_000),
    Rendition(track="audio", kind="audio", bandwidth=70_000, average_bandwidth=64_000),
)


@dataclass
class Show:
    """A stream whose publisher left an hour ago and may come back."""

    origin: Origin
    pop: Edge
    presentation: Presentation

    def end(self) -> None:
        publish(self.origin, self.presentation.end())

    def listed(self, name: str) -> list[str]:
        """The segments in the origin's newest version; a POP's may be a second old."""
        version = self.origin.store.find_playlist(f"/live/cam/{name}.m3u8")
        assert version is not None
        playlist = m3u8.loads(version.full.decode())
        return [segment.uri for segment in playlist.segments if segment.uri]

    async def playlist(self, name: str) -> m3u8.M3U8:
        answer = await asyncio.to_thread(self.pop.get, f"/live/cam/{name}.m3u8")
        assert answer.status == 200
        return m3u8.loads(answer.body.decode())


@asynccontextmanager
async def show(home: Path) -> AsyncIterator[Show]:
    ffmpeg = shutil.which("ffmpeg") or "ffmpeg"
    settings = (f"data.dir={home}", "live.window=6s", "live.dvr=2h")
    async with serving(*settings) as (origin, _):
        late_s = 0.0
        now = origin.store._monotonic_s
        origin.store._monotonic_s = lambda: now() + late_s
        made = Presentation(
            "cam", epoch=epoch_of(UNIX_S), renditions=PLAN, window_s=6.0, dvr_s=7200.0
        )
        start = made.begin_generation(wall_ns=UNIX_S * 10**9)
        chunks = await asyncio.to_thread(encode, ffmpeg, start.offset_s)
        for track, data in chunks:
            publish(origin, made.feed(track, data, 0))
        closed = made.end_generation()
        publish(origin, closed)
        disk = origin._disk
        assert disk is not None
        await asyncio.to_thread(flush, disk)
        late_s = 3600.0
        publish(origin, closed[-1:])  # known, but it lets the store look at the clock
        asked_only = "route=[{prefix='/',prefetch=0}]"
        with Edge((f"origin.urls=http://127.0.0.1:{origin.port}", asked_only)) as pop:
            yield Show(origin, pop, made)


def frames(url: str) -> int:
    """How many pictures ffmpeg's own client decodes from an address."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", url, "-map", "0:v:0", "-f", "framecrc"]
    run = subprocess.run([*command, "-"], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return sum(not row.startswith(b"#") for row in run.stdout.splitlines())


@looped
async def test_what_left_memory_is_listed_and_served_through_a_pop(tmp_path: Path) -> None:
    async with show(tmp_path) as live:
        gauges = live.origin.store.gauges()
        assert gauges["archived"] == 6 * len(PLAN)
        for name in ("180p", "audio"):
            playlist = await live.playlist(name)
            assert not playlist.is_endlist
            listed = [segment for segment in playlist.segments if segment.uri]
            assert [segment.uri.split("/")[-1] for segment in listed] == [
                f"{UNIX_S // 2 + i}.m4s" for i in range(6)
            ]
            for segment in listed:
                path = f"/live/cam/{segment.uri}"
                answer = await asyncio.to_thread(live.pop.get, path)
                assert answer.status == 200
                stored = live.origin.store.find(path)
                assert stored is not None
                assert stored.digest == digest_of(answer.body)
        assert gauges["memory_bytes"] < 5_000  # the init sections


@looped
async def test_key_frames_are_byte_ranges_that_play_alone(tmp_path: Path) -> None:
    async with show(tmp_path) as live:
        playlist = await live.playlist("180p.iframes")
        assert playlist.is_i_frames_only
        entry = playlist.segments[0]
        size, _, offset = entry.byterange.partition("@")
        ranged = {"Range": f"bytes={offset}-{int(offset) + int(size) - 1}"}
        answer = await asyncio.to_thread(live.pop.get, f"/live/cam/{entry.uri}", ranged)
        assert (answer.status, len(answer.body)) == (206, int(size))
        live.end()
        url = f"http://127.0.0.1:{live.origin.port}/live/cam/180p.iframes.m3u8"
        assert await asyncio.to_thread(frames, url) == 6


@looped
async def test_an_ended_stream_is_a_recording_at_the_same_addresses(tmp_path: Path) -> None:
    async with show(tmp_path) as live:
        before = live.listed("180p")
        live.end()
        assert live.listed("180p")[: len(before)] == before
        assert (await live.playlist("180p")).is_endlist
        url = f"http://{live.pop.http}/live/cam/master.m3u8"
        assert await asyncio.to_thread(frames, url) == round(SECONDS * 30)
