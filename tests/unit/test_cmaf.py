"""The demuxer reads what encoders write, in any slicing, and survives whatever else comes."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.cmaf import MAX_SAMPLES, CmafError, Demuxer, Frame, Init, parse_init
from origin.packager import fragment


def box(kind: bytes, *payload: bytes) -> bytes:
    body = b"".join(payload)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


AVCC = box(b"avcC", bytes((1, 0x64, 0x00, 0x1F, 0xFF, 0xE0, 0)))
ESDS = box(
    b"esds",
    u32(0),
    b"\x03\x19\x00\x01\x00\x04\x11\x40\x15" + bytes(11) + b"\x05\x02\x11\x90\x06\x01\x02",
)
FTYP = box(b"ftyp", b"iso6", u32(0), b"cmfc")


def visual(kind: bytes, config: bytes) -> bytes:
    size = struct.pack(">HH", 1280, 720)
    return box(kind, bytes(6), b"\0\1", bytes(16), size, bytes(50), config)


def audio(kind: bytes, config: bytes) -> bytes:
    return box(
        kind, bytes(6), b"\0\1", bytes(8), struct.pack(">HHII", 2, 16, 0, 48000 << 16), config
    )


def moov(entry: bytes, *, timescale: int = 90000, tracks: int = 1, version: int = 0) -> bytes:
    times = bytes(16 if version else 8)
    stsd = box(b"stsd", u32(0, 1), entry)
    mdhd = box(b"mdhd", u32(version << 24), times, u32(timescale, 0), bytes(4))
    mdia = box(b"mdia", mdhd, box(b"minf", box(b"stbl", stsd)))
    trak = box(b"trak", box(b"tkhd", u32(version << 24), times, u32(1, 0)), mdia)
    trex = box(b"mvex", box(b"trex", u32(0, 1, 1, 3000, 7, 0x10000)))
    return box(b"moov", box(b"mvhd", bytes(100)), trak * tracks, trex)


INIT = FTYP + moov(visual(b"avc1", AVCC))


def frames(count: int, *, dts: int = 900_000, size: int = 5) -> list[Frame]:
    return [
        Frame(dts + 3000 * i, (i % 3) * 1500 - 1500, 3000, i == 0, bytes((i & 255,)) * size)
        for i in range(count)
    ]


def init() -> Init:
    return parse_init(FTYP, moov(visual(b"avc1", AVCC)))


def stream(count: int = 12, per_fragment: int = 1) -> tuple[bytes, list[Frame]]:
    sent = frames(count)
    parts = [sent[i : i + per_fragment] for i in range(0, count, per_fragment)]
    return INIT + b"".join(fragment(init(), part, n) for n, part in enumerate(parts)), sent


def feed_all(demuxer: Demuxer, slices: Iterable[bytes]) -> list[Init | Frame]:
    return [item for piece in slices for item in demuxer.feed(piece)]


@pytest.mark.parametrize(
    ("entry", "codec", "kind"),
    [
        (visual(b"avc1", AVCC), "avc1.64001F", "video"),
        (
            visual(
                b"hvc1",
                box(b"hvcC", bytes((1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93)), bytes(10)),
            ),
            "hvc1.1.6.L93.90",
            "video",
        ),
        (visual(b"av01", box(b"av1C", bytes((0x81, 0x05, 0x4C, 0)))), "av01.0.05M.10", "video"),
        (audio(b"mp4a", ESDS), "mp4a.40.2", "audio"),
        (audio(b"Opus", box(b"dOps", bytes((0, 2)), bytes(9))), "opus", "audio"),
    ],
)
@pytest.mark.parametrize("version", [0, 1])
def test_what_an_init_section_says(entry: bytes, codec: str, kind: str, version: int) -> None:
    found = parse_init(FTYP, moov(entry, version=version))
    assert (found.codec, found.kind, found.timescale, found.track_id) == (codec, kind, 90000, 1)
    assert (found.default_duration, found.default_size, found.default_flags) == (3000, 7, 0x10000)
    if kind == "video":
        assert (found.width, found.height) == (1280, 720)
    else:
        assert (found.channels, found.sample_rate) == (2, 48000)


def test_mono_is_read_from_the_audio_config() -> None:
    mono = ESDS.replace(b"\x05\x02\x11\x90", b"\x05\x02\x11\x88")
    assert parse_init(FTYP, moov(audio(b"mp4a", mono))).channels == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (moov(visual(b"vp09", AVCC)), "codec"),
        (moov(visual(b"avc1", b"")), "codec"),
        (moov(visual(b"avc1", AVCC), tracks=2), "tracks"),
        (moov(visual(b"avc1", AVCC), timescale=0), "timescale"),
        (box(b"moov"), "missing"),
        (moov(audio(b"mp4a", box(b"esds", u32(0), b"\x04"))), "esds"),
        (moov(audio(b"mp4a", box(b"esds", u32(0), b"\x03\x80\x80\x80\x80\x80"))), "esds"),
        (moov(audio(b"mp4a", box(b"esds", u32(0), b"\x03\x02"))), "truncated"),
        (box(b"moov", b"\0\0\0\x20trak"), "truncated"),
    ],
)
def test_inits_that_are_refused(body: bytes, reason: str) -> None:
    with pytest.raises(CmafError) as caught:
        parse_init(FTYP, body)
    assert caught.value.reason == reason
    demuxer = Demuxer()
    assert demuxer.feed(FTYP + body + stream()[0]) == []
    assert demuxer.broken is not None  # nothing that follows can be read without it
    assert demuxer.broken.reason == "moov"


@pytest.mark.parametrize("per_fragment", [1, 5, 12])
def test_frames_come_back_as_they_were(per_fragment: int) -> None:
    data, sent = stream(per_fragment=per_fragment)
    demuxer = Demuxer()
    found = demuxer.feed(data)
    assert isinstance(found[0], Init)
    assert found[0].body == INIT
    assert found[1:] == sent
    assert not demuxer.dropped
    assert demuxer.broken is None


@given(cuts=st.lists(st.integers(1, 97), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_slicing_does_not_matter(cuts: list[int]) -> None:
    data, sent = stream(per_fragment=3)
    pieces, at, turn = [], 0, 0
    while at < len(data):
        pieces.append(data[at : at + cuts[turn % len(cuts)]])
        at += len(pieces[-1])
        turn += 1
    assert feed_all(Demuxer(), pieces)[1:] == sent


def test_every_prefix_gives_a_prefix() -> None:
    data, sent = stream(6)
    for end in range(len(data)):
        demuxer = Demuxer()
        found = [item for item in demuxer.feed(data[:end]) if isinstance(item, Frame)]
        assert found == sent[: len(found)]
        assert demuxer.broken is None
        rest = [item for item in demuxer.feed(data[end:]) if isinstance(item, Frame)]
        assert found + rest == sent


def test_64_bit_sizes_and_unknown_boxes_between() -> None:
    data, sent = stream(1)
    at = data.index(b"mdat") - 4
    body = data[at + 8 :]
    # a data offset of a 64-bit mdat is 8 more: the moof must say so
    moof = bytearray(data[len(INIT) : at])
    where = moof.index(b"trun") + 12
    struct.pack_into(">i", moof, where, struct.unpack_from(">i", moof, where)[0] + 8)
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + len(body)) + body
    assert feed_all(Demuxer(), [INIT, box(b"free", b"x"), bytes(moof), large])[1:] == sent


def broken_trun(**changes: int) -> bytes:
    """A stream of one fragment with fields of its run overwritten: name -> offset into the box."""
    offsets = {"flags": 8, "count": 12, "offset": 16}
    data = bytearray(stream(1)[0])
    start = data.index(b"trun") - 4
    for field, value in changes.items():
        struct.pack_into(">I", data, start + offsets[field], value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (broken_trun(count=0xFFFFFFFF), "samples"),
        (broken_trun(count=MAX_SAMPLES), "truncated"),
        (broken_trun(flags=0x01000001, count=MAX_SAMPLES), "outside"),  # no sizes to run out of
        (broken_trun(flags=0x01000200), "no_offset"),
        (broken_trun(offset=0x7FFFFFFF), "outside"),
        (broken_trun(offset=0x80000000), "outside"),
        (broken_trun(offset=0), "outside"),
        (stream(1)[0].replace(b"tfdt", b"free"), "no_tfdt"),
        (stream(1)[0].replace(b"tfhd\0\2\0\x28\0\0\0\1", b"tfhd\0\2\0\x28\0\0\0\2"), "track"),
        (stream(1)[0].replace(b"tfhd\0\2\0\x28", b"tfhd\0\2\0\x29"), "base_offset"),
        (INIT + box(b"mdat", b"x"), "no_moof"),
        (stream(1)[0][len(INIT) :], "no_moov"),
    ],
)
def test_a_bad_fragment_costs_itself_only(data: bytes, reason: str) -> None:
    demuxer = Demuxer()
    demuxer.feed(data)
    assert dict(demuxer.dropped) == {reason: 1}
    assert demuxer.broken is None
    more, sent = stream(2)
    assert demuxer.feed(more)[1:] == sent


def test_samples_cannot_multiply_the_bytes_fed() -> None:
    """Runs that name the same megabyte again and again, or a million empty samples."""
    moof = bytearray(fragment(init(), frames(1, size=1 << 16), 1))
    del moof[moof.index(b"mdat") - 4 :]
    trun = bytes(moof[moof.index(b"trun") - 4 :])
    for run in (trun, box(b"trun", u32(0x01000001, MAX_SAMPLES, 0))):
        repeated = run * 1000
        large = bytearray(moof + repeated)
        traf = large.index(b"traf") - 4
        for at, size in ((0, len(large)), (traf, len(large) - traf)):
            struct.pack_into(">I", large, at, size)
        for match in range(len(moof) - len(trun), len(large), len(run)):
            if large[match + 4 : match + 8] == b"trun":
                struct.pack_into(">I", large, match + 16, len(large) + 8)
        demuxer = Demuxer()
        found = demuxer.feed(INIT + bytes(large) + box(b"mdat", bytes(1 << 16)))
        assert len(found) == 1
        assert sum(demuxer.dropped.values()) == 1


def test_a_moof_without_mdat_is_counted() -> None:
    data, sent = stream(1)
    moof = data[len(INIT) : data.index(b"mdat") - 4]
    demuxer = Demuxer()
    assert demuxer.feed(INIT + moof + data[len(INIT) :])[1:] == sent
    assert demuxer.dropped == {"no_mdat": 1}


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (u32(0) + b"mdat", "framing"),
        (u32(7) + b"mdat", "framing"),
        (u32(1) + b"mdat" + struct.pack(">Q", 15), "framing"),
        (u32(4097) + b"mdat", "oversize"),
        (u32(1) + b"mdat" + struct.pack(">Q", 1 << 63), "oversize"),
        (b"GET / HTTP/1.1\r\n\r\n", "oversize"),
    ],
)
def test_lost_framing_is_for_good_and_holds_no_memory(head: bytes, reason: str) -> None:
    demuxer = Demuxer(max_box=4096)
    assert len(demuxer.feed(stream(3)[0] + head)) == 4
    assert demuxer.broken is not None
    assert demuxer.broken.reason == reason
    assert demuxer.feed(b"x" * 100_000) == []
    assert demuxer.dropped["bytes"] == len(head) + 100_000


@given(
    data=st.data(),
    count=st.integers(1, 4),
)
@settings(max_examples=300, deadline=None)
def test_mutated_streams_never_raise(data: st.DataObject, count: int) -> None:
    """Flip, cut and repeat bytes anywhere: no exception, and frames only of bytes that were fed."""
    body = bytearray(stream(count)[0])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=5))
        if not body:
            return
    demuxer = Demuxer(max_box=1 << 16)
    found = feed_all(demuxer, (bytes(body[i : i + 64]) for i in range(0, len(body), 64)))
    assert sum(len(item.data) for item in found if isinstance(item, Frame)) <= len(body)


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_noise_never_raises(noise: bytes) -> None:
    Demuxer(max_box=1 << 16).feed(noise)
    Demuxer(max_box=1 << 16).feed(INIT + noise)


def test_cost_is_linear_in_the_bytes() -> None:
    """One large box in small slices: twice the bytes must not take four times as long."""

    def seconds(size: int) -> float:
        data = INIT + fragment(init(), frames(1, size=size), 1)
        start = time.process_time()
        found = feed_all(Demuxer(), (data[i : i + 512] for i in range(0, len(data), 512)))
        assert len(found) == 2
        return time.process_time() - start

    small = min(seconds(1 << 20) for _ in range(3))
    large = min(seconds(1 << 23) for _ in range(3))
    assert large < 8 * small * 3 + 0.02
