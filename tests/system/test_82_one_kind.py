"""A broadcast of sound alone, and one of picture alone: RTMP to the POP, and out of it as HLS and
DASH, each played by ffmpeg as a classic client."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import m3u8
import pytest

from origin.ffmpeg import find
from tests import mpd, mpd_schema
from tests.looped import looped
from tests.running import KID, SECRET, Edge, ask
from tests.serving_origin import ROOT, child, listening, run
from tests.sockets import free_port

SOURCES: Final = {
    "sound": "-re -f lavfi -i sine=frequency=440:r=48000 -c:a aac",
    "picture": "-re -f lavfi -i testsrc2=size=160x90:rate=15 -c:v libx264 -preset ultrafast"
    " -tune zerolatency -g 15 -pix_fmt yuv420p",
}
FRAME_S: Final = {"picture": 1 / 15, "sound": 1024 / 48_000}
PLAYED_S: Final = 2
LISTED: Final = 5  # segments: more than ffmpeg stays behind
START_S: Final = 30.0

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Site:
    edge: Edge

    async def text(self, path: str) -> str:
        """Of what is there, or about to be."""
        async with asyncio.timeout(START_S):
            while True:
                answer = await asyncio.to_thread(self.edge.get, path)
                if answer.status == 200:
                    return answer.body.decode()
                assert answer.status == 404, (path, answer.status)
                await asyncio.sleep(0.1)

    async def listed(self, path: str) -> m3u8.M3U8:
        """The media playlist with enough whole segments, by blocking reloads."""
        playlist = m3u8.loads(await self.text(path))
        while sum(segment.uri is not None for segment in playlist.segments) < LISTED:
            want = playlist.media_sequence + len(playlist.segments)
            playlist = m3u8.loads(await self.text(f"{path}?_HLS_msn={want}"))
        return playlist

    async def play(self, path: str) -> dict[str, list[float]]:
        """Timestamps of the packets that ffmpeg finds there, in s, by kind."""
        url = f"http://{self.edge.http}{path}"
        command = f"-v error -nostdin -i {url} -t {PLAYED_S} -map 0 -c copy -f framecrc -"
        pipe = asyncio.subprocess.PIPE
        async with child(find().path, *command.split(), stdout=pipe, stderr=pipe) as client:
            out, err = await asyncio.wait_for(client.communicate(), START_S)
        assert (client.returncode, err) == (0, b"")
        text = out.decode()
        kinds = {"video": "picture", "audio": "sound"}
        streams = {i: kinds[kind] for i, kind in re.findall(r"#media_type (\d): (\w+)", text)}
        units = dict(re.findall(r"#tb (\d): 1/(\d+)", text))
        found: dict[str, list[float]] = {kind: [] for kind in streams.values()}
        for row in text.splitlines():
            if not row.startswith("#"):
                index, _, pts, *_ = row.replace(" ", "").split(",")
                found[streams[index]].append(int(pts) / int(units[index]))
        return found


@asynccontextmanager
async def site(home: Path) -> AsyncIterator[Site]:
    """An origin, a POP, and both broadcasts for as long as this lasts."""
    port = free_port()
    options = (f"origin.urls=http://127.0.0.1:{port}", "http.workers=1", "pop.name=pop-a")
    with Edge((*options, "ingest.listen=127.0.0.1:0")) as edge:
        config = home / "o.toml"
        config.write_text(
            f'http = {{ listen = "127.0.0.1:{port}", drain = "1s" }}\nadmin.listen = ""\n'
            f'data.dir = "{home}"\nkeys.{KID}.secret = "{SECRET}"\n'
            'live = { segment = "1s", parts = 3, window = "10s", reconnect = "1s" }\n'
            "encoder.fps = 15\n"
            'ladder.v = { width = 160, height = 90, bitrate = "150kbps", preset = "ultrafast" }\n'
            f'pops.pop-a = {{ push = "http://{edge.push}", hot = ["*"] }}\n'
        )
        door = json.loads(ask(edge.admin, "GET", "/state", {}).body)["listening"]["ingest"]
        made = {name: run("keys", "create", name, "-c", str(config)) for name in SOURCES}
        commands = {
            name: f"-v error -nostdin {source} -f flv"
            f" rtmp://{door}/live/{made[name].stdout.strip()}"
            for name, source in SOURCES.items()
        }
        async with child(sys.executable, "-m", "origin", "serve", "-c", str(config), cwd=ROOT):
            await listening(port)
            async with (
                child(find().path, *commands["sound"].split()) as sound,
                child(find().path, *commands["picture"].split()) as picture,
            ):
                yield Site(edge)
                assert (sound.returncode, picture.returncode) == (None, None)


@looped
async def test_one_kind_alone_is_a_broadcast(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await asyncio.gather(sound_alone(here), picture_alone(here))


async def sound_alone(here: Site) -> None:
    """Variants and adaptation sets of sound, and none of picture."""
    master = m3u8.loads(await here.text("/live/sound/master.m3u8"))
    assert [variant.uri for variant in master.playlists] == ["audio.m3u8"]
    assert (master.media, master.iframe_playlists) == ([], [])
    assert master.playlists[0].stream_info.codecs == "mp4a.40.2"
    await here.listed("/live/sound/audio.m3u8")
    assert await manifest(here, "sound") == {"audio": ["audio"]}
    await plays(here, "sound", {"sound"})


async def picture_alone(here: Site) -> None:
    """It gets silence, so that whoever adds sound later changes no player's set of tracks."""
    master = m3u8.loads(await here.text("/live/picture/master.m3u8"))
    assert [variant.uri for variant in master.playlists] == ["v.m3u8"]
    assert [media.uri for media in master.media] == ["audio.m3u8"]
    await asyncio.gather(*(here.listed(f"/live/picture/{track}.m3u8") for track in ("v", "audio")))
    assert await manifest(here, "picture") == {"video": ["v"], "audio": ["audio"]}
    await plays(here, "picture", {"picture", "sound"})


async def manifest(here: Site, stream: str) -> dict[str, list[str]]:
    """Tracks by content type, of an MPD that is one."""
    text = await here.text(f"/live/{stream}/manifest.mpd")
    assert mpd_schema.problems(text) == []
    (period,) = mpd.parse(text).periods
    return {
        found.content_type: [each.id for each in found.representations]
        for found in period.adaptation_sets
    }


async def plays(here: Site, stream: str, kinds: set[str]) -> None:
    """By HLS without a hole; by DASH ffmpeg goes by its clock (tests/browser/classic.py)."""
    hls = await here.play(f"/live/{stream}/master.m3u8")
    dash = await here.play(f"/live/{stream}/manifest.mpd")
    assert set(hls) == set(dash) == kinds
    for kind in kinds:
        steps = [after - before for before, after in pairwise(hls[kind])]
        assert hls[kind][-1] - hls[kind][0] > PLAYED_S - 0.2
        assert max(steps) < 1.5 * FRAME_S[kind]
        assert len(dash[kind]) >= 10
