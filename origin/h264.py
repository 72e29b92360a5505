"""H.264 out of RTP, and into FLV tags.

Laws: sans-IO; bounds: a picture's bytes. A picture that lacks something is dropped, and so are all
that follow up to the next key frame, which `wanting` asks for. Parameter sets go into a sequence
header of their own whenever they change. Source: RFC 6184 (5.6 to 5.8), ISO/IEC 14496-15 5.3.3.1.
"""

from __future__ import annotations

from typing import Final

from edgecache import flv

from .rtp import Packet

_PICTURE_BYTES: Final = 4 << 20
_SLICE, _IDR, _SPS, _PPS, _AGGREGATE, _FRAGMENT = 1, 5, 7, 8, 24, 28
_START, _END = 0x80, 0x40
_DROPPED: Final = (_SPS, _PPS, 9)  # 9: access unit delimiters


class Depacketizer:
    """put() each packet in order; `gap` where one lacks. Returns a picture's NAL units when it is
    whole: (RTP time stamp, units)."""

    def __init__(self) -> None:
        self._units: list[bytes] = []
        self._fragment = bytearray()
        self._bytes = 0
        self._timestamp = 0
        self._broken = False
        self.wanting = True  # a key frame

    def gap(self) -> None:
        self._broken = self.wanting = True

    def put(self, packet: Packet) -> tuple[int, list[bytes]] | None:
        if packet.timestamp != self._timestamp:
            self._drop(packet.timestamp)
        if packet.payload:
            self._payload(packet.payload)
        if not packet.marker:
            return None
        units, broken = self._units, self._broken
        self._drop(packet.timestamp)
        slices = [unit for unit in units if unit[0] & 31 in (_SLICE, _IDR)]
        if broken or not slices or not _is_first(slices[0]):
            return None
        if self.wanting and not any(unit[0] & 31 == _IDR for unit in slices):
            return None
        self.wanting = False
        return packet.timestamp, units

    def _drop(self, timestamp: int) -> None:
        if self._units or self._fragment:  # its end was never seen, or it has been handed out
            self._units, self._fragment = [], bytearray()
        self._timestamp, self._bytes, self._broken = timestamp, 0, False

    def _payload(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > _PICTURE_BYTES:
            self.gap()
            return
        kind = data[0] & 31
        if kind == _FRAGMENT and len(data) > 2:
            self._part(data)
        elif kind == _AGGREGATE:
            at = 1
            while at + 2 < len(data):
                size = int.from_bytes(data[at : at + 2], "big")
                if unit := data[at + 2 : at + 2 + size]:
                    self._units.append(unit)
                at += 2 + size
        elif 0 < kind < _AGGREGATE:
            self._units.append(data)

    def _part(self, data: bytes) -> None:
        if data[1] & _START:
            self._fragment = bytearray((data[0] & 0xE0 | data[1] & 31,))
        elif not self._fragment:
            self.gap()
            return
        self._fragment += data[2:]
        if data[1] & _END:
            self._units.append(bytes(self._fragment))
            self._fragment = bytearray()


def _is_first(unit: bytes) -> bool:
    """Is it a picture's first slice: is first_mb_in_slice 0 (ISO/IEC 14496-10 7.3.3)?"""
    return unit[1:2] >= b"\x80"


class Tags:
    """Pictures -> FLV tags."""

    def __init__(self) -> None:
        self._sets: dict[int, bytes] = {}
        self._told: dict[int, bytes] = {}

    def make(self, units: list[bytes], at_ms: int) -> bytes:
        """The tags of one picture; b"" while its parameter sets are not known."""
        self._sets |= {unit[0] & 31: unit for unit in units if unit[0] & 31 in (_SPS, _PPS)}
        if len(self._sets.get(_SPS, b"")) < 4 or _PPS not in self._sets:
            return b""
        head = b""
        if self._sets != self._told:
            self._told = dict(self._sets)
            head = flv.encode_tag(flv.VIDEO, at_ms, b"\x17\x00\x00\x00\x00" + self._header())
        media = [unit for unit in units if unit[0] & 31 not in _DROPPED]
        key = any(unit[0] & 31 == _IDR for unit in media)
        body = (b"\x17" if key else b"\x27") + b"\x01\x00\x00\x00"
        body += b"".join(len(unit).to_bytes(4, "big") + unit for unit in media)
        return head + flv.encode_tag(flv.VIDEO, at_ms, body)

    def _header(self) -> bytes:
        """AVCDecoderConfigurationRecord, with lengths of four bytes."""
        sps, pps = self._sets[_SPS], self._sets[_PPS]
        head = b"\x01" + sps[1:4] + b"\xff\xe1"
        sets = len(sps).to_bytes(2, "big") + sps + b"\x01" + len(pps).to_bytes(2, "big") + pps
        return head + sets
