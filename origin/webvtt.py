"""WebVTT as HLS and DASH segments carry it: cues in, text out. Pure functions.

Laws: a part begins with a header and ends with an empty line, so that it can be read alone, and
parts one behind the other are one file: to a reader of that, a header further down is a block
without a time, which the format says to pass over (W3C WebVTT 6.1). What somebody says can neither
end its cue nor begin another: markup is escaped, empty lines are left out, and no cue is longer
than `CUE_BYTES`. Knows nothing of segments, clocks or who speaks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

TEXT_BYTES: Final = 400  # of a cue's text, escaped: four full lines of 40 letters, twice over
CUE_BYTES: Final = TEXT_BYTES + 44  # with its times
HEAD_BYTES: Final = 80

_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LINES: Final = re.compile(r"\r\n|[\r\n\u2028\u2029]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_WRAP: Final = 1 << 33  # of MPEG-2 time stamps


@dataclass(frozen=True, slots=True)
class Cue:
    """`text` as `clean` gives it, from `start_ms` until `end_ms` of media time."""

    start_ms: int
    end_ms: int
    text: str

    def __str__(self) -> str:
        return f"{_time(self.start_ms)} --> {_time(self.end_ms)}\n{self.text}\n\n"


def head(media_ms: int) -> str:
    """The header of a part. Cues are written in the media time of the other renditions, which DASH
    takes as it is; HLS is told what `media_ms` is as MPEG-2 has it: 33 bits of 90 kHz (RFC 8216bis
    3.1.4)."""
    mapped = f"LOCAL:{_time(media_ms)},MPEGTS:{media_ms * 90 % _WRAP}"
    return f"WEBVTT\nX-TIMESTAMP-MAP={mapped}\n\n"


def clean(said: str) -> str:
    """`said` as the text of a cue, cut where it is too long; "" when nothing of it can be shown."""
    lines = (_CONTROL.sub(" ", line).strip() for line in _LINES.split(said))
    room, found = TEXT_BYTES, []
    for character in "\n".join(line for line in lines if line):
        escaped = _ESCAPES.get(character, character)
        room -= len(escaped.encode("utf-8", "replace"))
        if room < 0:
            break
        found.append(escaped)
    return "".join(found).encode("utf-8", "replace").decode().strip()


def _time(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{ms:03}"
