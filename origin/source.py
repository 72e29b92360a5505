"""What a publisher sends, as far as an encoder must be told. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Since which ffmpeg FLV is read with such a picture; with sounds by code, or several, it is 8.0.
_SINCE: Final = {"hvc1": (6, 1), "av01": (6, 1), "vp09": (6, 1)}
_SOUNDS_SINCE: Final = (8, 0)
_MAX_SIDE: Final = 16384
_SOUND_CODES: Final = frozenset(("Opus", "ac-3", "ec-3", "fLaC"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the publisher sends. Codecs as in flv.Tag.codec, "" for none; sizes in pixels, 0 for
    none or unknown, fps: pictures a second as it says, 0.0 likewise. sides: (track, codec) of the
    sounds beside the first. turn: degrees clockwise that make the picture upright."""

    video: str
    audio: str
    width: int
    height: int
    fps: float = 0.0
    sides: tuple[tuple[int, str], ...] = ()
    turn: int = 0

    def __str__(self) -> str:
        picture = f"{self.video} {self.width}x{self.height}" if self.video else "no picture"
        picture += f", turned by {self.turn}°" if self.turn else ""
        sides = "".join(f", {codec} as {track}" for track, codec in self.sides)
        return f"{picture}, {self.audio}{sides}"

    @property
    def size(self) -> tuple[int, int] | None:
        """Of the picture as it is shown, (0, 0) when unknown; None without one."""
        upright = (self.height, self.width) if self.turn % 180 else (self.width, self.height)
        return upright if self.video else None

    @property
    def codecs(self) -> tuple[object, ...]:
        """A change of these needs another encoder."""
        return self.video, self.audio, self.sides

    @property
    def since(self) -> tuple[int, int]:
        """The oldest ffmpeg that reads it."""
        sounds = self.sides or self.audio in _SOUND_CODES
        return _SOUNDS_SINCE if sounds else _SINCE.get(self.video, (0, 0))


def told_size(width: object, height: object) -> tuple[int, int]:
    """Picture size from metadata, for codecs whose configuration we do not read; (0, 0) if
    absurd."""
    if not isinstance(width, float) or not isinstance(height, float):
        return 0, 0
    fits = 0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE
    return (int(width), int(height)) if fits else (0, 0)
