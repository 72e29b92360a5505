"""Two languages arrive as channel pairs of one sound, and leave a POP as two renditions."""

from __future__ import annotations

import array
import asyncio
import subprocess
from itertools import pairwise
from typing import Final

import m3u8
import pytest

from origin.ffmpeg import find
from tests.looped import eventually, looped
from tests.running import Edge
from tests.serving_origin import child, serving, upload

pytestmark = pytest.mark.timeout(60)

ENGLISH_HZ, GERMAN_HZ = 440, 880
TRACKS: Final = (
    "audio.tracks={audio={language='en',name='English',channels=[0,1]},"
    "audio-de={language='de',name='Deutsch',channels=[2,3]}}",
    "ladder={v={width=160,height=90,bitrate='150kbps'}}",
)


def publisher(ffmpeg: str) -> list[str]:
    tone = "sine=sample_rate=48000:frequency="
    return [
        *(ffmpeg, "-hide_banner", "-loglevel", "error", "-nostdin"),
        *("-re", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=20"),
        *("-re", "-f", "lavfi", "-i", f"{tone}{ENGLISH_HZ}"),
        *("-re", "-f", "lavfi", "-i", f"{tone}{GERMAN_HZ}"),
        *("-filter_complex", "[1:a][1:a][2:a][2:a]join=inputs=4:channel_layout=quad[a]"),
        *("-map", "0:v", "-map", "[a]", "-c:v", "libx264", "-preset", "ultrafast"),
        *("-tune", "zerolatency", "-g", "20", "-pix_fmt", "yuv420p", "-c:a", "aac"),
        *("-f", "flv", "-flush_packets", "1", "pipe:1"),
    ]


def pitch(ffmpeg: str, media: bytes) -> float:
    """Hz, from how often the sound rises through zero in the middle of it."""
    command = [ffmpeg, "-v", "error", "-i", "pipe:0", "-f", "s16le", "-ac", "1", "-ar", "8000"]
    run = subprocess.run([*command, "pipe:1"], input=media, capture_output=True, timeout=30)
    assert run.returncode == 0, run.stderr
    samples = array.array("h", run.stdout)
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    rises = sum(a < 0 <= b for a, b in pairwise(middle))
    return rises * 8000 / len(middle)


@looped
async def test_every_language_is_a_rendition() -> None:
    ffmpeg = find().path
    async with (
        serving(*TRACKS) as (origin, http),
        child(*publisher(ffmpeg), stdout=asyncio.subprocess.PIPE) as source,
    ):
        asked_only = "route=[{prefix='/',prefetch=0}]"
        with Edge((f"origin.urls=http://127.0.0.1:{origin.port}", asked_only)) as pop:
            sent = asyncio.create_task(upload(http, source))
            await eventually(lambda: origin.store.find_playlist("/live/cam/master.m3u8"), 15)
            answer = await asyncio.to_thread(pop.get, "/live/cam/master.m3u8")
            master = m3u8.loads(answer.body.decode())
            assert [(m.type, m.language, m.name, m.default, m.uri) for m in master.media] == [
                ("AUDIO", "en", "English", "YES", "audio.m3u8"),
                ("AUDIO", "de", "Deutsch", "NO", "audio-de.m3u8"),
            ]
            for media, hertz in zip(master.media, (ENGLISH_HZ, GERMAN_HZ), strict=True):
                answer = await asyncio.to_thread(pop.get, f"/live/cam/{media.uri}")
                playlist = m3u8.loads(answer.body.decode())
                assert len(playlist.rendition_reports) == 2
                first = playlist.segments[0]
                names = (first.init_section.uri, first.uri)
                pieces = [await asyncio.to_thread(pop.get, f"/live/cam/{uri}") for uri in names]
                heard = await asyncio.to_thread(pitch, ffmpeg, b"".join(p.body for p in pieces))
                assert abs(heard - hertz) < 10
            source.terminate()
            await sent
