"""The built-in broadcaster: a moving picture with a burnt-in wall clock, and a tone.

Laws: it is a publisher like any other and goes through the front door (an rtmp:// URL), or to any
FLV output. Pure: makes the command, starts nothing. The clock shows local time in milliseconds, so
that latency can be read off a screen.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ffmpeg import Ffmpeg


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
    limit = () if pattern.seconds is None else ("-t", f"{pattern.seconds:g}")
    flush = ("-tcp_nodelay", "1") if target.startswith("rtmp://") else ()
    return [
        *(ffmpeg.path, "-hide_banner", "-loglevel", "warning", "-nostats", "-nostdin"),
        *("-re", "-f", "lavfi", "-i", f"testsrc2=s={size}:r={pattern.fps}"),
        *("-re", "-f", "lavfi", "-i", f"sine=frequency={pattern.tone_hz}:sample_rate=48000"),
        *("-map", "0:v", "-map", "1:a", *limit, "-vf", clock),
        *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-threads:v", "1"),
        *("-pix_fmt", "yuv420p", "-profile:v", "baseline"),
        *("-b:v", rate, "-maxrate", rate, "-bufsize", rate, "-g", str(pattern.fps)),
        *("-c:a", "aac", "-b:a", "96k", "-ac", "2"),
        *("-f", "flv", "-flush_packets", "1", *flush, target),
    ]
