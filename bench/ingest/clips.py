"""What publishers send, as tags: made once by a real encoder, from a test picture and a tone.

Law: small pictures, so that many broadcasts fit on one machine; a second of GOP unless said.
"""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from edgecache.flv import HEADER, FlvReader, Tag
from origin.ffmpeg import Ffmpeg, find

from ..errors import BenchError

FPS: Final = 30
_RUN_S: Final = 60
_MAKING: Final = threading.Lock()
_NEWER: Final = (8, 0)  # what enhanced FLV with all of its codecs needs
X264: Final = "-c:v libx264 -preset ultrafast -tune zerolatency -g 30"
# As OBS Studio sends by default: CBR, two B-frames, a keyframe every 2 s.
OBS: Final = (
    "-c:v libx264 -preset veryfast -profile:v high -b:v 300k -maxrate 300k -bufsize 300k"
    " -x264-params nal-hrd=cbr:scenecut=0 -bf 2 -g 60"
)
HEVC: Final = (
    "-c:v libx265 -preset ultrafast -tune zerolatency -x265-params log-level=error:keyint=30"
)
AV1: Final = "-c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0 -g 30"
AAC: Final = "-c:a aac -b:a 64k"
OPUS: Final = "-c:a libopus -b:a 64k"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """seconds long; video and audio: encoder options, "" for none; rate and filters of the
    picture."""

    seconds: float
    video: str = X264
    audio: str = AAC
    size: str = "160x90"
    rate: int = FPS
    filters: str = "null"

    @property
    def enhanced(self) -> bool:
        """Is it sent as Enhanced RTMP?"""
        return any(code in self.video + self.audio for code in ("x265", "av1", "opus"))


def tool(clip: Clip) -> Ffmpeg:
    """The ffmpeg that can write it."""
    found = find()
    able = found.since(_NEWER) if clip.enhanced else found
    if able is None:
        raise BenchError("enhanced RTMP needs ffmpeg >= 8.0: pip install imageio-ffmpeg")
    return able


def command(clip: Clip, *, paced: bool = False) -> list[str]:
    """ffmpeg up to its output. paced: at the pace of the clock."""
    pace = ("-re",) if paced else ()
    inputs, maps = [], []
    if clip.video:
        inputs += [*pace, "-f", "lavfi", "-i", f"testsrc2=s={clip.size}:r={clip.rate}"]
        maps += ["-map", "0:v", "-vf", clip.filters, "-fps_mode", "vfr", "-pix_fmt", "yuv420p"]
        maps += clip.video.split()
    if clip.audio:
        inputs += [*pace, "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
        maps += ["-map", f"{1 if clip.video else 0}:a", "-ac", "2", *clip.audio.split()]
    head = [tool(clip).path, "-hide_banner", "-loglevel", "error", "-nostdin"]
    return [*head, *inputs, *maps, "-t", f"{clip.seconds:g}", "-flush_packets", "1"]


def tags(clip: Clip) -> tuple[Tag, ...]:
    """In the order in which they are sent. Many threads may ask; each clip is made once."""
    with _MAKING:
        return _made(clip)


@cache
def _made(clip: Clip) -> tuple[Tag, ...]:
    run = subprocess.run(
        [*command(clip), "-f", "flv", "-flvflags", "no_duration_filesize", "pipe:1"],
        capture_output=True,
        timeout=_RUN_S,
        check=False,
    )
    if run.returncode:
        raise BenchError(f"ffmpeg: {run.stderr.decode(errors='replace').strip()[-300:]}")
    return tuple(FlvReader().feed(run.stdout))


def written(clip: Clip, folder: Path) -> Path:
    """The same as a file."""
    path = folder / f"{hash(clip):x}.flv"
    path.write_bytes(HEADER + b"".join(tag.encode() for tag in tags(clip)))
    return path
