"""What broadcasters really run, over SRT and RTMP through a POP: ffmpeg as OBS sets it up, HEVC,
GStreamer. Whatever they send leaves as the ladder, without a hole."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import socket
from collections.abc import AsyncIterator
from typing import Final

import pytest

from edgecache.control import sockets
from edgecache.control.admission import Admission
from edgecache.control.ingest import IngestRouter
from edgecache.control.srt import SrtRouter
from edgecache.signing import sign
from origin.config import Config
from origin.server import Origin
from tests.conformance import fragments
from tests.looped import eventually, looped
from tests.srt import Network
from tests.system.test_25_enhanced import Seen

pytestmark = pytest.mark.timeout(90)

SECRET: Final = "0123456789abcdef0123456789abcdef"
SIGN: Final = functools.partial(sign, kid="k1", secret=SECRET.encode())
PASSPHRASE: Final = "correct horse battery"
SEGMENTS: Final = 4  # of a second
LOSS: Final = 0.01
patiently = functools.partial(looped, limit_s=80.0)
_FFMPEG: Final = (
    "ffmpeg -hide_banner -loglevel error -nostdin -re -f lavfi -i testsrc2=s=320x180:r=30"
    " -re -f lavfi -i sine=frequency=440:sample_rate=48000 "
)
# What OBS sends by default: x264 with B-frames and look-ahead, a keyframe every 2 s, AAC 160k.
_OBS: Final = (
    "-c:v libx264 -preset veryfast -profile:v high -bf 2 -g 60 -keyint_min 60 -sc_threshold 0"
    " -b:v 800k -maxrate 800k -bufsize 800k -pix_fmt yuv420p -c:a aac -b:a 160k"
)
_HEVC: Final = (
    "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=30:bframes=2"
    " -pix_fmt yuv420p -c:a aac -b:a 160k"
)
_GST: Final = (
    "gst-launch-1.0 -q videotestsrc is-live=true num-buffers=1800"
    " ! video/x-raw,width=160,height=90,framerate=30/1 ! openh264enc gop-size=30 ! h264parse"
    " ! queue ! mux. audiotestsrc is-live=true ! voaacenc ! aacparse ! queue ! mux. "
)
PUBLISHERS: Final = {
    "obs": f"{_FFMPEG} {_OBS} -f mpegts srt://127.0.0.1:{{lossy}}?streamid={{key}}&latency=400000",
    "hevc": f"{_FFMPEG} {_HEVC} -f mpegts srt://127.0.0.1:{{srt}}?streamid="
    f"#!::r=hevc,m=publish,u={{key}}&passphrase={PASSPHRASE.replace(' ', '-')}",
    "gst": _GST + "mpegtsmux name=mux alignment=7"
    " ! srtsink uri=srt://127.0.0.1:{srt}?mode=caller streamid={key} wait-for-connection=true",
    "rtmp": _GST + "flvmux name=mux streamable=true"
    " ! rtmp2sink location=rtmp://127.0.0.1:{rtmp}/live/{key}",
}


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[tuple[Seen, dict[str, str], Network]]:
    """(what is made, how to publish each stream): an origin, and a POP's doors before it."""
    passphrases = {"hevc": {"secret": PASSPHRASE.replace(" ", "-")}}
    config = {
        "http": {"listen": "127.0.0.1:0", "drain": "200ms"},
        "admin": {"listen": ""},
        "live": {"segment": "1s", "parts": 3, "window": "10s"},
        "srt": {"listen": "127.0.0.1:0", "passphrases": passphrases},
        "ladder": {"v": {"width": 160, "height": 90, "bitrate": "100kbps"}},
        "keys": {"k1": {"secret": SECRET}},
    }
    origin = Origin(Config.model_validate(config))
    seen, publish = Seen(), origin._ingest._publish

    def both(stream: str, item: object) -> None:
        publish(stream, item)  # type: ignore[arg-type]
        seen(stream, item)  # type: ignore[arg-type]

    origin._ingest._publish = both
    await origin.start()
    admission = Admission(data_centres=[f"http://127.0.0.1:{origin.port}"], sign=SIGN)
    srt, rtmp = SrtRouter(admission=admission), IngestRouter(admission=admission, sign=SIGN)
    listeners = (
        sockets.listen_datagrams("ingest.srt_listen", "127.0.0.1:0"),
        socket.create_server(("127.0.0.1", 0)),
    )
    ports = [listener.getsockname()[1] for listener in listeners]
    await srt.start(listeners[0])
    await rtmp.start(listeners[1])
    network = Network(ports[0], LOSS)
    doors = {"srt": ports[0], "rtmp": ports[1], "lossy": network.port}
    keys = {stream: origin._catalog.create_key(stream) for stream in PUBLISHERS}
    try:
        yield (
            seen,
            {name: text.format(key=keys[name], **doors) for name, text in PUBLISHERS.items()},
            network,
        )
    finally:
        network.close()
        await srt.stop()
        await rtmp.stop()
        await origin.stop()


@contextlib.asynccontextmanager
async def publishing(command: str) -> AsyncIterator[None]:
    program, *arguments = command.split()
    process = await asyncio.create_subprocess_exec(
        shutil.which(program) or program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield
        assert process.returncode is None, "it ended by itself"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@patiently
async def test_what_broadcasters_run_becomes_the_ladder() -> None:
    async with site() as (seen, commands, network), contextlib.AsyncExitStack() as stack:
        for command in commands.values():
            await stack.enter_async_context(publishing(command))
        for stream in PUBLISHERS:
            for track in ("v", "audio"):
                await eventually(functools.partial(_has, seen, stream, track), 40)
        assert network.lost > 0
    for stream in PUBLISHERS:
        for track in ("v", "audio"):
            init, media = seen.inits[stream, track], seen.media(stream, track)
            # raises when a frame does not begin where the one before ended
            assert fragments.read(init, media).duration_s >= SEGMENTS - 0.1, (stream, track)


def _has(seen: Seen, stream: str, track: str) -> bool:
    return sum(part.final for part in seen.parts.get((stream, track), ())) >= SEGMENTS
