"""SRT's handshakes and stream ids, as libsrt 1.5 sends them and as nobody should."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache import srt
from edgecache.control.rates import Rates

# An induction and a conclusion of ffmpeg 5.1 with libsrt 1.5.1, the latter with the stream id
# abcdefgh1 and a passphrase, and what a listener answers.
INDUCTION = bytes.fromhex(
    "80000000 00000000 0000008c 00000000 00000004 00000002 2511755d 000005dc 00002000 00000001"
    "306525ed 00000000 0100007f 00000000 00000000 00000000"
)
INVITATION = bytes.fromhex(
    "80000000 00000000 00015097 306525ed 00000005 00004a17 2511755d 000005dc 00002000 00000001"
    "306525ed 78f1203e 0100007f 00000000 00000000 00000000"
)
CONCLUSION = bytes.fromhex(
    "80000000 00000000 0000042e 00000000 00000005 00000007 2511755d 000005dc 00002000 ffffffff"
    "306525ed 78f1203e 0100007f 00000000 00000000 00000000 00010003 00010501 000000bf 00c800c8"
    "00050003 64636261 68676665 00000031 0003000e 12202901 00000000 02000200 00000404 8039f0a6"
    "a9aaacc4 d92e76dd aac7bac8 56eee056 728729be b532fa85 729e40ed b339ff86 700cbd2f"
)
REJECTION = bytes.fromhex(
    "80000000 00000000 0001544d 306525ed 00000005 00000007 2511755d 000005dc 00002000 00000961"
    "306525ed 78f1203e 0100007f 00000000 00000000 00000000"
)
CALLER = 0x306525ED
COOKIE = 0x78F1203E


def read(datagram: bytes) -> srt.Handshake:
    found = srt.handshake(datagram)
    assert found is not None
    return found


def without_time(datagram: bytes) -> bytes:
    return datagram[:8] + datagram[12:]


def test_a_real_caller_is_read() -> None:
    asked = read(CONCLUSION)
    assert (asked.version, asked.kind, asked.caller) == (5, srt.CONCLUSION, CALLER)
    assert (asked.cookie, asked.code) == (COOKIE, 0)
    assert srt.stream_id(asked) == "abcdefgh1"
    assert asked.encode(0) == CONCLUSION


def test_answers_are_what_libsrt_answers() -> None:
    assert without_time(srt.invitation(read(INDUCTION), COOKIE)) == without_time(INVITATION)
    told = srt.rejection(read(CONCLUSION), srt.UNAUTHORIZED)
    assert without_time(told) == without_time(REJECTION)
    assert read(told).code == srt.UNAUTHORIZED


def test_a_conclusion_gives_the_induction_that_came_before_it() -> None:
    assert without_time(srt.induction(read(CONCLUSION))) == without_time(INDUCTION)


def test_a_shutdown_is_for_whom_it_says() -> None:
    told = srt.shutdown(CALLER)
    assert srt.is_shutdown(told)
    assert srt.destination(told) == CALLER
    assert srt.handshake(told) is None


@given(st.binary(max_size=2048))
def test_whatever_arrives_is_read_without_an_error(datagram: bytes) -> None:
    srt.is_shutdown(datagram)
    srt.destination(datagram)
    asked = srt.handshake(datagram)
    assert (asked is None) == (len(datagram) < 64 or datagram[:2] != b"\x80\x00")


@given(st.binary(min_size=62, max_size=700), st.integers(0, 2**32 - 1))
def test_no_handshake_is_answered_with_more_than_it_brought(rest: bytes, cookie: int) -> None:
    datagram = b"\x80\x00" + rest
    asked = read(datagram)
    assert asked.encode(srt.destination(datagram)) == datagram
    assert len(srt.invitation(asked, cookie)) == 64 <= len(datagram)
    assert len(srt.rejection(asked, srt.BAD_REQUEST)) == 64
    with contextlib.suppress(srt.StreamIdError):
        assert len(srt.stream_id(asked)) <= srt.STREAM_ID_MAX


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=128))
def test_a_stream_id_of_any_length_is_read_back(text: str) -> None:
    padded = text.encode() + bytes(-len(text.encode()) % 4)
    words = b"".join(padded[at : at + 4][::-1] for at in range(0, len(padded), 4))
    said = CONCLUSION[:64] + struct.pack("!HH", 5, len(words) // 4) + words
    assert srt.stream_id(read(said)) == text


def test_a_stream_id_that_lies_about_its_size_is_what_is_there() -> None:
    said = CONCLUSION[:64] + struct.pack("!HH", 5, 0xFFFF) + b"dcbahg"
    assert srt.stream_id(read(said)) == "abcd"


@pytest.mark.parametrize(
    ("extensions", "code"),
    [
        (struct.pack("!HH", 5, 1) + b"\xff\xff\xff\xff", srt.BAD_REQUEST),
        (struct.pack("!HH", 5, 256) + b"x" * 1024, srt.BAD_REQUEST),
    ],
)
def test_a_stream_id_that_is_none_is_refused(extensions: bytes, code: int) -> None:
    with pytest.raises(srt.StreamIdError) as caught:
        srt.stream_id(read(CONCLUSION[:64] + extensions))
    assert caught.value.code == code


def test_an_old_handshake_is_told_that_it_is_old() -> None:
    old = CONCLUSION[:16] + (4).to_bytes(4, "big") + CONCLUSION[20:64]
    with pytest.raises(srt.StreamIdError) as caught:
        srt.stream_id(read(old))
    assert caught.value.code == srt.VERSION


@pytest.mark.parametrize(
    ("said", "wish"),
    [
        ("cam_key", srt.Wish("cam_key")),
        ("#!::r=cam_key,m=publish", srt.Wish("cam_key")),
        ("#!::m=publish,t=stream,r=cam_key", srt.Wish("cam_key")),
        ("#!::r=cam,m=publish,u=cam_key", srt.Wish("cam_key", "cam")),
        ("#!::h=pop.example,r=cam,m=publish,u=cam_key,x=1", srt.Wish("cam_key", "cam")),
    ],
)
def test_who_wants_to_publish(said: str, wish: srt.Wish) -> None:
    assert srt.wish(said) == wish


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("", srt.BAD_REQUEST),
        ("#!::", srt.BAD_REQUEST),
        ("#!::m=publish", srt.BAD_REQUEST),
        ("#!::r=cam,r=other,m=publish", srt.BAD_REQUEST),
        ("#!::r=cam_key,m=publish,t=file", srt.BAD_REQUEST),
        ("#!::r=cam_key", srt.BAD_MODE),
        ("#!::r=cam_key,m=request", srt.BAD_MODE),
    ],
)
def test_who_does_not(said: str, code: int) -> None:
    with pytest.raises(srt.StreamIdError) as caught:
        srt.wish(said)
    assert caught.value.code == code


def test_an_address_may_ask_so_often() -> None:
    rates = Rates(per_s=2, burst=3)
    assert [rates.take("192.0.2.1", 10.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert rates.take("192.0.2.2", 10.0)
    assert [rates.take("192.0.2.1", 11.0) for _ in range(3)] == [True] * 2 + [False]


def test_the_addresses_of_one_site_are_one() -> None:
    rates = Rates(per_s=1, burst=1)
    assert rates.take("2001:db8::1", 0.0)
    assert not rates.take("2001:db8::ffff:1", 0.0)
    assert rates.take("2001:db8:0:1::1", 0.0)
    assert rates.take("::ffff:192.0.2.1", 0.0)
    assert not rates.take("192.0.2.1", 0.0)


def test_a_flood_of_addresses_takes_no_memory() -> None:
    rates = Rates(per_s=1, burst=1, addresses=16)
    for number in range(1000):
        rates.take(f"10.0.{number >> 8}.{number & 255}", 0.0)
    assert len(rates) == 16
