"""A publisher's container -> FLV bytes: MPEG-TS, MP4 and Matroska go on as if they came by RTMP.

Laws: one ffmpeg a body, confined like an encoder, told which demuxer to use and able to open
nothing. Nothing is decoded but what FLV does not carry: sound, which becomes AAC, and VP8, which
becomes H.264 and is encoded once more than others, as cheaply as can be. Any other picture that FLV
does not carry, even with a newer ffmpeg, is an error for the publisher, as is whatever cannot be
read. FLV has no word for a picture that is to be turned (a phone's): it is put into the metadata.
Bounds: what waits for ffmpeg (`input_bytes`: the publisher is slowed down), what waits for
our reader (`output_bytes`: ffmpeg is), what is held for a second attempt (`held_bytes`: there is
none then), and the time that it takes input without output (`stall_s`). An ffmpeg that dies ends
the body: the containers do not begin anew in their middle. Does not know streams or sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edgecache import amf
from edgecache.flv import HEADER, SCRIPT, FlvReader

from . import ladder
from .broker import BrokerError
from .child import Child
from .ffmpeg import Ffmpeg
from .orientation import ROTATION

CONTAINERS: Final = {  # media type -> ffmpeg's demuxer
    "video/mp2t": "mpegts",
    "video/mp4": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
}
# What ffmpeg looked at to know the codecs comes out at once. Taken as one, its first GOP says how
# late it is; else the dates of all that follows would be half a second ahead.
_BURST_S: Final = 0.05
# All that some browsers record. A frame of delay and nearly all of the quality; a key frame a
# second where VP8 has one in a hundred, so that an encoder may begin anew.
_DECODED: Final = frozenset(("vp8",))
_AS_H264: Final = (
    *("libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-threads:v", "1", "-crf", "18"),
    *("-pix_fmt", "yuv420p", "-fps_mode", "vfr", "-enc_time_base", "1:1000"),
    *("-g", "1000", "-force_key_frames", "expr:gte(t,n_forced)"),
)
_NAMES: Final = {"mpegts": "MPEG-TS", "mov": "fragmented MP4", "matroska": "Matroska or WebM"}
_MATRIX: Final = re.compile(r"(?:displaymatrix|Display Matrix): rotation of (-?[0-9.]+) degrees")
_REFUSED: Final = re.compile(r"(Audio|Video) codec (\S+) not compatible with flv")


class RemuxError(BrokerError):
    """The body cannot become FLV; the message is for the publisher."""


class DiedError(RemuxError):
    """Nothing is known to be wrong with the body."""

    status = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """stall_s is less than the silence that a publisher may keep, so that it is told why."""

    input_bytes: int = 1 << 20
    output_bytes: int = 4 << 20
    held_bytes: int = 4 << 20
    stall_s: float = 8.0


def argv(
    ffmpeg: Ffmpeg, container: str, *, sound: str, fd: int, picture: Sequence[str] = ("copy",)
) -> list[str]:
    """The command that reads `container` (a value of CONTAINERS) on stdin. sound: `copy` or
    `aac`; picture: likewise an encoder and its options."""
    return [
        # what it says of its input is told on the first lines
        *(ffmpeg.path, "-hide_banner", "-loglevel", "info", "-nostats", "-nostdin"),
        *ladder.GUARDED,
        *("-probesize", "200000", "-analyzeduration", "500000", "-fpsprobesize", "0"),
        # frame threads of a decoder are frames of delay
        *("-threads", "1", "-noautorotate", "-f", container, "-i", "pipe:0"),
        *("-map", "0:v:0?", "-map", "0:a:0?"),
        *("-c:v", *picture, "-c:a", sound, "-b:a", "160k", "-ar", "48000"),
        # A second at most is waited for a sound that stopped; by default it is ten.
        *("-max_interleave_delta", "1000000"),
        *("-f", "flv", "-flvflags", "no_duration_filesize", "-flush_packets", "1", f"pipe:{fd}"),
    ]


async def flv(
    body: AsyncIterator[bytes], container: str, ffmpeg: Ffmpeg, limits: Limits | None = None
) -> AsyncGenerator[bytes, None]:
    """The FLV bytes of `body`, as they come; close it to end it. Raises RemuxError, and what `body`
    raises, once all that came before is out."""
    remuxer = _Remuxer(body, container, ffmpeg, limits or Limits())
    try:
        while data := await remuxer.next():
            yield data
    finally:
        await remuxer.close()


def _first_gop(data: bytes) -> int:
    """Where the second key frame begins in the beginning of an FLV stream, or where that ends."""
    end, keys = len(HEADER), 0
    for tag in FlvReader().feed(data):
        keys += tag.is_keyframe
        if keys > 1:
            return end
        end += len(tag.encode())
    return len(data)


def _turn_told(log: Sequence[str]) -> int:
    """Degrees clockwise, from what ffmpeg says of its input; it counts the other way."""
    for line in log:
        if match := _MATRIX.search(line):
            return -round(float(match[1]) / 90) * 90 % 360
    return 0


def _turned(data: bytes, turn: int) -> bytes:
    """The beginning of an FLV stream, its metadata saying `turn`, too."""
    first = next(iter(FlvReader().feed(data)), None)
    values = amf.decode(first.body) if first and first.kind == SCRIPT else []
    if first is None or len(values) < 2 or not isinstance(values[1], dict):
        return data
    told = amf.encode(values[0], {**values[1], ROTATION: float(turn)})
    rest = data[len(HEADER) + len(first.encode()) :]
    return HEADER + replace(first, body=told).encode() + rest


class _Remuxer:
    """One body. Its input is a task, its output waits to be taken; each attempt has its child."""

    def __init__(
        self, body: AsyncIterator[bytes], container: str, ffmpeg: Ffmpeg, limits: Limits
    ) -> None:
        self._body = body
        self._container = container
        self._tool = ffmpeg
        self._sound = "copy"
        self._picture: Sequence[str] = ("copy",)
        self._limits = limits
        self._held: list[bytes] | None = []  # for another attempt; None: there will be none
        self._held_bytes = 0
        self._unanswered = 0  # bytes that came in since the last that went out
        self._whole = False
        self._out: list[bytes] = []
        self._begun = False  # to hand out
        self._changed = asyncio.Event()
        self._over = False
        self._error: Exception | None = None
        self._child = self._start()
        self._input = asyncio.create_task(self._pump())

    async def next(self) -> bytes:
        """The next bytes, b"" at the end."""
        while not self._out and not self._over:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._limits.stall_s):
                    await self._changed.wait()
            except TimeoutError:
                if self._unanswered:
                    raise self._unreadable() from None
        if not self._out:
            if self._error is not None:
                raise self._error
            return b""
        begins, self._begun = not self._begun, True
        if begins:
            await asyncio.sleep(_BURST_S)
        data = b"".join(self._out)
        if begins and (turn := _turn_told(self._child.log)):
            data = _turned(data, turn)
        end = _first_gop(data) if begins else len(data)
        self._out = [data[end:]] if end < len(data) else []
        self._child.hold(0, held=False)
        return data[:end]

    async def close(self) -> None:
        """Nothing of it is left afterwards."""
        self._held = None
        self._input.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._input
        self._child.kill()
        self._child.hold(0, held=False)
        while not self._over:
            self._changed.clear()
            await self._changed.wait()

    def _start(self) -> Child:
        def command(fds: Sequence[int]) -> list[str]:
            return argv(
                self._tool,
                self._container,
                sound=self._sound,
                fd=fds[0],
                picture=self._picture,
            )

        try:
            return Child(
                command,
                tracks=1,
                on_output=lambda _, data: self._came(data),
                on_exit=self._exited,
            )
        except OSError as error:
            raise DiedError(f"cannot be read here: {error.strerror}") from error

    async def _pump(self) -> None:
        try:
            async for data in self._body:
                self._take(data)
                await self._child.drain(self._limits.input_bytes)
                if self._over:
                    return
        except Exception as error:  # the body's own, for our reader
            self._error = error
        self._whole = True
        self._child.close_input()

    def _take(self, data: bytes) -> None:
        self._unanswered += len(data)
        if self._held is not None:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > self._limits.held_bytes:
                self._held = None
        self._child.write(data)

    def _came(self, data: bytes) -> None:
        self._held = None
        self._unanswered = 0
        self._out.append(data)
        self._child.hold(0, held=sum(map(len, self._out)) > self._limits.output_bytes)
        self._changed.set()

    def _exited(self, code: int) -> None:
        if self._held is not None and code and self._adapt():
            try:
                self._begin_again(self._held)
            except RemuxError as error:
                self._error = error
            else:
                return
        self._over = True
        if self._error is None and (code or not self._whole):
            self._error = self._ended(code)
        self._changed.set()

    def _begin_again(self, held: list[bytes]) -> None:
        self._child = self._start()
        self._child.write(b"".join(held))
        if self._whole:
            self._child.close_input()

    def _adapt(self) -> bool:
        """Is there another way for what FLV does not carry in this one?"""
        kind, codec = self._refused()
        if kind == "Audio" and self._sound == "copy":
            self._sound = "aac"
        elif kind == "Video" and codec in _DECODED:
            self._picture = _AS_H264
        elif kind == "Video" and self._tool.newer is not None:
            self._tool = self._tool.newer
        else:
            return False
        return True

    def _refused(self) -> tuple[str, str]:
        """(Audio or Video, codec) that FLV does not carry; ("", "") if that is not why."""
        match = _REFUSED.search("\n".join(self._child.log))
        return (match[1], match[2]) if match else ("", "")

    def _ended(self, code: int) -> RemuxError:
        kind, codec = self._refused()
        if kind:
            return RemuxError(f"{codec} cannot be taken on; send H.264 and AAC or Opus")
        if code < 0:
            return DiedError(f"what reads it was killed by signal {-code}; send it again")
        return self._unreadable()

    def _unreadable(self) -> RemuxError:
        return RemuxError(f"not readable as {_NAMES[self._container]}")
