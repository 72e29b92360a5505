"""SRT as far as it must be read to route it: handshakes, and who a stream id says it is.

Laws: sans-IO; keeps nothing of a datagram, and raises nothing but StreamIdError. What is answered
is never longer than what was asked. Media, its order and its encryption are never looked into.
Layouts: draft-sharabayko-srt-01, sections 3.2 and 4.3; stream ids that begin with `#!::`: libsrt's
access control guidelines.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

HEADER_BYTES: Final = 16
HANDSHAKE_BYTES: Final = HEADER_BYTES + 48
STREAM_ID_MAX: Final = 512

INDUCTION: Final = 1
CONCLUSION: Final = 0xFFFFFFFF
REJECTED: Final = 1000  # a handshake of this kind and above says no, by the code that is added
_KINDS: Final = 0xFFFFFF00  # those from here on are steps, not answers

# Reasons: libsrt's access_control.h; 1000 + HTTP's status where there is one.
BAD_REQUEST: Final = 1400
UNAUTHORIZED: Final = 1401
OVERLOAD: Final = 1402
FORBIDDEN: Final = 1403
NOT_FOUND: Final = 1404
BAD_MODE: Final = 1405
CONFLICT: Final = 1409
UNIMPLEMENTED: Final = 1501
DOWN: Final = 1503
VERSION: Final = 1505

_HANDSHAKE: Final = b"\x80\x00"
_SHUTDOWN: Final = b"\x80\x05"
_FIELDS: Final = struct.Struct("!8I")  # of a handshake, up to and including the cookie
_MAGIC: Final = 0x4A17  # the answer to an induction: this is SRT, and not plain UDT
_STREAM_ID: Final = 5  # type of the extension
_STANDARD: Final = "#!::"
_VERSIONED: Final = 5  # a conclusion of an older handshake has no extensions


class StreamIdError(ValueError):
    """A stream id that nobody can publish with; `code` is for the caller."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """One handshake packet. `caller`: the socket id of whoever sent it; `kind`: INDUCTION,
    CONCLUSION, or REJECTED and more; `rest`: the peer's address (16 bytes), then extensions."""

    version: int
    encryption: int
    extension: int
    sequence: int
    packet_max: int
    window: int
    kind: int
    caller: int
    cookie: int
    rest: bytes
    head: bytes  # of the packet: 16 bytes, with time stamp and destination

    @property
    def code(self) -> int:
        """Why a listener says no; 0 when it does not."""
        return self.kind - REJECTED if REJECTED <= self.kind < _KINDS else 0

    def encode(self, destination: int) -> bytes:
        first = self.encryption << 16 | self.extension
        numbers = (self.version, first, self.sequence, self.packet_max, self.window, self.kind)
        head = self.head[:12] + destination.to_bytes(4, "big")
        return head + _FIELDS.pack(*numbers, self.caller, self.cookie) + self.rest


@dataclass(frozen=True, slots=True)
class Wish:
    """What a stream id asks for: to publish by `key`, to this `stream` if it names one."""

    key: str
    stream: str | None = None


def handshake(datagram: bytes) -> Handshake | None:
    """None for anything else, and for what is cut short."""
    if len(datagram) < HANDSHAKE_BYTES or datagram[:2] != _HANDSHAKE:
        return None
    version, first, *numbers = _FIELDS.unpack_from(datagram, HEADER_BYTES)
    sequence, packet_max, window, kind, caller, cookie = numbers
    return Handshake(
        version=version,
        encryption=first >> 16,
        extension=first & 0xFFFF,
        sequence=sequence,
        packet_max=packet_max,
        window=window,
        kind=kind,
        caller=caller,
        cookie=cookie,
        rest=datagram[HEADER_BYTES + _FIELDS.size :],
        head=datagram[:HEADER_BYTES],
    )


def is_shutdown(datagram: bytes) -> bool:
    return datagram[:2] == _SHUTDOWN


def destination(datagram: bytes) -> int:
    """The socket id that a packet is for; 0 of what is too short to be one."""
    return int.from_bytes(datagram[12:HEADER_BYTES], "big") if len(datagram) >= HEADER_BYTES else 0


def induction(conclusion: Handshake) -> bytes:
    """The first packet of a caller that has already said its conclusion to somebody else."""
    first = replace(conclusion, version=4, encryption=0, extension=2, kind=INDUCTION, cookie=0)
    return replace(first, rest=conclusion.rest[:16]).encode(0)


def invitation(asked: Handshake, cookie: int) -> bytes:
    """The answer to an induction: come again with this cookie. As long as what was asked."""
    told = replace(asked, version=5, encryption=0, extension=_MAGIC, cookie=cookie)
    return replace(told, rest=asked.rest[:16]).encode(asked.caller)


def rejection(asked: Handshake, code: int) -> bytes:
    """The answer to a conclusion: no, and why."""
    told = replace(asked, kind=REJECTED + code, rest=asked.rest[:16])
    return told.encode(asked.caller)


def shutdown(destination: int) -> bytes:
    """It is over. One word of nothing follows the header, as libsrt sends it."""
    return _SHUTDOWN + bytes(10) + destination.to_bytes(4, "big") + bytes(4)


def stream_id(conclusion: Handshake) -> str:
    """As the caller wrote it; "" without one. Raises StreamIdError when it is no text."""
    if conclusion.version < _VERSIONED:
        raise StreamIdError(VERSION, "SRT: found a handshake of version 4, allowed 5")
    rest, at = conclusion.rest, 16
    while at + 4 <= len(rest):
        kind, words = struct.unpack_from("!HH", rest, at)
        at += 4
        if kind == _STREAM_ID:
            return _text(rest[at : at + 4 * words])
        at += 4 * words
    return ""


def _text(words: bytes) -> str:
    """Each word of 32 bits is sent with its last byte first; zeros fill the last one."""
    whole = len(words) // 4 * 4
    turned = b"".join(words[at : at + 4][::-1] for at in range(0, whole, 4)).rstrip(b"\0")
    if len(turned) > STREAM_ID_MAX:
        raise StreamIdError(BAD_REQUEST, f"stream id: allowed {STREAM_ID_MAX} bytes")
    try:
        return turned.decode()
    except UnicodeDecodeError:
        raise StreamIdError(BAD_REQUEST, "stream id: not UTF-8") from None


def wish(stream_id: str) -> Wish:
    """`KEY`, or `#!::r=KEY,m=publish`, or `#!::r=STREAM,u=KEY,m=publish`. Raises StreamIdError.

    Without `m` the guidelines mean a request to play, which nobody can do here."""
    if not stream_id.startswith(_STANDARD):
        if not stream_id:
            raise StreamIdError(BAD_REQUEST, "stream id: found none, allowed a stream key")
        return Wish(stream_id)
    said: dict[str, str] = {}
    for item in stream_id.removeprefix(_STANDARD).split(","):
        name, equals, value = item.partition("=")
        if not equals or name in said:
            raise StreamIdError(BAD_REQUEST, "stream id: found an item that is not NAME=VALUE once")
        said[name] = value
    if said.get("t", "stream") != "stream":
        raise StreamIdError(BAD_REQUEST, "stream id: allowed t=stream")
    if said.get("m", "request") != "publish":
        raise StreamIdError(BAD_MODE, "stream id: allowed m=publish")
    resource, user = said.get("r", ""), said.get("u", "")
    if not resource:
        raise StreamIdError(BAD_REQUEST, "stream id: allowed r=KEY, or r=STREAM with u=KEY")
    return Wish(user, resource) if user else Wish(resource)
