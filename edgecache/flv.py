"""FLV tags: the one form that a broadcaster's media has between our own processes.

Laws: sans-IO; a tag's body is at most `MAX_BODY_BYTES` (what RTMP admits, too); bytes that are not
FLV raise `FlvError` at once, so a reader never holds more than one tag that is not whole. Media
stays opaque: only the first two to seven bytes of a body are looked at, to tell configuration and
keyframes from the rest. Source: Adobe "Video File Format Specification 10.1", annex E; Enhanced
RTMP v2 for four-character codes and tracks (enhanced.py takes all of its forms apart).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .errors import EdgeError, Source

AUDIO: Final = 8
VIDEO: Final = 9
SCRIPT: Final = 18

MAX_BODY_BYTES: Final = 8 << 20
HEADER: Final = (
    b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"  # audio and video, then PreviousTagSize0
)

CONFIG: Final = 0
CODED: Final = 1
OTHER: Final = 2

_HEADER_BYTES: Final = 9
_TAG_HEADER_BYTES: Final = 11
_TRAILER_BYTES: Final = 4
_AVC: Final = 7
_HEVC: Final = 12  # not in Adobe's table, but used by publishers that predate Enhanced RTMP
_AAC: Final = 10
_ENHANCED_VIDEO: Final = 0x80
_ENHANCED_AUDIO: Final = 9
_KEYFRAME: Final = 1
MULTITRACK: Final = {AUDIO: 5, VIDEO: 6}  # packet types
MAX_TRACKS: Final = 8  # of one kind; whoever sends more means no good
# SequenceStart, CodedFrames, CodedFramesX (pictures without a composition time).
_ENHANCED_PACKETS: Final = {
    AUDIO: {0: CONFIG, 1: CODED},
    VIDEO: {0: CONFIG, 1: CODED, 3: CODED},
}
_AUDIO_CODECS: Final = {
    0: "pcm",
    1: "adpcm",
    2: "mp3",
    3: "pcm",
    7: "alaw",
    8: "ulaw",
    10: "aac",
    11: "speex",
    14: "mp3",
}
_VIDEO_CODECS: Final = {
    2: "h263",
    3: "screen",
    4: "vp6",
    5: "vp6a",
    6: "screen2",
    _AVC: "avc1",
    _HEVC: "hvc1",
}


class FlvError(EdgeError):
    """The bytes are not an FLV stream, or a tag is larger than allowed."""

    source: Source = "downstream"


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag. `timestamp` in ms (32 bits on the wire), `kind` is AUDIO, VIDEO or SCRIPT."""

    kind: int
    timestamp: int
    body: bytes

    def encode(self) -> bytes:
        """Tag header, body and the PreviousTagSize that follows it."""
        return encode_tag(self.kind, self.timestamp, self.body)

    @property
    def packet(self) -> int:
        """CONFIG (a sequence header), CODED (a picture or sound) or OTHER (end of sequence and
        such)."""
        body = self.body
        if len(body) < 2 or self.kind == SCRIPT:
            return OTHER
        if is_enhanced(self.kind, body):
            packet = body[1] & 15 if self._multitrack else body[0] & 15
            return _ENHANCED_PACKETS[self.kind].get(packet, OTHER)
        code, with_config = (
            (body[0] >> 4, (_AAC,)) if self.kind == AUDIO else (body[0] & 15, (_AVC, _HEVC))
        )
        return body[1] if code in with_config and body[1] <= OTHER else CODED

    @property
    def is_keyframe(self) -> bool:
        """A picture that decoding can start with."""
        return self.kind == VIDEO and self.packet == CODED and (self.body[0] >> 4) & 7 == _KEYFRAME

    def is_entry(self, *, has_picture: bool) -> bool:
        """May decoding begin here? has_picture: there is video among these tags; without, any
        sound will do."""
        return self.is_keyframe if has_picture else self.kind == AUDIO and self.packet == CODED

    @property
    def codec(self) -> str:
        """Four-character code or a short name; "" for script data and empty bodies."""
        if not self.body or self.kind == SCRIPT:
            return ""
        if is_enhanced(self.kind, self.body):
            at = 2 if self._multitrack else 1
            return self.body[at : at + 4].decode("ascii", "replace")
        if self.kind == AUDIO:
            return _AUDIO_CODECS.get(self.body[0] >> 4, "unknown")
        return _VIDEO_CODECS.get(self.body[0] & 15, "unknown")

    @property
    def track(self) -> int:
        """Its number; 0 of what has none."""
        return self.body[6] if self._multitrack and self.body[1] >> 4 == 0 else 0

    @property
    def _multitrack(self) -> bool:
        """Of several tracks or a numbered one; what is too short to be is none."""
        body = self.body
        return (
            is_enhanced(self.kind, body) and len(body) > 6 and body[0] & 15 == MULTITRACK[self.kind]
        )


