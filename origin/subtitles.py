"""What a publisher says in words -> WebVTT parts, one for each part of the picture. Sans-IO.

Laws: untrusted input: what cannot be read gives nothing, never an exception. Every segment holds
each cue that is shown during it once, in its first part that the cue is shown in; a cue that
crosses into the next segment is repeated there, with the same times (RFC 8216bis 3.1.4). What has
left never changes: a cue that comes late begins where nothing has left yet. Without a duration of
its own a text is shown for as long as reading takes, or until the next one, if that comes before
the first part with it has left. Bounds: `CUES` in a segment and as many that wait, of a track; more
are dropped and counted.
Knows nothing of FLV, names or playlists.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgecache import amf

from . import webvtt
from .model import Rendition
from .timing import Timing

MESSAGES: Final = frozenset(("onTextData", "onCaption"))
CUES: Final = 8

_MS: Final = 1_000_000
_MAX_SECONDS: Final = 60.0
_READING_MS: Final = 60  # a letter
_SHOWN_MS: Final = (1_500, 6_000)


@dataclass(frozen=True, slots=True)
class Told:
    """text: as a cue shows it, "" takes away what is shown. language: as the publisher said it, ""
    for none. duration_ms: 0 when it said none."""

    text: str
    language: str
    duration_ms: int


def told_of(values: Sequence[amf.Value]) -> Told | None:
    """The data message `values` (name, object) as words. None: it is another one, or of no use."""
    if len(values) < 2 or values[0] not in MESSAGES or not isinstance(values[1], dict):
        return None
    said = values[1]
    text, language, seconds = said.get("text"), said.get("language"), said.get("duration")
    if not isinstance(text, str):
        return None
    told = isinstance(seconds, float) and math.isfinite(seconds) and 0 < seconds <= _MAX_SECONDS
    return Told(
        text=webvtt.clean(text),
        language=language.lower() if isinstance(language, str) else "",
        duration_ms=round(1000 * seconds) if told and isinstance(seconds, float) else 0,
    )


def bandwidth(segment_s: float, parts: int) -> int:
    """Bit/s that a track never exceeds in a segment."""
    return math.ceil(8 * (CUES * webvtt.CUE_BYTES + parts * webvtt.HEAD_BYTES) / segment_s)


@dataclass(slots=True)
class _Waiting:
    """Times in ms of media. msn: the segment it was written in last; -1: none. timed: it came with
    a duration."""

    start_ms: int
    end_ms: int
    text: str
    timed: bool
    msn: int = -1


class _Track:
    """The cues of one language, in the order they were told."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._written = (-1, 0)  # segment, and how many cues it has
        self._until_ns = 0  # end of the newest part

    def tell(self, told: Told, at_ms: int) -> bool:
        """False when there is no room."""
        start_ms = max(at_ms, -(-self._until_ns // _MS))
        for cue in self._waiting:
            if not cue.timed and cue.msn < 0:
                cue.end_ms = min(cue.end_ms, start_ms)
        self._waiting = [cue for cue in self._waiting if cue.start_ms < cue.end_ms]
        if not told.text:
            return True
        if len(self._waiting) >= CUES:
            return False
        shortest, longest = _SHOWN_MS
        reading_ms = min(max(_READING_MS * len(told.text), shortest), longest)
        end_ms = start_ms + (told.duration_ms or reading_ms)
        self._waiting.append(_Waiting(start_ms, end_ms, told.text, bool(told.duration_ms)))
        return True

    def begin(self, at_ms: int) -> None:
        """Another encoder: media goes on at `at_ms`, and so does what is being shown."""
        shift_ms = at_ms - self._until_ns // _MS
        for cue in self._waiting:
            cue.start_ms, cue.end_ms = max(cue.start_ms + shift_ms, at_ms), cue.end_ms + shift_ms
        self._waiting = [cue for cue in self._waiting if cue.end_ms > at_ms]
        self._until_ns = at_ms * _MS

    def take(self, msn: int, start_ns: int, end_ns: int) -> tuple[list[_Waiting], int]:
        """What is to be written in the part of segment `msn` that lasts from `start_ns` to
        `end_ns`, and how many cues that segment has no room for."""
        self._waiting = [cue for cue in self._waiting if cue.end_ms * _MS > start_ns]
        due = [cue for cue in self._waiting if cue.start_ms * _MS < end_ns and cue.msn != msn]
        count = self._written[1] if self._written[0] == msn else 0
        due, surplus = due[: CUES - count], due[CUES - count :]
        for cue in due:
            cue.msn = msn
        self._written = msn, count + len(due)
        self._waiting = [
            cue for cue in self._waiting if cue.end_ms * _MS > end_ns and cue not in surplus
        ]
        self._until_ns = end_ns
        return due, len(surplus)


class Subtitles:
    """The text tracks among `renditions`. say() and part() are called in the order of the media."""

    def __init__(self, renditions: Sequence[Rendition], timing: Timing) -> None:
        texts = [rendition for rendition in renditions if rendition.kind == "text"]
        self.tracks = tuple(rendition.track for rendition in texts)
        self.dropped: Counter[str] = Counter()  # texts, by reason
        self._timing = timing
        self._tracks = {track: _Track() for track in self.tracks}
        self._languages = {rendition.language.lower(): rendition.track for rendition in texts[::-1]}
        if self.tracks:  # what comes without a language is of the first
            self._languages[""] = self.tracks[0]
        self._first_msn = 0

    def begin(self, first_msn: int) -> None:
        """A generation begins with this segment."""
        self._first_msn = first_msn
        for track in self._tracks.values():
            track.begin(first_msn * self._timing.segment_ms)

    def say(self, told: Told, at_ms: int) -> None:
        """At `at_ms` of the generation's media."""
        name = self._languages.get(told.language)
        if name is None:
            self.dropped["text_language"] += 1
        elif not self._tracks[name].tell(told, self._first_msn * self._timing.segment_ms + at_ms):
            self.dropped["text_room"] += 1

    def part(self, name: str, msn: int, start_ns: int, end_ns: int) -> bytes:
        """The part of segment `msn` from `start_ns` to `end_ns`, behind the ones before it."""
        due, surplus = self._tracks[name].take(msn, start_ns, end_ns)
        self.dropped += Counter(text_room=surplus)
        lines = [webvtt.head(msn * self._timing.segment_ms)]
        lines += (str(webvtt.Cue(cue.start_ms, cue.end_ms, cue.text)) for cue in due)
        return "".join(lines).encode()
