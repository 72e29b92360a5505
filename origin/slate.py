"""What viewers see while a publisher is gone and may come back: the clock, or a still picture.

Laws: it is a publisher like any other, a process that writes FLV in real time and goes through the
same encoder; the first real publisher replaces it. Silent. Does not know when it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .child import Child
from .ffmpeg import Ffmpeg
from .ladder import Plan

_CHUNKS_MAX: Final = 256  # that nobody took: it is ended
_RATE: Final = 500_000  # bit/s


@dataclass(frozen=True, slots=True, kw_only=True)
class Slate:
    """colour: as ffmpeg names it. still: shown instead of the clock. after_s: how long a publisher
    is awaited before."""

    colour: str = "0x101820"
    still: Path | None = None
    after_s: float = 1.0


def argv(slate: Slate, ffmpeg: Ffmpeg, plan: Plan, *, fd: int) -> list[str]:
    """The command that writes it to the pipe `fd`, as large as the best of `plan`, which has
    one."""
    best = plan.rungs[0]
    size = f"{best.width}:{best.height}"
    if slate.still is None:
        shown = ("-f", "lavfi", "-i", f"color=c={slate.colour}:s={best.width}x{best.height}")
        clock = "drawtext=font=monospace:text='%{localtime\\:%H\\\\\\:%M\\\\\\:%S}'"
        place = ":fontcolor=white:x=(w-text_w)/2:y=(h-text_h)/2"
        drawn = f"{clock}:fontsize={best.short // 6}{place}"
    else:
        shown = ("-loop", "1", "-i", str(slate.still))
        drawn = (
            f"scale={size}:force_original_aspect_ratio=decrease"
            f",pad={size}:-1:-1:color={slate.colour},setsar=1"
        )
    return [
        *(ffmpeg.path, "-hide_banner", "-loglevel", "warning", "-nostats", "-nostdin", *shown),
        *("-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo"),
        *("-map", "0:v", "-map", "1:a", "-vf", f"fps={plan.fps},realtime,{drawn}"),
        *("-af", "arealtime", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast"),
        *("-tune", "zerolatency", "-threads:v", "1", "-g", str(plan.fps), "-b:v", str(_RATE)),
        *("-c:a", "aac", "-b:a", "64k", "-f", "flv", "-flush_packets", "1", f"pipe:{fd}"),
    ]


async def chunks(slate: Slate, ffmpeg: Ffmpeg, plan: Plan) -> AsyncGenerator[bytes, None]:
    """Its FLV bytes, until the process ends; close it to end the process. Raises OSError when that
    cannot be started."""
    queue: asyncio.Queue[bytes] = asyncio.Queue(_CHUNKS_MAX)
    gone = asyncio.Event()

    def put(data: bytes) -> None:
        if not queue.full():
            queue.put_nowait(data)
        else:  # nobody reads, and a stream with a hole is none
            child.kill()

    def ended(_code: int) -> None:
        gone.set()
        put(b"")

    def command(fds: Sequence[int]) -> list[str]:
        return argv(slate, ffmpeg, plan, fd=fds[0])

    child = Child(command, tracks=1, on_output=lambda _, data: put(data), on_exit=ended)
    try:
        while not (gone.is_set() and queue.empty()) and (data := await queue.get()):
            yield data
    finally:
        child.kill()
        await gone.wait()
