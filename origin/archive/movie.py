"""A recording as one MP4 file: the segments it has, behind a head that names all of them. Sans-IO.

Laws: nothing is decoded, and the size of the file is known before its first byte, so that any range
of it can be sent: head and segments keep their sizes, and only fields inside of them are set (track
numbers, sequence numbers, decode times that begin at 0). It is fragmented (ISO/IEC 14496-12 8.8),
and says how long it is (`mehd`). It has no index: with a `sidx` of one reference a segment, ffmpeg
5.1 and 9.0 went to the segment after the one that was sought, without it to the right frame. Does
not know where the segments are.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from ..model import Kept
from ..names import init_path, segment_path
from ..timing import NS
from .recording import Recording, Sheet

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")

Read = Callable[[str], Awaitable[bytes]]  # the whole object at a path


@dataclass(frozen=True, slots=True)
class _Lane:
    """One track of the file. base: ticks that its decode times begin with."""

    name: str
    number: int
    timescale: int
    base: int


@dataclass(frozen=True, slots=True)
class _Piece:
    lane: _Lane
    kept: Kept


class Movie:
    """Of `tracks` of the recording: name -> init section. Raises ValueError when they do not go
    into one file."""

    def __init__(self, recording: Recording, tracks: dict[str, bytes]) -> None:
        self._recording = recording
        sheets = {name: recording.tracks[name] for name in tracks}
        for name, sheet in sheets.items():
            if len({init.digest for init in sheet.inits.values()}) > 1:
                raise ValueError(f"{name} was not encoded alike from beginning to end")
        begin_ns = min(sheet.segments[0].start_ns for sheet in sheets.values())
        self._lanes = [
            _Lane(name, number, scale, begin_ns * scale // NS)
            for number, (name, init) in enumerate(tracks.items(), 1)
            for scale in (_timescale(init),)
        ]
        self._pieces = list(_pieces(self._lanes, sheets))
        self.head = _head(self._lanes, list(tracks.values()), self._pieces)
        sizes = (len(self.head), *(piece.kept.size for piece in self._pieces))
        self._ends = list(accumulate(sizes))
        self.size = self._ends[-1]

    async def read(self, start: int, stop: int, read: Read) -> AsyncIterator[bytes]:
        """Bytes [start, stop), a segment at a time. Raises what `read` raises."""
        index = bisect_right(self._ends, start)
        at = self._ends[index - 1] if index else 0
        while at < stop:
            body = self.head if not index else await self._body(index - 1, read)
            yield body[max(0, start - at) : stop - at]
            at += len(body)
            index += 1

    async def _body(self, index: int, read: Read) -> bytes:
        piece = self._pieces[index]
        kept, name = piece.kept, piece.lane.name
        path = segment_path(self._recording.stream, kept.epoch, name, kept.msn)
        return _moved(await read(path), piece.lane, index + 1)


def tracks_of(recording: Recording, wanted: str = "") -> dict[str, str]:
    """Track -> path of its init section: the wanted picture (the best without a wish), the first
    sound. Raises KeyError for a track that is not there."""
    sheets = recording.whole
    video = [name for name, sheet in sheets.items() if _kind(sheet) == "video"]
    audio = [name for name, sheet in sheets.items() if _kind(sheet) == "audio"]
    if wanted and wanted not in sheets:
        raise KeyError(wanted)
    best = wanted or max(video, key=lambda name: sheets[name].size_bytes, default="")
    chosen = [name for name in (best, *audio[:1]) if name]
    found = {}
    for name in dict.fromkeys(chosen):
        number = min(sheets[name].inits)
        found[name] = init_path(recording.stream, sheets[name].inits[number].epoch, name, number)
    return found


def _kind(sheet: Sheet) -> str:
    return next(iter(sheet.inits.values())).rendition.kind


def _pieces(lanes: list[_Lane], sheets: dict[str, Sheet]) -> Iterator[_Piece]:
    """By number, then by track."""
    rows = [(kept.msn, lane.number, lane, kept) for lane in lanes
            for kept in sheets[lane.name].segments]  # fmt: skip
    for _, _, lane, kept in sorted(rows, key=lambda row: row[:2]):
        yield _Piece(lane, kept)


# -- boxes


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the box, its end). Raises ValueError on what our own packager never makes."""
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if not 8 <= size <= end - start:
            raise ValueError(f"box {kind!r} of {size} bytes in {end - start}")
        yield kind, start, start + size
        start += size


def _inside(data: bytes | bytearray, *path: bytes) -> tuple[int, int]:
    """Where the box is, by its type below those of its parents. Raises ValueError."""
    start, end = -8, len(data)
    for kind in path:
        for found, at, stop in _boxes(data, start + 8, end):
            if found == kind:
                start, end = at, stop
                break
        else:
            raise ValueError(f"no {kind.decode()} box")
    return start, end


def _box(kind: bytes, payload: bytes) -> bytes:
    return _U32.pack(8 + len(payload)) + kind + payload


def _cut(data: bytes, *path: bytes) -> bytearray:
    start, end = _inside(data, *path)
    return bytearray(data[start:end])


def _timescale(init: bytes) -> int:
    mdhd = _cut(init, b"moov", b"trak", b"mdia", b"mdhd")
    (scale,) = _U32.unpack_from(mdhd, 8 + (20 if mdhd[8] else 12))
    return int(scale)


def _head(lanes: list[_Lane], inits: list[bytes], pieces: list[_Piece]) -> bytes:
    """ftyp, moov of all tracks."""
    mvhd = _cut(inits[0], b"moov", b"mvhd")
    (scale,) = _U32.unpack_from(mvhd, 8 + (20 if mvhd[8] else 12))
    _U32.pack_into(mvhd, len(mvhd) - 4, len(lanes) + 1)  # next_track_ID
    traks, extends = b"", b""
    for lane, init in zip(lanes, inits, strict=True):
        trak = _cut(init, b"moov", b"trak")
        tkhd, _ = _inside(trak, b"trak", b"tkhd")
        _U32.pack_into(trak, tkhd + 8 + (20 if trak[tkhd + 8] else 12), lane.number)
        trex = _cut(init, b"moov", b"mvex", b"trex")
        _U32.pack_into(trex, 12, lane.number)
        traks += trak
        extends += trex
    span_ns = max(p.kept.end_ns for p in pieces) - min(p.kept.start_ns for p in pieces)
    mehd = _box(b"mehd", struct.pack(">IQ", 1 << 24, span_ns * scale // NS))
    moov = _box(b"moov", bytes(mvhd) + traks + _box(b"mvex", mehd + extends))
    return bytes(_cut(inits[0], b"ftyp")) + moov


def _moved(body: bytes, lane: _Lane, sequence: int) -> bytes:
    """The segment as part of the file: same size, other numbers."""
    data = bytearray(body)
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind != b"moof":
            continue
        for inner, at, stop in _boxes(data, start + 8, end):
            if inner == b"mfhd":
                _U32.pack_into(data, at + 12, sequence)
            elif inner == b"traf":
                _move_run(data, at, stop, lane)
    return bytes(data)


def _move_run(data: bytearray, start: int, end: int, lane: _Lane) -> None:
    for kind, at, _ in _boxes(data, start + 8, end):
        if kind == b"tfhd":
            _U32.pack_into(data, at + 12, lane.number)
        elif kind == b"tfdt":
            (time,) = _U64.unpack_from(data, at + 12)
            _U64.pack_into(data, at + 12, max(0, time - lane.base))
