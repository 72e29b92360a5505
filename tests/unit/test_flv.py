"""FLV tags: any cut reads alike, bounds hold, and what a tag is can be told from its first
bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.flv import (
    AUDIO,
    CODED,
    CONFIG,
    HEADER,
    OTHER,
    SCRIPT,
    VIDEO,
    FlvError,
    FlvReader,
    Tag,
    encode_tag,
)

TAGS = [
    Tag(SCRIPT, 0, b"\x02\x00\x0aonMetaData"),
    Tag(VIDEO, 0, bytes.fromhex("1700000000")),
    Tag(AUDIO, 23, bytes.fromhex("af01") + bytes(50)),
    Tag(VIDEO, 0x12345678, bytes.fromhex("2701000000") + bytes(300)),
    Tag(VIDEO, 1, b""),
]
STREAM = HEADER + b"".join(tag.encode() for tag in TAGS)


def test_every_cut_reads_alike() -> None:
    for cut in range(len(STREAM) + 1):
        reader = FlvReader()
        assert reader.feed(STREAM[:cut]) + reader.feed(STREAM[cut:]) == TAGS
        assert reader.pending_bytes == 0


def test_one_byte_at_a_time() -> None:
    reader = FlvReader()
    assert [tag for byte in STREAM for tag in reader.feed(bytes((byte,)))] == TAGS


@pytest.mark.parametrize(
    ("body", "kind", "packet", "keyframe", "codec"),
    [
        ("1700000000", VIDEO, CONFIG, False, "avc1"),
        ("1701000000", VIDEO, CODED, True, "avc1"),
        ("2701000042", VIDEO, CODED, False, "avc1"),
        ("1702000000", VIDEO, OTHER, False, "avc1"),
        ("9068766331", VIDEO, CONFIG, False, "hvc1"),
        ("9168766331", VIDEO, CODED, True, "hvc1"),
        ("a361763031", VIDEO, CODED, False, "av01"),
        ("9468766331", VIDEO, OTHER, False, "hvc1"),
        ("12ff", VIDEO, CODED, True, "h263"),
        ("af001190", AUDIO, CONFIG, False, "aac"),
        ("af0121", AUDIO, CODED, False, "aac"),
        ("2fff", AUDIO, CODED, False, "mp3"),
        ("904f707573", AUDIO, CONFIG, False, "Opus"),
        ("934f707573", AUDIO, OTHER, False, "Opus"),
        ("95006d70346102", AUDIO, CONFIG, False, "mp4a"),
        ("95016d7034610221", AUDIO, CODED, False, "mp4a"),
        ("02000a", SCRIPT, OTHER, False, ""),
        ("", VIDEO, OTHER, False, ""),
    ],
)
def test_what_a_tag_is(body: str, kind: int, packet: int, keyframe: bool, codec: str) -> None:
    tag = Tag(kind, 0, bytes.fromhex(body))
    assert (tag.packet, tag.is_keyframe, tag.codec) == (packet, keyframe, codec)


def test_tracks_have_numbers() -> None:
    numbers = ("95016d70346102", "95116d70346102", "95016d7034", "914f70757302", "af0121")
    assert [Tag(AUDIO, 0, bytes.fromhex(body)).track for body in numbers] == [2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#EXTM3U\n", "not an FLV stream"),
        (b"FLV\x02", "not an FLV stream"),
        (b"FLX", "not an FLV stream"),
        (b"FLV\x01\x05\0\0\0\x0a", "header size is 10"),
        (HEADER + bytes((7, *bytes(10))), "kind is 7"),
        (HEADER + bytes((9,)) + b"\xff\xff\xff" + bytes(7), "16777215 bytes"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(FlvError, match=message):
        FlvReader().feed(data)


def test_a_tag_that_is_too_large_is_refused_before_it_is_held() -> None:
    reader = FlvReader(max_body_bytes=100)
    with pytest.raises(FlvError, match="allowed are 100"):
        reader.feed(HEADER + encode_tag(VIDEO, 0, bytes(101))[:11])


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(st.binary(max_size=100), max_size=20), begun=st.booleans())
def test_random_bytes_raise_nothing_else(pieces: list[bytes], begun: bool) -> None:
    reader = FlvReader(max_body_bytes=1000)
    try:
        if begun:
            reader.feed(HEADER)
        for piece in pieces:
            reader.feed(piece)
            assert reader.pending_bytes <= 1100
    except FlvError:
        pass
