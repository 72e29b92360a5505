"""Bodies by name: every path of the origin stub has one body, the same in every run and process.

Paths: /blob/<size>/<name>, /late/<ms>/<size>/<name>,
/trickle/<ms>/<over ms>/<chunks>/<size>/<name>.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from .errors import BenchError

_SIZE_MAX: Final = 64 << 20
_DELAY_MAX_MS: Final = 60_000
_CHUNKS_MAX: Final = 1000


@dataclass(frozen=True)
class Blob:
    """One object. `delay_ms` until the head and the first of `chunks`, which are spread evenly over
    `over_ms`."""

    path: str
    size: int
    delay_ms: int = 0
    over_ms: int = 0
    chunks: int = 1

    def body(self) -> bytes:
        return hashlib.shake_128(self.path.encode()).digest(self.size)

    def chunk_ends(self) -> list[int]:
        """Body offset at which each chunk ends, evenly cut."""
        return [self.size * (n + 1) // self.chunks for n in range(self.chunks)]


def content_type(path: str) -> str:
    return "application/vnd.apple.mpegurl" if path.endswith(".m3u8") else "video/mp4"


def parse(path: str) -> Blob:
    """The blob a path names. Raises BenchError for any other path."""
    match path.split("/"):
        case ["", "blob", size, _name]:
            return Blob(path, _number(path, size, _SIZE_MAX))
        case ["", "late", delay, size, _name]:
            delay_ms = _number(path, delay, _DELAY_MAX_MS)
            return Blob(path, _number(path, size, _SIZE_MAX), delay_ms)
        case ["", "trickle", delay, over, chunks, size, _name]:
            return Blob(
                path,
                _number(path, size, _SIZE_MAX),
                delay_ms=_number(path, delay, _DELAY_MAX_MS),
                over_ms=_number(path, over, _DELAY_MAX_MS),
                chunks=max(1, _number(path, chunks, _CHUNKS_MAX)),
            )
    raise BenchError(f"{path}: not a path of the stub origin")


def late(size: int, *, delay_ms: int, over_ms: int = 0, chunks: int = 1) -> Blob:
    """An object that the origin is slow to make."""
    if chunks == 1:
        return parse(f"/late/{delay_ms}/{size}/late.m4s")
    return parse(f"/trickle/{delay_ms}/{over_ms}/{chunks}/{size}/late.m4s")


def _number(path: str, text: str, limit: int) -> int:
    if not text.isdigit() or int(text) > limit:
        raise BenchError(f"{path}: {text!r} is not a number in 0..{limit}")
    return int(text)
