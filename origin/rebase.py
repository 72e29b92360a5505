"""One continuous time line out of a publisher's time stamps.

Laws: sans-IO and clock-free. Output never goes back within a kind of tag, and never jumps more than
`JUMP_MS`. Sound and picture that jump together stay together: the one that jumps second takes the
first one's offset when that makes it continuous. Measured why: an encoder given a jump of +20 s
invents 600 frames and 20 s of silence at once; given a jump back it puts out nothing until the old
value is passed again. Source: RTMP time stamps wrap at 2^32 ms, which is such a jump, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

JUMP_MS: Final = 1000
_STEP_MS: Final = {
    8: 21,
    9: 33,
}  # one AAC frame, one picture: what follows a jump comes this much later


@dataclass(slots=True)
class _Track:
    offset: int  # ms added to what the publisher says
    last: int  # ms, newest output


class Timebase:
    """Time stamps of media tags, rebased so that the first one is 0."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self.jumps = 0

    @property
    def newest(self) -> int:
        """Newest output of any kind, ms; 0 before the first."""
        return max((track.last for track in self._tracks.values()), default=0)

    def rebase(self, kind: int, timestamp: int) -> int:
        """Output time in ms of a media tag of `kind` (flv.AUDIO, flv.VIDEO; a track beside the
        first: with its number in the next byte)."""
        track = self._tracks.get(kind)
        if track is None:
            track = self._tracks[kind] = self._first(timestamp)
        elif not self._fits(track, timestamp + track.offset):
            self.jumps += 1
            track.offset = self._offset_after_jump(kind, track, timestamp)
        track.last = max(track.last, timestamp + track.offset)
        return track.last

    def place(self, timestamp: int) -> int:
        """Where a data message of this time stamp stands among the media; its own is trusted within
        `JUMP_MS` of what came last (some publishers say 0)."""
        for track in self._tracks.values():
            if abs(timestamp + track.offset - self.newest) <= JUMP_MS:
                return max(0, timestamp + track.offset)
        return self.newest

    def _first(self, timestamp: int) -> _Track:
        newest = self.newest
        for other in self._tracks.values():
            if abs(timestamp + other.offset - newest) <= JUMP_MS:
                return _Track(other.offset, max(0, timestamp + other.offset))
        return _Track(newest - timestamp, newest)

    def _fits(self, track: _Track, out: int) -> bool:
        # Continuous with its own past, or in step with the other kind after a hole of its own.
        return abs(out - track.last) <= JUMP_MS or abs(out - self.newest) <= JUMP_MS

    def _offset_after_jump(self, kind: int, track: _Track, timestamp: int) -> int:
        for other in self._tracks.values():
            if other is not track and self._fits(track, timestamp + other.offset):
                return other.offset
        return track.last + _STEP_MS[kind & 0xFF] - timestamp
