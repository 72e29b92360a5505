"""How a picture is to be turned to be shown upright, as the publisher says it inside the media.

Laws: pure; bounded by the bytes given; whatever is cut short or not understood says nothing, since
a decoder judges the rest. Only quarter turns are known; what is to be mirrored alone is not.
Sources: display orientation SEI, ITU-T H.264 D.1.27 and D.2.27, H.265 D.2.17 and D.3.17; NAL units
of a FLV tag by ISO/IEC 14496-15, their lengths in four bytes as everybody writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edgecache.flv import Tag

ROTATION: Final = "rotation"  # key of onMetaData: degrees clockwise
_ORIENTATION: Final = 47  # payloadType
_TURN_UNITS: Final = 1 << 16  # of a whole turn
_LENGTH_BYTES: Final = 4
_MAX_UNITS: Final = 32  # before the picture itself


@dataclass(frozen=True, slots=True)
class _Coding:
    """Where NAL units begin in a tag's body, bytes of their header, type of SEI, and whether a type
    is of a picture: SEI stands before it."""

    at: int
    head: int
    sei: int
    first_picture: int
    last_picture: int

    def type_of(self, unit: bytes) -> int:
        return unit[0] & 31 if self.head == 1 else unit[0] >> 1 & 63


_AVC: Final = _Coding(at=5, head=1, sei=6, first_picture=1, last_picture=5)
_HEVC: Final = _Coding(at=5, head=2, sei=39, first_picture=0, last_picture=31)
_HEVC_WITH_TIME: Final = _Coding(at=8, head=2, sei=39, first_picture=0, last_picture=31)


def told_turn(value: object) -> int:
    """Of metadata; 0 for whatever is no quarter turn."""
    if not isinstance(value, float) or value % 90 != 0:  # nor is any of what is not finite
        return 0
    return int(value) % 360


def turn_of(tag: Tag) -> int | None:
    """Degrees clockwise that the picture of a key frame is to be turned by; None: nothing said."""
    coding = _coding(tag)
    for unit in _units(tag.body, coding) if coding else ():
        if coding and coding.type_of(unit) == coding.sei:
            for payload in _orientations(unit[coding.head :].replace(b"\0\0\3", b"\0\0")):
                return _turn(payload)
    return None


def _coding(tag: Tag) -> _Coding | None:
    if tag.codec == "avc1":
        return _AVC
    if tag.codec == "hvc1":
        timed = tag.body[0] & 0x80 and tag.body[0] & 15 == 1  # Enhanced RTMP's CodedFrames
        return _HEVC_WITH_TIME if timed else _HEVC
    return None


def _units(body: bytes, coding: _Coding) -> Iterator[bytes]:
    """NAL units up to the first one of the picture."""
    at = coding.at
    for _ in range(_MAX_UNITS):
        end = at + _LENGTH_BYTES
        size = int.from_bytes(body[at:end], "big")
        unit = body[end : end + min(size, len(body))]
        if len(unit) <= coding.head or len(unit) < size:
            return
        if coding.first_picture <= coding.type_of(unit) <= coding.last_picture:
            return
        yield unit
        at = end + size


def _orientations(messages: bytes) -> Iterator[bytes]:
    """Payloads of the SEI messages that say one; none of what is cut short."""
    at = 0
    while at + 2 < len(messages):
        kind, at = _number(messages, at)
        size, at = _number(messages, at)
        if kind == _ORIENTATION and 0 < size <= len(messages) - at:
            yield messages[at : at + size]
        at += size


def _number(messages: bytes, at: int) -> tuple[int, int]:
    """(payloadType or payloadSize, where it ends): 255 goes on."""
    value = 0
    while at < len(messages):
        value += messages[at]
        at += 1
        if messages[at - 1] != 255:
            break
    return value, at


def _turn(payload: bytes) -> int:
    """cancel_flag, hor_flip, ver_flip, 16 bits anticlockwise. Flipped both ways is half a turn."""
    bits = int.from_bytes(payload[:3].ljust(3, b"\0"), "big")
    if bits >> 23:
        return 0
    half = 180 if bits >> 21 & 3 == 3 else 0
    anticlockwise = round((bits >> 5 & 0xFFFF) * 4 / _TURN_UNITS) * 90
    return (half - anticlockwise) % 360
