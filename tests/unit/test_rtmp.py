"""RTMP and AMF0: what real publishers send passes, whatever else is sent does not hurt."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache import amf, flv
from edgecache.flv import AUDIO, VIDEO, Tag
from edgecache.rtmp import Ended, Event, Limits, PublishRequested, RtmpError, Session

HELLO = b"\x03" + bytes(1536)
SHAKEN = HELLO + bytes(1536)


def chunk(
    body: bytes, *, kind: int, stamp: int = 0, number: int = 3, size: int = 128, form: int = 0
) -> bytes:
    """A message as a publisher sends it, cut into chunks of `size`; form: 0, 1 or 2 of the
    first."""
    short = min(stamp, 0xFFFFFF)
    extra = stamp.to_bytes(4, "big") if short == 0xFFFFFF else b""
    head = short.to_bytes(3, "big")
    if form < 2:
        head += len(body).to_bytes(3, "big") + bytes((kind,))
    if form == 0:
        head += bytes(4)
    out = _basic(form, number) + head + extra + body[:size]
    for at in range(size, len(body), size):
        out += _basic(3, number) + extra + body[at : at + size]
    return out


def _basic(form: int, number: int) -> bytes:
    if number < 64:
        return bytes((form << 6 | number,))
    if number < 320:
        return bytes((form << 6, number - 64))
    return bytes((form << 6 | 1,)) + (number - 64).to_bytes(2, "little")


def command(*values: amf.Value) -> bytes:
    return chunk(amf.encode(*values), kind=20)


CONNECT = command("connect", 1, {"app": "live", "tcUrl": "rtmp://x/live", "flashVer": "FMLE/3.0"})
PUBLISH = command("publish", 5, None, "the-key", "live")
METADATA = chunk(
    amf.encode("@setDataFrame", "onMetaData", {"width": 640, "videocodecid": 7}), kind=18, number=4
)
FRAME = bytes(range(256)) * 4
OPENING = (
    SHAKEN
    + CONNECT
    + command("releaseStream", 2, None, "the-key")
    + command("FCPublish", 3, None, "the-key")
    + command("createStream", 4, None)
    + PUBLISH
)
WHOLE = (
    OPENING
    + METADATA
    + chunk(b"\x17\x00" + bytes(20), kind=9, number=6)
    + chunk(b"\x17\x01" + FRAME, kind=9, stamp=40, number=6)
    + chunk(b"\xaf\x01" + bytes(200), kind=8, stamp=23, number=5, form=1)
    + command("FCUnpublish", 6, None, "the-key")
    + command("deleteStream", 7, None, 1)
)


def play(data: bytes, cuts: list[int] | None = None) -> tuple[list[Event], bytes, Session]:
    """Feed in pieces, accepting whoever asks."""
    session = Session()
    events: list[Event] = []
    out = b""
    edges = [0, *sorted(cuts or []), len(data)]
    for start, stop in itertools.pairwise(edges):
        for event in session.feed(data[start:stop]):
            events.append(event)
            if isinstance(event, PublishRequested):
                session.accept()
        out += session.take_output()
    return events, out, session


def answers(out: bytes) -> Iterator[list[amf.Value]]:
    """Commands in what the server sent after the handshake (single chunks)."""
    at = 1 + 2 * 1536
    while at < len(out):
        length = int.from_bytes(out[at + 4 : at + 7], "big")
        if out[at + 7] == 20:
            yield amf.decode(out[at + 12 : at + 12 + length])
        at += 12 + length


def opened() -> Session:
    session = Session()
    session.feed(OPENING)
    session.accept()
    session.take_output()
    return session


def test_a_publish_in_one_piece_needs_accept_before_media_counts() -> None:
    session = Session()
    events = session.feed(WHOLE)
    assert events == [PublishRequested("live", "the-key")]
    assert session.ignored == 4  # media of nobody we know


def test_whole_session() -> None:
    first, out, session = play(WHOLE, [len(OPENING)])
    kinds = [type(event) for event in first]
    assert kinds == [PublishRequested, Tag, Tag, Tag, Tag, Ended]
    tags = [event for event in first if isinstance(event, Tag)]
    assert tags[0].body == amf.encode("onMetaData", {"width": 640, "videocodecid": 7})
    assert tags[2] == Tag(VIDEO, 40, b"\x17\x01" + FRAME)
    assert tags[3] == Tag(AUDIO, 23, b"\xaf\x01" + bytes(200))
    assert not session.publishing
    told = list(answers(out))
    assert [name for name, *_ in told] == ["_result"] * 4 + ["onStatus"]
    connected = told[0][2]
    assert isinstance(connected, dict)
    for code in ("avc1", "hvc1", "av01", "mp4a", "Opus", "ac-3"):
        assert code in connected["fourCcList"]  # type: ignore[operator]
    assert connected["videoFourCcInfoMap"]["av01"] == 4  # type: ignore[index,call-overload]
    assert connected["audioFourCcInfoMap"]["Opus"] == 4  # type: ignore[index,call-overload]
    assert connected["capsEx"] == 6  # multitrack, ModEx; not to be told to reconnect
    assert told[3] == ["_result", 4.0, None, 1.0]
    assert told[4][3]["code"] == "NetStream.Publish.Start"  # type: ignore[index,call-overload]


def test_every_cut_gives_the_same_events() -> None:
    whole = play(WHOLE, [len(OPENING)])[0]
    for cut in range(1, len(WHOLE), 7):
        assert play(WHOLE, [cut, len(OPENING)])[0] == whole


def test_key_does_not_show() -> None:
    assert "the-key" not in repr(PublishRequested("live", "the-key"))


def test_reject_says_why() -> None:
    session = Session()
    session.feed(OPENING)
    session.take_output()
    session.reject("bad stream key")
    out = session.take_output()
    status = amf.decode(out[12:])[3]
    assert isinstance(status, dict)
    assert (status["code"], status["level"]) == ("NetStream.Publish.BadName", "error")
    assert status["description"] == "bad stream key"


def test_timestamps() -> None:
    """Absolute, delta, repeated delta, extended, wrapped."""
    body = b"\xaf\x01" + bytes(10)
    data = chunk(body, kind=8, stamp=1000, number=5)
    data += chunk(body, kind=8, stamp=20, number=5, form=1)
    data += chunk(body, kind=8, stamp=21, number=5, form=2)
    data += b"\xc5" + body  # format 3 begins a message: the last delta again
    data += chunk(bytes(300), kind=8, stamp=0x01000000, number=5)
    data += chunk(body, kind=8, stamp=0xFFFFFFF0, number=5)
    data += chunk(body, kind=8, stamp=0x20, number=5, form=2)[:1] + (0x20).to_bytes(3, "big") + body
    tags = [event for event in opened().feed(data) if isinstance(event, Tag)]
    stamps = [1000, 1020, 1041, 1062, 0x01000000, 0xFFFFFFF0, 0x10]
    assert [tag.timestamp for tag in tags] == stamps
    assert tags[4].body == bytes(300)


@pytest.mark.parametrize("number", [2, 63, 64, 319, 320, 65599])
def test_chunk_stream_ids(number: int) -> None:
    (tag,) = opened().feed(chunk(b"\x27\x01" + FRAME, kind=9, number=number))
    assert tag == Tag(VIDEO, 0, b"\x27\x01" + FRAME)


def test_set_chunk_size_holds_from_the_next_chunk() -> None:
    big = bytes(5000)
    data = chunk((4096).to_bytes(4, "big"), kind=1, number=2) + chunk(big, kind=9, size=4096)
    (tag,) = opened().feed(data)
    assert tag == Tag(VIDEO, 0, big)


def test_abort_forgets_the_message() -> None:
    session = opened()
    begun = chunk(bytes(200), kind=9, number=6)[: 12 + 128]
    abort = chunk((6).to_bytes(4, "big"), kind=2, number=2)
    (tag,) = session.feed(begun + abort + chunk(b"\x27\x01", kind=9, number=6))
    assert tag == Tag(VIDEO, 0, b"\x27\x01")


def test_ping_and_acknowledgement() -> None:
    session = opened()
    session.feed(chunk(b"\0\x06abcd", kind=4, number=2))
    assert session.take_output()[12:] == b"\0\x07abcd"
    session.feed(chunk((1000).to_bytes(4, "big"), kind=5, number=2))
    session.take_output()
    session.feed(chunk(bytes(2000), kind=9))
    out = session.take_output()
    assert out[7] == 3
    assert int.from_bytes(out[12:16], "big") > 2000


REFUSED = {
    "version": (b"\x06" + bytes(10), "version is 6"),
    "http": (b"GET / HTTP/1.1\r\n", "version is 71"),
    "publish before connect": (SHAKEN + PUBLISH, "before connect"),
    "play": (SHAKEN + CONNECT + command("play", 1, None, "x"), "play"),
    "publish twice": (OPENING + PUBLISH, "second time"),
    "no key": (SHAKEN + CONNECT + command("publish", 5, None, ""), "stream key"),
    "long key": (SHAKEN + CONNECT + command("publish", 5, None, "k" * 513), "stream key"),
    "no app": (SHAKEN + command("connect", 1, {}), "app"),
    "chunk size 0": (SHAKEN + chunk(bytes(4), kind=1, number=2), "chunk size is 0"),
    "chunk size": (SHAKEN + chunk(b"\x7f\xff\xff\xff", kind=1, number=2), "chunk size"),
    "format 3 first": (SHAKEN + b"\xc5", "begins with format 3"),
    "media before accept": (SHAKEN + b"\x05" + bytes(3) + b"\x02\0\0\x09" + bytes(4), "131072 byt"),
    "large command": (SHAKEN + b"\x05" + bytes(3) + b"\xff\xff\xff\x14" + bytes(4), "16777215"),
    "broken message": (SHAKEN + chunk(bytes(200), kind=9)[:140] + chunk(b"", kind=9), "inside"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(RtmpError, match=message):
        Session().feed(data)


def test_unfinished_messages_are_bounded() -> None:
    """64 chunk streams with 8 MiB begun on each would be half a gigabyte."""
    session = Session(limits=Limits(partial_bytes=1 << 20))
    session.feed(OPENING)
    session.accept()
    session.feed(chunk((1 << 16).to_bytes(4, "big"), kind=1, number=2))
    head = bytes(3) + (8 << 20).to_bytes(3, "big") + b"\x09" + bytes(4)
    begun = b"".join(bytes((number,)) + head + bytes(1 << 16) for number in range(3, 63))
    with pytest.raises(RtmpError, match="unfinished"):
        session.feed(begun)


def test_chunk_streams_are_bounded() -> None:
    session = opened()
    many = b"".join(chunk(b"", kind=9, number=number) for number in range(100, 200))
    with pytest.raises(RtmpError, match="64 chunk streams"):
        session.feed(many)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\xff\xff\xff\xff", "allowed are 1000"),
        (b"\x0a\x00\x00\x00\x01" * 12, "deeper"),
        (b"\x03\x00\x01a" * 12, "deeper"),
        (b"\x05" * 1001, "more than 1000"),
        (b"\x02\x00\x10abc", "cut"),
        (b"\x00\x00", "cut"),
        (b"\x10", "marker 16"),
    ],
)
def test_amf_bounds(data: bytes, message: str) -> None:
    with pytest.raises(amf.AmfError, match=message):
        amf.decode(data)


def test_amf_values() -> None:
    values: list[amf.Value] = ["a", 1.5, True, None, {"b": ["c", {"d": False}]}, "x" * 70000]
    assert amf.decode(amf.encode(*values)) == values
    assert amf.decode(b"\x08\0\0\0\x09\0\x01a\x05\0\0\x09") == [{"a": None}]
    assert amf.decode(b"\x0b" + struct.pack(">d", 7.0) + b"\0\0") == [7.0]
    assert amf.decode(b"\x06") == [None]


MUTATION = st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))


@settings(max_examples=150, deadline=None)
@given(mutations=st.lists(MUTATION, max_size=6), cut=st.integers(1, len(WHOLE)), tail=st.binary())
def test_mutated_sessions_raise_nothing_else(
    mutations: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    data = bytearray(WHOLE)
    for at, value in mutations:
        data[at] = value
    session = Session()
    try:
        for piece in (bytes(data[:cut]), bytes(data[cut:]), tail):
            for event in session.feed(piece):
                if isinstance(event, PublishRequested):
                    session.accept()
    except RtmpError:
        pass
    assert len(session.take_output()) < 3073 + 40 * 600


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(st.binary(max_size=400), max_size=20), shaken=st.booleans())
def test_random_bytes_raise_nothing_else(pieces: list[bytes], shaken: bool) -> None:
    session = Session()
    try:
        if shaken:
            session.feed(OPENING)
            session.accept()
        for piece in pieces:
            session.feed(piece)
    except RtmpError:
        pass


def test_memory_of_hostile_sessions_is_bounded() -> None:
    """What a session holds is what its limits say, whatever lengths are announced."""
    session = Session(limits=Limits(partial_bytes=1 << 20))
    session.feed(OPENING)
    session.accept()
    tracemalloc.start()
    try:
        head = bytes(3) + (8 << 20).to_bytes(3, "big") + b"\x09" + bytes(4)
        for number in range(3, 63):
            session.feed(bytes((number,)) + head + bytes(128))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000
    assert peak < 400_000


def test_flv_of_a_session_reads_back() -> None:
    tags = [event for event in play(WHOLE, [len(OPENING)])[0] if isinstance(event, Tag)]
    data = flv.HEADER + b"".join(tag.encode() for tag in tags)
    assert flv.FlvReader().feed(data) == tags
