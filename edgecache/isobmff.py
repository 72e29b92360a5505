"""Fragmented MP4: where in one a decoder may begin.

Laws: sans-IO; reads the initialisation and the heads of fragments, passes on all other boxes as
they come. Bound: HEAD_BYTES of a box that is waited for; behind a larger one, or behind what is no
box, nothing is understood any more. A fragment that says where its samples are counted from the
beginning of the *body* is made to say it from its own, in its place, so that it means the same in
another body: one that means some other place is none to begin with. Source: ISO/IEC 14496-12 8.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .pieces import ByteReader, Mark

HEAD_BYTES: Final = 1 << 20
_FOR_GOOD: Final = 1 << 62
_NOT_SYNC: Final = 0x10000  # sample_is_non_sync_sample
_BASE_OFFSET: Final = 0x000001  # flags of tfhd
_DESCRIPTION: Final = 0x000002
_DURATION: Final = 0x000008
_SIZE: Final = 0x000010
_FLAGS: Final = 0x000020
_BASE_IS_MOOF: Final = 0x020000
_FREE: Final = b"\0\0\0\x08free"


@dataclass(slots=True)
class _Track:
    number: int = 0
    scale: int = 0  # ticks a second
    kind: bytes = b""
    flags: int = 0  # of samples, unless a fragment says other ones


class BoxReader(ByteReader):
    """An entry: a fragment that begins with a sync sample of the picture, any one of sound without
    a picture."""

    def __init__(self) -> None:
        super().__init__()
        self._tracks: dict[int, _Track] = {}
        self._lead: _Track | None = None

    def look(self, at: int, marks: list[Mark]) -> int:
        ahead = len(self.buffer) - at
        if ahead < 8:
            return 0
        size = _word(self.buffer, at)
        kind = bytes(self.buffer[at + 4 : at + 8])
        if size == 1:
            if ahead < 16:
                return 0
            size = int.from_bytes(self.buffer[at + 8 : at + 16])
        is_read = kind in (b"ftyp", b"moov", b"moof")
        if size < 8 or (is_read and size > HEAD_BYTES):
            return _FOR_GOOD
        if not is_read:
            return size
        if ahead < size:
            return 0
        if kind == b"moof":
            self._fragment(self.buffer, at + 8, at + size, marks)
            return size
        if kind == b"moov":
            self._movie(self.buffer, at + 8, at + size)
        marks += (Mark(at, sets=kind.decode()), Mark(at + size))
        return size

    def _movie(self, buffer: bytearray, begin: int, end: int) -> None:
        self._tracks.clear()
        defaults: dict[int, int] = {}
        for kind, first, last in _boxes(buffer, begin, end):
            if kind == b"trak":
                track = _track(buffer, first, last)
                if track.scale:
                    self._tracks[track.number] = track
            elif kind == b"mvex":
                for inner, at, until in _boxes(buffer, first, last):
                    if inner == b"trex" and until - at >= 24:
                        defaults[_word(buffer, at + 4)] = _word(buffer, at + 20)
        for number, track in self._tracks.items():
            track.flags = defaults.get(number, 0)
        ranked = sorted(self._tracks.values(), key=lambda one: one.kind != b"vide")
        self._lead = ranked[0] if ranked else None

    def _fragment(self, buffer: bytearray, begin: int, end: int, marks: list[Mark]) -> None:
        at = begin - 8
        is_movable, entry = True, None
        for kind, first, last in _boxes(buffer, begin, end):
            if kind == b"traf":
                is_movable &= self._move(buffer, first, last, self.position + at)
                entry = entry or self._entry(buffer, first, last, at)
        if is_movable and entry:
            marks.append(entry)

    def _move(self, buffer: bytearray, begin: int, end: int, position: int) -> bool:
        """Have its offsets counted from the fragment at `position`. False: they are not."""
        for kind, first, last in _boxes(buffer, begin, end):
            if kind != b"tfhd" or last - first < 16 or not _word(buffer, first) & _BASE_OFFSET:
                continue
            if int.from_bytes(buffer[first + 8 : first + 16]) != position:
                return False
            flags = _word(buffer, first) & ~_BASE_OFFSET | _BASE_IS_MOOF
            buffer[first - 8 : first - 4] = (last - first).to_bytes(4)
            rest = bytes(buffer[first + 16 : last])
            buffer[first:last] = b"".join(
                (flags.to_bytes(4), bytes(buffer[first + 4 : first + 8]), rest, _FREE)
            )
        return True

    def _entry(self, buffer: bytearray, begin: int, end: int, at: int) -> Mark | None:
        """What begins with this run of samples, if that is of the lead."""
        found = {
            kind: (first, last) for kind, first, last in reversed([*_boxes(buffer, begin, end)])
        }
        if self._lead is None or not {b"tfhd", b"tfdt", b"trun"} <= found.keys():
            return None
        head, (time, _), run = found[b"tfhd"], found[b"tfdt"], found[b"trun"]
        if _word(buffer, head[0] + 4) != self._lead.number:
            return None
        flags = _first_flags(buffer, run, _default_flags(buffer, head, self._lead.flags))
        if flags & _NOT_SYNC and self._lead.kind == b"vide":
            return None
        ticks = int.from_bytes(buffer[time + 4 : time + (12 if _word(buffer, time) >> 24 else 8)])
        return Mark(at, is_entry=True, at_ms=1000 * ticks / self._lead.scale)


def _boxes(buffer: bytearray, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, where its content begins, where that ends) of each whole box within a whole one."""
    while begin + 8 <= end:
        size = _word(buffer, begin)
        if size < 8 or begin + size > end:
            return
        yield bytes(buffer[begin + 4 : begin + 8]), begin + 8, begin + size
        begin += size


def _word(buffer: bytearray, at: int) -> int:
    return int.from_bytes(buffer[at : at + 4])


def _track(buffer: bytearray, begin: int, end: int) -> _Track:
    track = _Track()
    for kind, first, last in _boxes(buffer, begin, end):
        if kind == b"tkhd":
            track.number = _word(buffer, first + (20 if _word(buffer, first) >> 24 else 12))
        elif kind == b"mdia":
            for inner, at, _ in _boxes(buffer, first, last):
                if inner == b"mdhd":
                    track.scale = _word(buffer, at + (20 if _word(buffer, at) >> 24 else 12))
                elif inner == b"hdlr":
                    track.kind = bytes(buffer[at + 8 : at + 12])
    return track


def _default_flags(buffer: bytearray, head: tuple[int, int], otherwise: int) -> int:
    told = _word(buffer, head[0])
    if not told & _FLAGS:
        return otherwise
    before = {_BASE_OFFSET: 8, _DESCRIPTION: 4, _DURATION: 4, _SIZE: 4}
    return _word(buffer, head[0] + 8 + sum(n for flag, n in before.items() if told & flag))


def _first_flags(buffer: bytearray, run: tuple[int, int], otherwise: int) -> int:
    """Of the first sample of a run."""
    at, told = run[0] + 8, _word(buffer, run[0])
    at += 4 if told & 0x01 else 0  # data offset
    if told & 0x04:  # said of the first
        return _word(buffer, at)
    if told & 0x400:  # said of each
        return _word(buffer, at + (4 if told & 0x100 else 0) + (4 if told & 0x200 else 0))
    return otherwise
