"""A WebVTT segment as a player reads it: its cues in the time of the other renditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

WRAP_S: Final = (1 << 33) / 90_000

_TIME: Final = r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})"
_HEAD: Final = re.compile(rf"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:{_TIME},MPEGTS:(\d{{1,10}})")
_CUE: Final = re.compile(rf"{_TIME} --> {_TIME}\n(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cue:
    """Times in seconds, as MPEG-2 wraps them."""

    start_s: float
    end_s: float
    text: str


def _seconds(parts: tuple[str, ...]) -> float:
    hours, minutes, seconds, ms = map(int, parts)
    return 3600 * hours + 60 * minutes + seconds + ms / 1000


def read(body: bytes) -> list[Cue]:
    """Raises ValueError for anything but headers and cues, each ended by an empty line."""
    *blocks, rest = body.decode().split("\n\n")
    if rest or not blocks or not blocks[0].startswith("WEBVTT\n"):
        raise ValueError(f"no WebVTT: {body!r}")
    found, offset_s = [], 0.0
    for block in blocks:
        if head := _HEAD.fullmatch(block):
            offset_s = int(head[5]) / 90_000 - _seconds(head.groups()[:4])
        elif cue := _CUE.fullmatch(block):
            times = (_seconds(cue.groups()[at : at + 4]) + offset_s for at in (0, 4))
            start_s, end_s = (round(time, 3) for time in times)
            found.append(Cue(start_s, end_s, cue[9]))
        else:
            raise ValueError(f"neither header nor cue: {block!r}")
    return found
