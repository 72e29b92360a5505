"""Which of the host's encoders of H.264 are used, and until when.

Laws: one is used only if it made a few pictures just now, confined as it will be, with key frames
where they were forced. `auto` tries those whose device is there, and passes over what does not
work; what is named must work, or it is an error. A stream whose encoder ended by itself or stood
still goes on in software until its publisher's next session; a signal says nothing of the hardware.
"""

from __future__ import annotations

import glob
import logging
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from edgecache.errors import ConfigError

from . import coders, ffmpeg, sandbox
from .cmaf import Demuxer, Frame, Init
from .config import Encoder
from .ffmpeg import Ffmpeg
from .ladder import cmaf_output

log = logging.getLogger(__name__)

_PROBE_S: Final = 10.0
_SIZE: Final = (256, 144)  # a small rung: each hardware has its smallest size
_FPS: Final = 30
_KEY_S: Final = 0.2  # which also asks for one that the encoder's own interval has not
_PICTURES: Final = 15
_KEYS: Final = [0, 6, 12]
_NO_PARAMETERS: Final = "avc1.000000"


def find(told: Encoder) -> Ffmpeg:
    """The configured ffmpeg with its encoder of H.264. Raises ConfigError, one line."""
    tool = ffmpeg.find(told.ffmpeg)
    if told.h264 == "libx264":
        return tool
    if told.h264 == "auto":
        return _equipped(tool, present())
    if why := problem(tool, told.h264):
        allowed = 'allowed is "auto", "libx264" or one that works here'
        raise ConfigError([f"encoder.h264: found {told.h264}: {why} ({tool}); {allowed}"])
    newer = _equipped(tool.newer, (told.h264,)) if tool.newer else None
    return replace(tool, h264=told.h264, newer=newer)


def heed(tool: Ffmpeg, restarts: Mapping[str, int], stream: str) -> Ffmpeg:
    """What the next life of an encoder is to use, when earlier ones ended so."""
    if tool == tool.software or not (restarts["exit"] or restarts["stall"]):
        return tool
    told = {"stream": stream, "lost": tool.h264}
    log.warning("hardware encoder failed, libx264 goes on", extra=told)
    return tool.software


def present() -> tuple[str, ...]:
    """The encoders whose device is here."""
    return tuple(each.name for each in coders.HARDWARE.values() if glob.glob(each.devices))


def problem(tool: Ffmpeg, name: str) -> str:
    """Why that encoder is of no use here, "" if it is."""
    with subprocess.Popen(
        [*sandbox.prefix(), *_command(tool, name)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=sandbox.ENVIRONMENT,
        cwd="/",
    ) as process:
        sandbox.limit(process.pid)
        try:
            made, said = process.communicate(timeout=_PROBE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return f"made no {_PICTURES} pictures in {_PROBE_S:g} s"
    return _reason(said) if process.returncode else _judge(made)


def _equipped(tool: Ffmpeg, names: Iterable[str]) -> Ffmpeg:
    """With the first of `names` that works, and a newer one with its own."""
    newer = _equipped(tool.newer, names) if tool.newer else None
    for name in names:
        why = problem(tool, name)
        if not why:
            return replace(tool, h264=name, newer=newer)
        told = {"encoder": name, "ffmpeg": tool.path, "why": why}
        log.info("hardware encoder passed over", extra=told)
    return replace(tool, newer=newer)


def _command(tool: Ffmpeg, name: str) -> list[str]:
    coder = coders.HARDWARE[name]
    width, height = _SIZE
    pictures = f"testsrc2=size={width}x{height}:rate={_FPS}"
    return [
        *(tool.path, "-hide_banner", "-loglevel", "error", "-nostats", "-nostdin"),
        *(*coder.opening, "-f", "lavfi", "-i", pictures),
        *("-filter_complex", f"[0:v]setsar=1{coder.upload}[v]", "-map", "[v]"),
        *coders.options(
            "h264", name, preset="", threads=1, bitrate=300_000, fps=_FPS, segment_s=_KEY_S
        ),
        *("-frames:v", str(_PICTURES), *cmaf_output(1, 0.0)),
    ]


def _reason(said: bytes) -> str:
    """The first line of what ffmpeg said, without who said it: those after it are consequences."""
    lines = said.decode("utf-8", "replace").split("\n")
    return re.sub(r"^(\[[^]]*\] )+", "", lines[0]).strip() or "failed without a word"


def _judge(made: bytes) -> str:
    items = Demuxer().feed(made)
    frames = [item for item in items if isinstance(item, Frame)]
    init = next((item for item in items if isinstance(item, Init)), None)
    if init is None or init.codec == _NO_PARAMETERS:
        return "made no init section that tells how to decode it"
    if len(frames) != _PICTURES:
        return f"made {len(frames)} pictures of {_PICTURES}"
    keys = [at for at, frame in enumerate(frames) if frame.sync]
    if keys != _KEYS:
        return f"made key frames at {keys}, not at {_KEYS}"
    return "reordered pictures" if any(frame.cts for frame in frames) else ""
