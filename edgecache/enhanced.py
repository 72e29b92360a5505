"""Enhanced RTMP: tags in any of its forms -> the few forms that everybody after us reads.

Laws: sans-IO and stateless; media stays opaque. A tag is taken apart into its tracks, and each
leaves as a tag of one track in its oldest form: H.264, AAC and MP3 as Adobe had them, other codecs
behind their four-character code, sounds but the first as single tracks of a multitrack tag. Nothing
else leaves: extensions of the header (nanoseconds), colour and channel descriptions, ends of
sequences and commands are left out, and what is cut short, lies about its sizes or has a code that
is not known is dropped, all counted by reason. Nothing is ever raised. Source: Veovera, "Enhanced
RTMP v2".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from .flv import AUDIO, MAX_TRACKS, MULTITRACK, VIDEO, Tag, is_enhanced

VIDEO_CODECS: Final = ("avc1", "hvc1", "av01", "vp09")
AUDIO_CODECS: Final = ("mp4a", "Opus", "ac-3", "ec-3", "fLaC", ".mp3")

_START, _CODED, _CODED_X, _MOD_EX = 0, 1, 3, 7
_ONE_TRACK, _MANY_CODECS = 0, 2
_COMMAND: Final = 5  # frame type
_PLAIN: Final = {_START: b"\x00", _CODED: b"\x01", _CODED_X: b"\x01\0\0\0"}  # AVCPacketType, cts
_MP3_HEAD: Final = b"\x2f"
_CODES: Final = {
    VIDEO: frozenset(code.encode() for code in VIDEO_CODECS),
    AUDIO: frozenset(code.encode() for code in AUDIO_CODECS),
}


class _ShortError(Exception):
    """The tag ends before what it announces."""


class _Cursor:
    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.body):
            raise _ShortError
        self.at += count
        return self.body[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    @property
    def left(self) -> int:
        return len(self.body) - self.at


def plain(tag: Tag, dropped: Counter[str]) -> list[Tag]:
    """`tag` as tags of one track each, none of them more than it was; what is left out is counted
    in `dropped`."""
    if not is_enhanced(tag.kind, tag.body):
        return [tag]
    found: list[Tag] = []
    try:
        found.extend(_tracks(tag, dropped))
    except _ShortError:
        dropped["cut_short"] += 1
    return found


def _tracks(tag: Tag, dropped: Counter[str]) -> Iterator[Tag]:
    cursor = _Cursor(tag.body)
    first = cursor.number(1)
    frame, packet = first >> 4 & 7, first & 15
    while packet == _MOD_EX:
        size = cursor.number(1) + 1
        cursor.take(size if size < 256 else cursor.number(2) + 1)
        packet = cursor.number(1) & 15
    if packet not in _PLAIN and packet != MULTITRACK[tag.kind]:
        dropped["not_media"] += 1
        return
    if tag.kind == VIDEO and frame == _COMMAND:
        dropped["not_media"] += 1
        return
    form = _ONE_TRACK
    if several := packet == MULTITRACK[tag.kind]:
        form = cursor.number(1)
        form, packet = form >> 4, form & 15
    code = b"" if form == _MANY_CODECS else cursor.take(4)
    while True:
        each = code or cursor.take(4)
        track = cursor.number(1) if several else 0
        payload = cursor.take(cursor.left if form == _ONE_TRACK else cursor.number(3))
        if fault := _fault(tag.kind, packet, each, track):
            dropped[fault] += 1
        else:
            head = _video(frame, packet, each) if tag.kind == VIDEO else _audio(packet, each, track)
            yield Tag(tag.kind, tag.timestamp, head + payload)
        if not cursor.left:
            return


def _fault(kind: int, packet: int, code: bytes, track: int) -> str:
    """Why one track's share of a tag is left out; "" when it is media of a codec that is known."""
    if packet not in _PLAIN or (packet == _CODED_X and kind == AUDIO):
        return "not_media"
    if code not in _CODES[kind]:
        return "codec"
    # a second picture has no place in a ladder
    return "track" if track >= MAX_TRACKS or (track and kind == VIDEO) else ""


def _video(frame: int, packet: int, code: bytes) -> bytes:
    if code == b"avc1":
        cts = b"\0\0\0" if packet == _START else b""  # of pictures it is in the payload
        return bytes((frame << 4 | 7,)) + _PLAIN[packet] + cts
    return bytes((0x80 | frame << 4 | packet,)) + code


def _audio(packet: int, code: bytes, track: int) -> bytes:
    if track:
        return bytes((0x90 | MULTITRACK[AUDIO], _ONE_TRACK << 4 | packet)) + code + bytes((track,))
    if code == b"mp4a":
        return b"\xaf" + _PLAIN[packet]
    if code == b".mp3":
        return _MP3_HEAD
    return bytes((0x90 | packet,)) + code
