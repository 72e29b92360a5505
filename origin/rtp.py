"""RTP and RTCP as bytes: what a WHIP publisher sends, and what it is told.

Laws: sans-IO; what is cut short or of another version is None, or left out. Reports are sent one
by one (reduced size, RFC 5506). Source: RFC 3550, RFC 4585 (6.2.1, 6.3.1), RFC 8285; feedback of
arrival times: draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_FIXED: Final = struct.Struct("!BBHII")
_ONE_BYTE: Final = 0xBEDE
_SENDER_REPORT: Final = 200
_RECEIVER_REPORT: Final = 201
_TRANSPORT_FEEDBACK: Final = 205
_PAYLOAD_FEEDBACK: Final = 206
_NACK, _ARRIVALS, _PLI = 1, 15, 1
_OURS: Final = 1  # the SSRC of whoever reports
_TICK_S: Final = 0.00025
_TICKS: Final = 256  # of the reference time
_SYMBOLS: Final = 7  # in a status chunk of two bits each
_LOST, _SMALL, _LARGE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Packet:
    """transport: its number among all of a connection, None without one."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    transport: int | None = None


@dataclass(frozen=True, slots=True)
class SenderReport:
    """`timestamp` of `ssrc` is that second (since 1900, by the sender's clock). middle: the 32 bits
    that an answer repeats."""

    ssrc: int
    at_s: float
    timestamp: int
    middle: int


def is_rtcp(datagram: bytes) -> bool:
    """RFC 5761 4: payload types that no RTP has beside RTCP."""
    return len(datagram) > 1 and 192 <= datagram[1] <= 223


def unwrap(value: int, near: int, bits: int) -> int:
    """The number that ends with these `bits` and is nearest to `near`."""
    size = 1 << bits
    return near + (value - near + size // 2) % size - size // 2


def packet(data: bytes, extension: int) -> Packet | None:
    """extension: the id of transport-wide numbers, 0: none are sent."""
    if len(data) < _FIXED.size or data[0] >> 6 != 2:
        return None
    first, second, sequence, timestamp, ssrc = _FIXED.unpack_from(data)
    at, end, transport = _FIXED.size + 4 * (first & 15), len(data), None
    if first & 0x10:
        if at + 4 > end:
            return None
        profile, words = struct.unpack_from("!HH", data, at)
        at += 4
        if profile == _ONE_BYTE and extension:
            transport = _extension(data[at : at + 4 * words], extension)
        at += 4 * words
    if first & 0x20 and end > at:
        end -= data[-1]
    if at > end:
        return None
    marker, kind = bool(second & 0x80), second & 0x7F
    return Packet(kind, marker, sequence, timestamp, ssrc, data[at:end], transport)


def _extension(data: bytes, wanted: int) -> int | None:
    at = 0
    while at < len(data):
        number, size = data[at] >> 4, (data[at] & 15) + 1
        if number == 0:  # padding
            at += 1
            continue
        if number == wanted and size == 2 and at + 3 <= len(data):
            return int.from_bytes(data[at + 1 : at + 3], "big")
        at += 1 + size
    return None


def reports(data: bytes) -> Iterator[SenderReport]:
    """Of a compound packet."""
    at = 0
    while at + 4 <= len(data):
        kind, size = data[at + 1], 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == _SENDER_REPORT and at + 20 <= min(len(data), at + size):
            ssrc, seconds, fraction, timestamp = struct.unpack_from("!IIII", data, at + 4)
            middle = (seconds << 16 | fraction >> 16) & 0xFFFFFFFF
            yield SenderReport(ssrc, seconds + fraction / (1 << 32), timestamp, middle)
        at += size


def _rtcp(count: int, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def receiver_report(
    ssrc: int, *, fraction: int, lost: int, newest: int, middle: int, since_s: float
) -> bytes:
    """fraction: of 256, lost since the last one; `newest`: sequence number of 32 bits; since_s: how
    long ago the sender report came that ends in `middle`."""
    told = fraction << 24 | min(lost, 0x7FFFFF)
    late = round(since_s * 65536) & 0xFFFFFFFF if middle else 0
    body = struct.pack("!IIIIIII", _OURS, ssrc, told, newest & 0xFFFFFFFF, 0, middle, late)
    return _rtcp(1, _RECEIVER_REPORT, body)


def picture_loss(ssrc: int) -> bytes:
    """Send a key frame."""
    return _rtcp(_PLI, _PAYLOAD_FEEDBACK, struct.pack("!II", _OURS, ssrc))


def nack(ssrc: int, sequences: list[int]) -> bytes:
    """Send these again; ascending."""
    pairs: list[tuple[int, int]] = []
    for each in sequences:
        after = each - pairs[-1][0] - 1 if pairs else -1
        if 0 <= after < 16:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] | 1 << after)
        else:
            pairs.append((each, 0))
    body = b"".join(struct.pack("!HH", first & 0xFFFF, more) for first, more in pairs)
    return _rtcp(_NACK, _TRANSPORT_FEEDBACK, struct.pack("!II", _OURS, ssrc) + body)


def arrivals(ssrc: int, number: int, first: int, seen: Mapping[int, float]) -> bytes:
    """When packets came: transport number -> s, by any clock that goes evenly; `number` counts
    these reports. What is not in `seen`, from `first` to its last, is missing."""
    last = max(seen)
    reference = int(seen[min(seen)] / _TICK_S / _TICKS)
    before = reference * _TICKS
    symbols: list[int] = []
    deltas = b""
    for each in range(first, last + 1):
        if each not in seen:
            symbols.append(_LOST)
            continue
        at = round(seen[each] / _TICK_S)
        ticks, before = at - before, at
        small = 0 <= ticks < _TICKS
        symbols.append(_SMALL if small else _LARGE)
        ticks = max(-0x8000, min(ticks, 0x7FFF))
        deltas += struct.pack("!B", ticks) if small else struct.pack("!h", ticks)
    chunks = b""
    for at in range(0, len(symbols), _SYMBOLS):
        chunk = 0b11
        for symbol in (*symbols[at : at + _SYMBOLS], *(_LOST,) * _SYMBOLS)[:_SYMBOLS]:
            chunk = chunk << 2 | symbol
        chunks += struct.pack("!H", chunk)
    time = (reference & 0xFFFFFF) << 8 | number & 0xFF
    head = struct.pack("!IIHHI", _OURS, ssrc, first & 0xFFFF, len(symbols), time)
    return _rtcp(_ARRIVALS, _TRANSPORT_FEEDBACK, head + chunks + deltas)
