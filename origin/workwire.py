"""What travels between a data centre and the worker that encodes rungs of a live stream there.

Both ways frames: kind, life, track, size, then so many bytes. A *life* is one encoder's, and has a
number that grows. To the worker: BEGIN (a `Life` in JSON; what was before ends), MEDIA (FLV, from
the configuration and a key frame on; empty: a sign of life), END (put out what is there). From it:
MEDIA (fMP4 of a track, by its number in the plan), END (all of it has come). Sans-IO. Bound: one
frame of `MAX_FRAME` bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from edgecache.errors import EdgeError
from edgecache.errors import Source as Fault

from .ffmpeg import Ffmpeg
from .ladder import Plan, argv
from .source import Source

BEGIN: Final = 1
MEDIA: Final = 2
END: Final = 3
MAX_FRAME: Final = 1 << 20

_HEAD: Final = struct.Struct(">BIBI")


class WireError(EdgeError):
    """Bytes that are no frames."""

    source: Fault = "downstream"


@dataclass(frozen=True, slots=True)
class Life:
    """What an encoder is to make of what source, and the media time of its first frame in s."""

    plan: Plan
    source: Source
    offset_s: float

    def command(self, ffmpeg: Ffmpeg) -> Callable[[Sequence[int]], list[str]]:
        """From the pipes' numbers: the one that all encoders of the life run."""
        plan, source = self.plan, self.source
        return lambda fds: argv(plan, ffmpeg, fds=fds, offset_s=self.offset_s, source=source)


_LIFE: Final = TypeAdapter(Life)


class Frame(NamedTuple):
    kind: int
    life: int
    track: int
    body: bytes


def frame(kind: int, life: int, body: bytes | memoryview = b"", *, track: int = 0) -> bytes:
    return b"".join((_HEAD.pack(kind, life, track, len(body)), body))


def media(life: int, data: bytes, *, track: int = 0) -> Iterator[bytes]:
    """As many frames as it takes."""
    view = memoryview(data)
    for start in range(0, len(data), MAX_FRAME):
        yield frame(MEDIA, life, view[start : start + MAX_FRAME], track=track)


PING: Final = frame(MEDIA, 0)


def begin(number: int, life: Life) -> bytes:
    return frame(BEGIN, number, _LIFE.dump_json(life))


def life_of(body: bytes) -> Life:
    """Raises WireError."""
    try:
        return _LIFE.validate_json(body)
    except ValueError as error:
        raise WireError(f"not a life: {error}") from None


class Frames:
    """feed() bytes in any cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """What became whole. Raises WireError, for good."""
        self._buffer += data
        found, start = [], 0
        while len(self._buffer) - start >= _HEAD.size:
            kind, life, track, size = _HEAD.unpack_from(self._buffer, start)
            if kind not in (BEGIN, MEDIA, END) or size > MAX_FRAME:
                raise WireError(f"found kind {kind} of {size} bytes, allowed {MAX_FRAME}")
            first = start + _HEAD.size
            if len(self._buffer) < first + size:
                break
            start = first + size
            found.append(Frame(kind, life, track, bytes(self._buffer[first:start])))
        del self._buffer[:start]
        return found
