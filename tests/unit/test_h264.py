"""H.264 out of RTP packets, into FLV tags."""

from __future__ import annotations

from edgecache.flv import CODED, CONFIG, HEADER, FlvReader, Tag
from origin.h264 import Depacketizer, Tags
from origin.rtp import Packet

SPS, PPS = b"\x67\x42\x00\x1f\x01", b"\x68\xce"
# Slices begin with the number of their first macroblock: 0 is a bit of 1 (ue(v)).
IDR, SLICE = b"\x65\x88" + bytes(range(200)), b"\x41\x9a" + bytes(range(100))
LOWER_HALF = b"\x65\x00\xb4" + bytes(range(100))


class Line:
    """Packets with numbers, of pictures with times."""

    def __init__(self) -> None:
        self.made = Depacketizer()

    def put(self, payload: bytes, timestamp: int, marker: bool = False) -> list[bytes] | None:
        found = self.made.put(Packet(102, marker, 0, timestamp, 99, payload))
        assert found is None or found[0] == timestamp
        return found[1] if found else None


def fragments(unit: bytes, size: int = 64) -> list[bytes]:
    parts = [unit[at : at + size] for at in range(1, len(unit), size)]
    indicator = unit[0] & 0xE0 | 28
    heads = [unit[0] & 31 | (0x80 if part is parts[0] else 0) for part in parts]
    heads[-1] |= 0x40
    return [bytes((indicator, head)) + part for head, part in zip(heads, parts, strict=True)]


def aggregate(*units: bytes) -> bytes:
    return b"\x18" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def begun() -> Line:
    line = Line()
    assert line.put(aggregate(SPS, PPS), 10) is None
    first, *rest, last = fragments(IDR)
    assert line.put(first, 10) is None
    assert [line.put(each, 10) for each in rest] == [None] * len(rest)
    assert line.put(last, 10, marker=True) == [SPS, PPS, IDR]
    return line


def test_units_alone_together_and_in_fragments() -> None:
    line = begun()
    assert not line.made.wanting
    assert line.put(SLICE, 20, marker=True) == [SLICE]
    assert line.put(b"", 20) is None  # padding


def test_nothing_is_taken_before_the_first_key_frame() -> None:
    line = Line()
    assert line.put(SLICE, 10, marker=True) is None
    assert line.made.wanting


def test_a_picture_that_lacks_something_ends_all_up_to_the_next_key_frame() -> None:
    line = begun()
    first, second, *_, last = fragments(IDR)
    line.put(first, 20)
    line.made.gap()
    line.put(last, 20, marker=True)
    assert line.made.wanting
    assert line.put(SLICE, 30, marker=True) is None
    line.put(second, 40)  # a fragment without its beginning
    assert line.put(last, 40, marker=True) is None
    assert line.put(IDR, 50, marker=True) == [IDR]
    assert line.put(SLICE, 60, marker=True) == [SLICE]


def test_a_key_frame_whose_first_slice_lacks_is_none() -> None:
    """What was lost began before it: the gap is of another time than the rest of the picture."""
    line = begun()
    line.made.gap()
    assert line.put(LOWER_HALF, 20, marker=True) is None
    assert line.made.wanting
    line.put(IDR, 30)
    assert line.put(LOWER_HALF, 30, marker=True) == [IDR, LOWER_HALF]


def test_a_picture_without_end_is_bounded() -> None:
    line = begun()
    big = fragments(b"\x65" + bytes(1 << 16), 1 << 16)[0]
    for _ in range(100):
        line.put(bytes((big[0], 0x05)) + big[2:], 20)
    assert sum(map(len, line.made._units)) + len(line.made._fragment) <= 4 << 20
    assert line.made.wanting


def tags(data: bytes) -> list[Tag]:
    return FlvReader().feed(HEADER + data)


def test_tags_say_the_parameter_sets_when_they_change() -> None:
    made = Tags()
    assert made.make([IDR], 0) == b""
    config, coded = tags(made.make([SPS, PPS, IDR], 40))
    assert (config.packet, config.codec, config.timestamp) == (CONFIG, "avc1", 40)
    record = b"\x01\x42\x00\x1f\xff\xe1\x00\x05" + SPS + b"\x01\x00\x02" + PPS
    assert config.body == b"\x17\x00\x00\x00\x00" + record
    assert (coded.packet, coded.is_keyframe) == (CODED, True)
    assert coded.body[5:] == len(IDR).to_bytes(4, "big") + IDR
    (again,) = tags(made.make([SPS, PPS, IDR], 80))
    assert again.is_keyframe
    (slice_,) = tags(made.make([b"\x09\xf0", SLICE], 120))
    assert not slice_.is_keyframe
    assert slice_.body[5:] == len(SLICE).to_bytes(4, "big") + SLICE
    assert len(tags(made.make([SPS + b"\x02", PPS, IDR], 160))) == 2
