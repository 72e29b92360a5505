"""Matroska and WebM: where in one a decoder may begin.

Laws: sans-IO; reads what says which tracks there are, and of a cluster its time and the heads of
its blocks up to the first one of the picture; passes on everything else as it comes. Bounds:
HEAD_BYTES of an element that is waited for, LOOK_BYTES of a cluster; behind a larger one of the
first kind, or behind what is no element, nothing is understood any more. Source: RFC 8794 (EBML),
RFC 9559 (Matroska).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .pieces import ByteReader, Mark

HEAD_BYTES: Final = 1 << 20
LOOK_BYTES: Final = 16 << 10
_FOR_GOOD: Final = 1 << 62
_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_INFO: Final = 0x1549A966
_TRACKS: Final = 0x1654AE6B
_CLUSTER: Final = 0x1F43B675
_READ: Final = {_EBML: "0 head", _INFO: "2 info", _TRACKS: "3 tracks"}
_TIMESTAMP: Final = 0xE7
_SIMPLE_BLOCK: Final = 0xA3
_BLOCK_GROUP: Final = 0xA0
_SCALE: Final = 0x2AD7B1
_TRACK: Final = 0xAE
_NUMBER: Final = 0xD7
_TYPE: Final = 0x83
_PICTURE: Final = 1
_BLOCK_HEAD: Final = 11  # number, time and flags of a block, or all of a time


class EbmlReader(ByteReader):
    """An entry: a cluster whose first picture is a key frame, any one without a picture. Segments
    and clusters are gone into, however long they say that they are."""

    def __init__(self) -> None:
        super().__init__()
        self._scale_ms = 1.0  # of a cluster's time
        self._lead = 0  # number of the track whose beginnings count
        self._has_picture = False

    def look(self, at: int, marks: list[Mark]) -> int:
        name, size, head = _head(self.buffer, at)
        if not head:
            return 0
        if name == _CLUSTER:
            return head if self._cluster(at, head, marks) else 0
        if name == _SEGMENT:
            marks += (Mark(at, sets="1 segment"), Mark(at + head))
            return head
        if size is None or (name in _READ and size > HEAD_BYTES):
            return _FOR_GOOD
        if name not in _READ:
            return head + size
        if len(self.buffer) - at < head + size:
            return 0
        body = self.buffer[at + head : at + head + size]
        if name == _INFO:
            for inner, value in _elements(body):
                if inner == _SCALE:
                    self._scale_ms = int.from_bytes(value) / 1e6
        elif name == _TRACKS:
            self._tracks(body)
        marks += (Mark(at, sets=_READ[name]), Mark(at + head + size))
        return head + size

    def _tracks(self, body: bytearray) -> None:
        found = []
        for name, entry in _elements(body):
            if name == _TRACK:
                told = dict(_elements(entry))
                kind, number = (int.from_bytes(told.get(x, b"")) for x in (_TYPE, _NUMBER))
                found.append((kind != _PICTURE, number))
        if found:
            is_sound, self._lead = min(found)
            self._has_picture = not is_sound

    def _cluster(self, at: int, head: int, marks: list[Mark]) -> bool:
        """Mark one that may be begun with. False: more is needed to know."""
        buffer, begin, time = self.buffer, at + head, 0
        while begin - at < LOOK_BYTES:
            name, size, inner = _head(buffer, begin)
            begin += inner
            if not inner or len(buffer) - begin < min(size or 0, _BLOCK_HEAD):
                return False
            if size is None or name in (_BLOCK_GROUP, _CLUSTER):
                break
            body = buffer[begin : begin + min(size, _BLOCK_HEAD)]
            if name == _TIMESTAMP:
                time = int.from_bytes(body)
            elif name == _SIMPLE_BLOCK:
                number, used = _varying(body, 0)
                if number == self._lead and len(body) > used + 2:
                    told = int.from_bytes(body[used : used + 2], signed=True)
                    if not self._has_picture or body[used + 2] & 0x80:
                        at_ms = (time + told) * self._scale_ms
                        marks.append(Mark(at, is_entry=True, at_ms=at_ms))
                    break
            begin += size
        return True


def _varying(data: bytearray, at: int) -> tuple[int | None, int]:
    """(a number, None for one that is not known; bytes that it takes, 0: they are not all here)."""
    length = 9 - data[at].bit_length() if at < len(data) else 9
    if len(data) - at < length:
        return None, 0
    value = int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), length


def _head(buffer: bytearray, at: int) -> tuple[int, int | None, int]:
    """(name, size, bytes of both) of an element. A size of None: not known. Bytes of 0: they are
    not all here."""
    length = 9 - buffer[at].bit_length() if at < len(buffer) else 9
    size, used = _varying(buffer, at + length)
    name = int.from_bytes(buffer[at : at + length])
    return name, size, length + used if used else 0


def _elements(body: bytearray) -> Iterator[tuple[int, bytearray]]:
    """(name, content) of each whole one."""
    at = 0
    while at < len(body):
        name, size, head = _head(body, at)
        if not head or size is None or at + head + size > len(body):
            return
        yield name, body[at + head : at + head + size]
        at += head + size
