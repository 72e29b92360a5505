"""Enhanced RTMP taken apart: every form of it becomes a plain one, and nothing hostile passes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.enhanced import AUDIO_CODECS, VIDEO_CODECS, plain
from edgecache.flv import AUDIO, CODED, CONFIG, MAX_TRACKS, SCRIPT, VIDEO, Tag

MANY, MANY_CODECS = 1, 2


def split(body: bytes, kind: int = AUDIO) -> tuple[list[bytes], Counter[str]]:
    dropped: Counter[str] = Counter()
    return [tag.body for tag in plain(Tag(kind, 40, body), dropped)], dropped


def sized(track: int, payload: bytes) -> bytes:
    return bytes((track,)) + len(payload).to_bytes(3, "big") + payload


@pytest.mark.parametrize(
    ("kind", "body", "out"),
    [
        # H.264, AAC and MP3 by their codes are what they always were
        (VIDEO, b"\x90avc1CFG", b"\x17\0\0\0\0CFG"),
        (VIDEO, b"\x91avc1\0\0\x28PIC", b"\x17\x01\0\0\x28PIC"),
        (VIDEO, b"\xa3avc1PIC", b"\x27\x01\0\0\0PIC"),
        (AUDIO, b"\x90mp4a\x11\x90", b"\xaf\0\x11\x90"),
        (AUDIO, b"\x91mp4aSND", b"\xaf\x01SND"),
        (AUDIO, b"\x91.mp3SND", b"\x2fSND"),
        # others stay behind theirs
        (VIDEO, b"\x91hvc1\0\0\0PIC", b"\x91hvc1\0\0\0PIC"),
        (VIDEO, b"\xa1av01PIC", b"\xa1av01PIC"),
        (AUDIO, b"\x91OpusSND", b"\x91OpusSND"),
        # extensions of the header: 3 bytes of nanoseconds, and one of 300 bytes
        (VIDEO, b"\x97\x02\0\x12\x34\x01av01PIC", b"\x91av01PIC"),
        (AUDIO, b"\x97\xff\x01\x2b" + bytes(300) + b"\x51OpusSND", b"\x91OpusSND"),
        # one track, of which the first is as if it were alone
        (AUDIO, b"\x95\x01mp4a\0SND", b"\xaf\x01SND"),
        (AUDIO, b"\x95\x01mp4a\x02SND", b"\x95\x01mp4a\x02SND"),
        (VIDEO, b"\x96\x03avc1\0PIC", b"\x17\x01\0\0\0PIC"),
    ],
)
def test_one_form_for_each(kind: int, body: bytes, out: bytes) -> None:
    assert split(body, kind) == ([out], Counter())


def test_tracks_part_company() -> None:
    both = sized(0, b"AA") + sized(1, b"BBB")
    assert split(bytes((0x95, MANY << 4 | 1)) + b"Opus" + both) == (
        [b"\x91OpusAA", b"\x95\x01Opus\x01BBB"],
        Counter(),
    )
    mixed = b"mp4a" + sized(0, b"AA") + b"ac-3" + sized(3, b"B")
    found, dropped = split(bytes((0x95, MANY_CODECS << 4 | 1)) + mixed)
    assert (found, dropped) == ([b"\xaf\x01AA", b"\x95\x01ac-3\x03B"], Counter())
    second = Tag(AUDIO, 0, found[1])
    assert (second.packet, second.codec, second.track) == (CODED, "ac-3", 3)


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (VIDEO, b"\x91hev1PIC", "codec"),
        (AUDIO, b"\x91\0\0\0\0SND", "codec"),
        (VIDEO, b"\xd4hvc1\x02\0\x09colorInfo", "not_media"),  # HDR metadata
        (AUDIO, b"\x94Opus\x01\x01", "not_media"),  # channels
        (VIDEO, b"\x92hvc1", "not_media"),  # end of sequence
        (VIDEO, b"\xd1\x00", "not_media"),  # a command to seek
        (AUDIO, b"\x93OpusSND", "not_media"),  # sound has no CodedFramesX
        (AUDIO, b"\x95\x05Opus\x01SND", "not_media"),  # tracks in tracks
        (VIDEO, b"\x96\x01hvc1\x01PIC", "track"),  # another picture
        (AUDIO, b"\x95\x01Opus" + bytes((MAX_TRACKS,)), "track"),
        (AUDIO, b"\x91Opu", "cut_short"),
        (AUDIO, b"\x95", "cut_short"),
        (AUDIO, b"\x95\x01Opus", "cut_short"),
        (AUDIO, b"\x95\x11Opus\x01\0\0\x09SND", "cut_short"),  # a size that lies
        (AUDIO, b"\x97\xff\xff\xff\x01OpusSND", "cut_short"),
        (AUDIO, b"\x97\0\0\x07", "cut_short"),
    ],
)
def test_what_is_of_no_use_is_counted(kind: int, body: bytes, reason: str) -> None:
    assert split(body, kind) == ([], Counter({reason: 1}))


def test_what_was_whole_before_the_fault_passes() -> None:
    body = bytes((0x95, MANY << 4 | 1)) + b"Opus" + sized(0, b"AA") + b"\x01\0\0"
    found, dropped = split(body)
    assert dropped == {"cut_short": 1}
    assert found == [b"\x91OpusAA"]


@pytest.mark.parametrize(
    "tag", [Tag(VIDEO, 0, b"\x17\x01\0\0\0"), Tag(AUDIO, 0, b""), Tag(SCRIPT, 0, b"\x90")]
)
def test_what_is_not_enhanced_is_left_alone(tag: Tag) -> None:
    assert plain(tag, Counter()) == [tag]


_HEADS = st.sampled_from(
    [
        *(b"\x95\x11" + code.encode() for code in AUDIO_CODECS),
        *(b"\x96\x21" + code.encode() for code in VIDEO_CODECS),
        b"\x97",
        b"\x95",
        b"\x96",
        b"\x90",
    ]
)


@given(kind=st.sampled_from((AUDIO, VIDEO)), head=_HEADS, rest=st.binary(max_size=64))
def test_anything_at_all(kind: int, head: bytes, rest: bytes) -> None:
    """No more bytes leave than came, but for a head of 7; and what leaves is of one plain track."""
    body = head + rest
    dropped: Counter[str] = Counter()
    found = plain(Tag(kind, 0, body), dropped)
    assert found or dropped
    assert sum(len(tag.body) - 7 for tag in found) <= len(body)
    for tag in found:
        assert plain(tag, Counter()) == [tag]
        assert tag.packet in (CONFIG, CODED)
        assert tag.track < MAX_TRACKS
