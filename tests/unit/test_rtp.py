"""RTP and RTCP, byte by byte."""

from __future__ import annotations

import struct

import pytest

from origin import rtp


def made(
    sequence: int = 7, payload: bytes = b"media", extension: bytes = b"", padding: int = 0
) -> bytes:
    first = 0x80 | (0x10 if extension else 0) | (0x20 if padding else 0)
    head = struct.pack("!BBHII", first, 0x80 | 102, sequence, 1000, 99)
    if extension:
        head += struct.pack("!HH", 0xBEDE, len(extension) // 4) + extension
    return head + payload + (bytes(padding - 1) + bytes((padding,)) if padding else b"")


def test_a_packet_with_all_that_it_may_have() -> None:
    several = b"\x10a\x31\x01\x02\0\0\0"  # id 1 of one byte, id 3 of two, padding
    found = rtp.packet(made(extension=several, padding=4), 3)
    assert found == rtp.Packet(102, True, 7, 1000, 99, b"media", 0x0102)
    assert rtp.packet(made(extension=several), 0) == rtp.Packet(102, True, 7, 1000, 99, b"media")
    only = rtp.packet(made(payload=b"", padding=200), 0)
    assert only is not None
    assert only.payload == b""


def test_what_is_cut_short_is_none_or_a_shorter_payload() -> None:
    whole = made(extension=b"\x31\x01\x02\0")
    for end in range(len(whole)):
        found = rtp.packet(whole[:end], 3)
        assert found is None or b"media".startswith(found.payload)
    assert rtp.packet(b"\x40" + whole[1:], 3) is None
    assert rtp.packet(made(padding=1)[:-1] + b"\xff", 3) is None


@pytest.mark.parametrize(
    ("value", "near", "bits", "number"),
    [(5, 3, 16, 5), (2, 65534, 16, 65538), (65535, 65537, 16, 65535), (1, 2**32, 32, 2**32 + 1)],
)
def test_numbers_go_on_where_they_wrap(value: int, near: int, bits: int, number: int) -> None:
    assert rtp.unwrap(value, near, bits) == number


def test_a_sender_report_among_others() -> None:
    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, 99, 10, 1 << 31, 48000, 1, 2)
    compound = struct.pack("!BBHI", 0x80, 201, 1, 99) + report
    assert rtp.is_rtcp(compound)
    assert not rtp.is_rtcp(made())
    (told,) = rtp.reports(compound)
    assert told == rtp.SenderReport(99, 10.5, 48000, 10 << 16 | 0x8000)
    for end in range(len(compound) - 8):
        assert list(rtp.reports(compound[:end])) == []


def test_what_is_told() -> None:
    pli = rtp.picture_loss(99)
    assert pli == struct.pack("!BBHII", 0x81, 206, 2, 1, 99)
    lost = rtp.nack(99, [65535, 65536, 65552, 65553])
    assert lost[4:12] == struct.pack("!II", 1, 99)
    assert lost[12:] == struct.pack("!HHHH", 65535, 0b1, 16, 0b1)
    report = rtp.receiver_report(99, fraction=3, lost=7, newest=65540, middle=9, since_s=0.5)
    fields = struct.unpack("!BBHIIIIIII", report)
    assert fields == (0x81, 201, 7, 1, 99, 3 << 24 | 7, 65540, 0, 9, 32768)


def test_arrival_times_are_told_with_what_is_missing() -> None:
    """Base 9, eight packets: 10 at 64 ms, 11 3 ms later, 13 a second later, 16 a bit before."""
    told = rtp.arrivals(99, 5, 9, {10: 0.064, 11: 0.067, 13: 1.067, 16: 1.066})
    assert told[:2] == bytes((0x80 | 15, 205))
    first, count, time = struct.unpack_from("!HHI", told, 12)
    assert (first, count, time) == (9, 8, 1 << 8 | 5)
    chunks = struct.unpack_from("!HH", told, 20)
    symbols = [chunk >> shift & 3 for chunk in chunks for shift in range(12, -1, -2)]
    assert symbols[:8] == [0, 1, 1, 0, 2, 0, 0, 2]
    assert told[24:30] == struct.pack("!BBhh", 0, 12, 4000, -4)
    assert len(told) % 4 == 0
    assert len(told) == 4 + 4 * int.from_bytes(told[2:4], "big")
