"""The built-in broadcaster: a moving picture with a burnt-in wall clock, and a tone.

Laws: it is a publisher like any other and goes through the front door (an rtmp:// URL), or to any
FLV output. Pure: makes the command, starts nothing. The clock shows when the frame was made, twice:
local time for people, and along the lower edge a *barcode* for programs. That is `BARCODE_BITS`
blocks of equal width and 1/`BARCODE_PART` of the height, white 1 and black 0, left to right: the
low 32 bits of the unix time in ms, highest first, then the low 8 of them again, inverted, to tell
it from a picture without one. A block is 8 pixels wide at 180p, so it survives any rung.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .ffmpeg import Ffmpeg

BARCODE_BITS: Final = 40
BARCODE_PART: Final = 18
_TIME_BITS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Sizes in pixels, rate in bit/s. A keyframe every `fps` frames: what a new encoder replays."""

    width: int = 640
    height: int = 360
    fps: int = 30
    bitrate: int = 1_500_000
    tone_hz: int = 440
    seconds: float | None = None  # None: until it is stopped


def argv(ffmpeg: Ffmpeg, target: str, pattern: Pattern | None = None) -> list[str]:
    """The command that publishes to `target`: an rtmp:// URL, or an ffmpeg output such as
    pipe:1."""
    pattern = pattern or Pattern()
    size = f"{pattern.width}x{pattern.height}"
    rate = str(pattern.bitrate)
    # %3N: milliseconds; drawtext knows it from 5.1 on.
    clock = (
        "drawtext=font=monospace:text='%{localtime\\:%H\\\\\\:%M\\\\\\:%S.%3N}'"
        f":fontsize={pattern.height // 9}:fontcolor=white:box=1:boxcolor=black:boxborderw=8"
        ":x=(w-text_w)/2:y=h*0.12"
    )
    picture = f"realtime,{clock},{_barcode(pattern)}"
    limit = () if pattern.seconds is None else ("-t", f"{pattern.seconds:g}")
    flush = ("-tcp_nodelay", "1") if target.startswith("rtmp://") else ()
    return [
        *(ffmpeg.path, "-hide_banner", "-loglevel", "warning", "-nostats", "-nostdin"),
        *("-f", "lavfi", "-i", f"testsrc2=s={size}:r={pattern.fps}"),
        *("-f", "lavfi", "-i", f"sine=frequency={pattern.tone_hz}:sample_rate=48000"),
        *("-map", "0:v", "-map", "1:a", *limit, "-vf", picture, "-af", "arealtime"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-threads:v", "1"),
        *("-pix_fmt", "yuv420p", "-profile:v", "baseline"),
        *("-b:v", rate, "-maxrate", rate, "-bufsize", rate, "-g", str(pattern.fps)),
        *("-c:a", "aac", "-b:a", "96k", "-ac", "2"),
        *("-f", "flv", "-flush_packets", "1", *flush, target),
    ]


def _barcode(pattern: Pattern) -> str:
    """Filters that draw the time at which they see a frame: its time stamp becomes the clock's, a
    row of one pixel a bit is computed from it and blown up, and the stamp is made regular again."""
    bit = f"if(lt(X,{_TIME_BITS}),{_TIME_BITS - 1}-X,{BARCODE_BITS - 1}-X)"
    value = f"mod(floor(floor(T*1000+0.5)/pow(2,{bit})),2)"
    level = f"16+219*if(lt(X,{_TIME_BITS}),{value},1-{value})"
    height = 2 * round(pattern.height / BARCODE_PART / 2)
    return (
        "settb=1/1000,setpts=RTCTIME/1000,split[picture][stamp]"
        f";[stamp]crop={BARCODE_BITS}:2:0:0,format=gray,geq=lum='{level}'"
        f",scale={pattern.width}:{height}:flags=neighbor[bars]"
        f";[picture][bars]overlay=0:H-h,settb=1/{pattern.fps},setpts=N"
    )
