"""Enhanced RTMP through a POP: HEVC, AV1, Opus, AC-3 and two sounds, as a new ffmpeg sends them,
leave as the ladder's H.264 and AAC, without a hole."""

from __future__ import annotations

import array
import asyncio
import contextlib
import functools
import socket
import subprocess
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Final

import imageio_ffmpeg
import pytest

from edgecache.control.admission import Admission
from edgecache.control.ingest import IngestRouter
from edgecache.signing import sign
from origin.config import Config
from origin.model import MediaObject, PartObject, Publication
from origin.server import Origin
from tests.conformance import fragments
from tests.looped import eventually, looped

pytestmark = pytest.mark.timeout(60)

SECRET: Final = "0123456789abcdef0123456789abcdef"
SIGN: Final = functools.partial(sign, kid="k1", secret=SECRET.encode())
FFMPEG: Final = imageio_ffmpeg.get_ffmpeg_exe()
SEGMENTS: Final = 3  # of a second
X265: Final = "-c:v libx265 -preset ultrafast -tune zerolatency -x265-params log-level=error"
AV1: Final = "-c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0"
X264: Final = "-c:v libx264 -preset ultrafast -tune zerolatency"
SENT: Final = {
    "hevc": f"{X265} -pix_fmt yuv420p10le -color_trc smpte2084 -c:a libopus",  # HDR, told as such
    "av1": f"{AV1} -c:a ac3",
    "two": f"{X264} -map 2:a -c:a:0 aac -c:a:1 libopus",
}
HERTZ: Final = (440, 880)


class Seen:
    """What the origin made, by stream and track."""

    def __init__(self) -> None:
        self.inits: dict[tuple[str, str], bytes] = {}
        self.parts: dict[tuple[str, str], list[PartObject]] = {}

    def __call__(self, stream: str, item: Publication) -> None:
        if isinstance(item, PartObject):
            self.parts.setdefault((stream, item.track), []).append(item)
        elif isinstance(item, MediaObject):
            self.inits[stream, item.path.split("/")[4]] = item.body

    def has(self, stream: str, track: str) -> bool:
        """As much as is looked at."""
        return sum(part.final for part in self.parts.get((stream, track), ())) >= SEGMENTS

    def media(self, stream: str, track: str) -> bytes:
        return b"".join(part.body for part in self.parts[stream, track])


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[tuple[Seen, dict[str, str]]]:
    """(what is made, where to publish each stream): an origin and a POP's router before it."""
    sounds = {"audio": {"language": "en"}, "audio-de": {"language": "de", "source": 1}}
    origin = Origin(
        Config.model_validate(
            {
                "http": {"listen": "127.0.0.1:0", "drain": "200ms"},
                "admin": {"listen": ""},
                "live": {"segment": "1s", "parts": 3, "window": "10s"},
                "keys": {"k1": {"secret": SECRET}},
                "ladder": {"v": {"width": 160, "height": 90, "bitrate": "100kbps"}},
                "audio": {"tracks": sounds},
            }
        )
    )
    keys = {stream: origin._catalog.create_key(stream) for stream in SENT}
    seen, publish = Seen(), origin._ingest._publish

    def both(stream: str, item: Publication) -> None:
        publish(stream, item)
        seen(stream, item)

    origin._ingest._publish = both
    await origin.start()
    admission = Admission(data_centres=[f"http://127.0.0.1:{origin.port}"], sign=SIGN)
    router = IngestRouter(admission=admission, sign=SIGN)
    listener = socket.create_server(("127.0.0.1", 0))
    await router.start(listener)
    door = f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live"
    try:
        yield seen, {stream: f"{door}/{key}" for stream, key in keys.items()}
    finally:
        await router.stop()
        await origin.stop()


def publisher(codecs: str, url: str) -> list[str]:
    inputs = ["testsrc2=s=160x90:r=30"]
    inputs += [f"sine=frequency={hertz}:sample_rate=48000" for hertz in HERTZ]
    return [
        *(FFMPEG, "-hide_banner", "-loglevel", "error", "-nostdin"),
        *(word for each in inputs for word in ("-re", "-f", "lavfi", "-i", each)),
        *("-map", "0:v", "-map", "1:a", *codecs.split(), "-g", "30", "-f", "flv", url),
    ]


@contextlib.asynccontextmanager
async def publishing(url: str, codecs: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *publisher(codecs, url), stderr=asyncio.subprocess.PIPE
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        _, errors = await process.communicate()
    assert b"Error" not in errors, errors


def pitch(media: bytes) -> float:
    """Hz, from how often the sound rises through zero in the middle of it; 0 of silence."""
    command = [FFMPEG, "-v", "error", "-i", "pipe:0", "-f", "s16le", "-ac", "1", "-ar", "8000"]
    run = subprocess.run([*command, "pipe:1"], input=media, capture_output=True, timeout=30)
    assert run.returncode == 0, run.stderr
    samples = array.array("h", run.stdout)
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    if max(middle) < 100:
        return 0.0
    rises = sum(a < 0 <= b for a, b in pairwise(middle))
    return rises * 8000 / len(middle)


@looped
async def test_what_new_encoders_send_becomes_the_ladder() -> None:
    async with site() as (seen, doors), contextlib.AsyncExitStack() as stack:
        for stream, codecs in SENT.items():
            await stack.enter_async_context(publishing(doors[stream], codecs))
        tracks = ("v", "audio", "audio-de")
        for track in tracks:
            for stream in SENT:
                await eventually(functools.partial(seen.has, stream, track), 30)
    for stream in SENT:
        for track in tracks:
            init, media = seen.inits[stream, track], seen.media(stream, track)
            assert fragments.read_init(init).codec.startswith("avc1" if track == "v" else "mp4a")
            # raises when a frame does not begin where the one before ended
            assert fragments.read(init, media).duration_s >= SEGMENTS - 0.1
        heard = [
            await asyncio.to_thread(pitch, seen.inits[stream, t] + seen.media(stream, t))
            for t in ("audio", "audio-de")
        ]
        assert heard == pytest.approx([440, 880 if stream == "two" else 0], abs=12)
