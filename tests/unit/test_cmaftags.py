"""origin/cmaftags.py: what an init section and frames are as FLV tags, by the specifications."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

from edgecache.enhanced import plain
from edgecache.flv import AUDIO, CODED, CONFIG, Tag
from origin.broker import Broker
from origin.cmaf import CmafError, Frame, Init
from origin.cmaftags import Tags, metadata, tags_of

DOPS = bytes.fromhex("000201380000bb80000000")
OPUS_HEAD = b"OpusHead" + bytes.fromhex("0102380180bb0000000000")
KEY = Frame(900, 100, 50, sync=True, data=b"key")
DELTA = Frame(950, -50, 50, sync=False, data=b"delta")


def box(kind: bytes, *inside: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, inside)), kind) + b"".join(inside)


def moov(*edits: tuple[int, int], version: int = 0) -> bytes:
    """A movie of 1000 ticks/s whose track has these edits: (duration, media time)."""
    form = ">QqI" if version else ">IiI"
    listed = b"".join(struct.pack(form, *edit, 1 << 16) for edit in edits)
    elst = box(b"elst", struct.pack(">B3xI", version, len(edits)), listed)
    mvhd = box(b"mvhd", struct.pack(">4xIII", 0, 0, 1000))
    return box(b"moov", mvhd, box(b"trak", box(b"edts", elst)))


def init(codec: str, config: bytes, body: bytes = b"") -> Init:
    return Init(
        body=body, track_id=1, timescale=1000,
        kind="audio" if codec.startswith(("opus", "mp4a")) else "video",
        codec=codec, width=160, height=90, config=config,
    )  # fmt: skip


def both(tags: Tags, frame: Frame) -> tuple[Tag, Tag]:
    """The tags of the configuration and of a frame, that enhanced.py leaves as they are."""
    made = Tag(tags.kind, 0, tags.config), Tag(tags.kind, 0, tags.body(frame))
    assert [tag.packet for tag in made] == [CONFIG, CODED]
    assert all(tag.codec == made[0].codec for tag in made)
    for tag in made:
        assert plain(tag, Counter()) == [tag]
    return made


@pytest.mark.parametrize("codec", ["avc1.42C01E", "avc3.42C01E"])
def test_h264(codec: str) -> None:
    tags = tags_of(init(codec, b"avcC"))
    config, key = both(tags, KEY)
    assert config.body == bytes.fromhex("1700000000") + b"avcC"
    assert key.body == bytes.fromhex("1701000064") + b"key"
    assert key.is_keyframe
    assert tags.body(DELTA) == bytes.fromhex("2701ffffce") + b"delta"
    assert (tags.at_ms(KEY), tags.fps(KEY), tags.size) == (900, 20.0, (160, 90))


@pytest.mark.parametrize("codec", ["hvc1.1.6.L30.90", "hev1.1.6.L30.90"])
def test_hevc(codec: str) -> None:
    config, key = both(tags_of(init(codec, b"hvcC")), KEY)
    assert config.body == b"\x90hvc1hvcC"
    assert key.body == b"\x91hvc1\0\0\x64key"
    assert key.is_keyframe


def test_av1_and_opus() -> None:
    config, key = both(tags_of(init("av01.0.04M.08", b"av1C")), KEY)
    assert (config.body, key.body) == (b"\x90av01av1C", b"\x91av01key")
    config, sound = both(tags_of(init("opus", DOPS)), KEY)
    assert (config.kind, config.body) == (AUDIO, b"\x90Opus" + OPUS_HEAD)
    assert sound.body == b"\x91Opuskey"


@pytest.mark.parametrize(
    ("edits", "version", "shift_ms"),
    [
        ([], 0, 0),
        ([(0, 133)], 0, -133),  # reordered pictures begin below zero
        ([(0, 133)], 1, -133),
        ([(500, -1), (0, 100)], 0, 400),  # a track that begins later
        ([(500, -1)], 1, 500),
    ],
)
def test_an_edit_list_moves_the_times(
    edits: list[tuple[int, int]], version: int, shift_ms: int
) -> None:
    tags = tags_of(init("avc1.42C01E", b"avcC", moov(*edits, version=version)))
    assert tags.at_ms(KEY) == 900 + shift_ms


def test_metadata_is_what_the_broker_reads() -> None:
    picture = tags_of(init("avc1.42C01E", b"avcC"))
    broker = Broker()
    script = Tag(18, 0, metadata(picture, None, 25.0))
    config, key = both(picture, KEY)
    header = b"FLV\x01\x05\0\0\0\x09\0\0\0\0"
    broker.feed(header + b"".join(tag.encode() for tag in (script, config, key)))
    assert broker.source is not None, "no sound was announced, so none is waited for"
    assert (broker.source.size, broker.source.fps) == ((160, 90), 25.0)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (init("mp4a.6B", b"esds"), "mp4a.6B; send H.264, HEVC or AV1 with AAC or Opus"),
        (init("avc1.000000", b""), "without its configuration"),
        (init("opus", DOPS[:4]), "runs past its box"),
        (init("mp4a.40.2", b"\0\0\0\0\x03"), "runs past its box"),
        (init("avc1.42C01E", b"avcC", moov((0, 1))[:-4]), "truncated"),
    ],
)
def test_what_has_no_place_in_flv_is_told(made: Init, says: str) -> None:
    with pytest.raises(CmafError, match=says):
        tags_of(made)
