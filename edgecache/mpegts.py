"""MPEG transport streams: where in one a decoder may begin.

Laws: sans-IO; reads the tables that say which stream is the picture, and of its packets the flag of
a random access point and the time. Bound: less than one packet waits. Whatever is no packet is
passed on until the next one begins. Only the first program counts. Source: ISO/IEC 13818-1 2.4.3
(packets, PES) and 2.4.4 (PAT, PMT).
"""

from __future__ import annotations

import math
from typing import Final

from .pieces import ByteReader, Mark

PACKET: Final = 188
_SYNC: Final = 0x47
_UNKNOWN: Final = -1
_PICTURES: Final = frozenset((0x01, 0x02, 0x10, 0x1B, 0x24, 0x33))  # MPEG-1 to 4, H.264 to H.266


class TsReader(ByteReader):
    """An entry: a random access point of the picture, any packet of sound without one."""

    def __init__(self) -> None:
        super().__init__()
        self._map = _UNKNOWN  # pid of the PMT
        self._lead = _UNKNOWN  # pid of the stream whose beginnings count
        self._has_picture = False

    def look(self, at: int, marks: list[Mark]) -> int:
        buffer = self.buffer
        if buffer[at] != _SYNC:
            found = buffer.find(_SYNC, at + 1)
            return (found if found >= 0 else len(buffer)) - at
        if len(buffer) - at < PACKET:
            return 0
        pid = (buffer[at + 1] & 0x1F) << 8 | buffer[at + 2]
        if pid in (0, self._map):
            self._table(bytes(buffer[at : at + PACKET]), pid)
            marks += (Mark(at, sets=f"table {pid}"), Mark(at + PACKET))
        elif pid == self._lead and buffer[at + 1] & 0x40:
            self._begins(bytes(buffer[at : at + PACKET]), at, marks)
        return PACKET

    def _begins(self, packet: bytes, at: int, marks: list[Mark]) -> None:
        """A picture, or some sound, begins in this packet."""
        is_random_access = packet[3] & 0x20 and packet[4] and packet[5] & 0x40
        if not is_random_access and self._has_picture:
            return
        at_ms = _decoded_ms(packet[_payload(packet) :])
        if not math.isnan(at_ms):
            marks.append(Mark(at, is_entry=True, at_ms=at_ms))

    def _table(self, packet: bytes, pid: int) -> None:
        """The part of a PAT or PMT that is in its first packet."""
        begin = _payload(packet)
        if not packet[1] & 0x40 or begin >= PACKET:
            return
        section = packet[begin + 1 + packet[begin] :]
        if len(section) < 12:
            return
        end = 3 + ((section[1] & 0x0F) << 8 | section[2]) - 4  # without its checksum
        if pid == 0 and section[0] == 0:
            self._programs(section[8:end])
        elif pid and section[0] == 2:
            begin = 12 + ((section[10] & 0x0F) << 8 | section[11])
            self._streams(section[begin:end])

    def _programs(self, rows: bytes) -> None:
        for at in range(0, len(rows) - 3, 4):
            if rows[at] or rows[at + 1]:  # 0 is the network's
                self._map = (rows[at + 2] & 0x1F) << 8 | rows[at + 3]
                return

    def _streams(self, rows: bytes) -> None:
        found: list[tuple[bool, int]] = []
        at = 0
        while at + 5 <= len(rows):
            pid = (rows[at + 1] & 0x1F) << 8 | rows[at + 2]
            found.append((rows[at] in _PICTURES, pid))
            at += 5 + ((rows[at + 3] & 0x0F) << 8 | rows[at + 4])
        if found:
            self._has_picture = any(is_picture for is_picture, _ in found)
            self._lead = next(pid for is_one, pid in found if is_one == self._has_picture)


def _payload(packet: bytes) -> int:
    """Where it begins."""
    return 5 + packet[4] if packet[3] & 0x20 else 4


def _decoded_ms(pes: bytes) -> float:
    """When what begins here is decoded; NaN when that is not said."""
    if len(pes) < 19 or pes[:3] != b"\0\0\1" or not pes[7] & 0x80:
        return math.nan
    at = 14 if pes[7] & 0x40 else 9
    high, middle, low = pes[at] >> 1 & 7, pes[at + 1 : at + 3], pes[at + 3 : at + 5]
    clock = high << 30 | (int.from_bytes(middle) >> 1) << 15 | int.from_bytes(low) >> 1
    return clock / 90