def is_enhanced(kind: int, body: bytes) -> bool:
    """Does the body begin as Enhanced RTMP says?"""
    if not body or kind == SCRIPT:
        return False
    return body[0] >> 4 == _ENHANCED_AUDIO if kind == AUDIO else bool(body[0] & _ENHANCED_VIDEO)


def encode_tag(kind: int, timestamp: int, body: bytes | bytearray) -> bytes:
    """`timestamp` in ms is taken modulo 2^32: its upper byte travels behind the lower three."""
    size = len(body)
    low = timestamp & 0xFFFFFF
    head = b"".join(
        (
            bytes((kind,)),
            size.to_bytes(3, "big"),
            low.to_bytes(3, "big"),
            bytes(((timestamp >> 24) & 0xFF,)),
            b"\0\0\0",
        )
    )
    return b"".join((head, body, (size + _TAG_HEADER_BYTES).to_bytes(4, "big")))


class FlvReader:
    """Bytes in any cut -> tags. Raises FlvError and is then useless."""

    def __init__(self, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._begun = False

    @property
    def pending_bytes(self) -> int:
        """What is held because its tag is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Tag]:
        """All tags that became whole. Script, audio and video only; other kinds are an error."""
        self._buffer += data
        if not self._begun and not self._begin():
            return []
        tags: list[Tag] = []
        position = 0
        buffer = self._buffer
        while (tag := self._tag_at(position)) is not None:
            tags.append(tag)
            position += _TAG_HEADER_BYTES + len(tag.body) + _TRAILER_BYTES
        del buffer[:position]
        return tags

    def _begin(self) -> bool:
        buffer = self._buffer
        if not b"FLV\x01".startswith(buffer[:4]) and buffer[:4] != b"FLV\x01":
            raise FlvError(f"not an FLV stream: begins with {bytes(buffer[:4]).hex()}")
        if len(buffer) < _HEADER_BYTES:
            return False
        size = int.from_bytes(buffer[5:9], "big")
        if size != _HEADER_BYTES:
            raise FlvError(f"FLV header size is {size}, allowed is {_HEADER_BYTES}")
        if len(buffer) < _HEADER_BYTES + _TRAILER_BYTES:
            return False
        del buffer[: _HEADER_BYTES + _TRAILER_BYTES]
        self._begun = True
        return True

    def _tag_at(self, position: int) -> Tag | None:
        buffer = self._buffer
        if len(buffer) - position < _TAG_HEADER_BYTES:
            return None
        kind = buffer[position]
        if kind not in (AUDIO, VIDEO, SCRIPT):
            raise FlvError(f"FLV tag kind is {kind}, allowed are 8, 9 and 18")
        size = int.from_bytes(buffer[position + 1 : position + 4], "big")
        if size > self._max_body_bytes:
            raise FlvError(f"FLV tag of {size} bytes, allowed are {self._max_body_bytes}")
        begin = position + _TAG_HEADER_BYTES
        if len(buffer) < begin + size + _TRAILER_BYTES:
            return None
        low = int.from_bytes(buffer[position + 4 : position + 7], "big")
        return Tag(kind, buffer[position + 7] << 24 | low, bytes(buffer[begin : begin + size]))
