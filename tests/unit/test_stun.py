"""STUN, held to the sample messages of RFC 5769."""

from __future__ import annotations

import pytest

from edgecache import stun

PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"
REQUEST = bytes.fromhex(  # 2.1, which pads with spaces
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)


def test_the_request_of_the_rfc() -> None:
    asked = stun.binding(REQUEST)
    assert asked is not None
    assert (asked.ufrag, asked.nominates) == ("evtj", False)
    assert asked.vouched(PASSWORD)
    assert not asked.vouched(PASSWORD + "x")


@pytest.mark.parametrize(
    ("address", "mapped"),
    [
        (("192.0.2.1", 32853), "002000080001a147e112a643"),  # 2.2
        (
            ("2001:db8:1234:5678:11:2233:4455:6677", 32853),
            "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9",  # 2.3
        ),
    ],
)
def test_the_answers_of_the_rfc(address: tuple[str, int], mapped: str) -> None:
    asked = stun.binding(REQUEST)
    assert asked is not None
    told = stun.success(asked, address, PASSWORD)
    assert told[:2] == b"\x01\x01"
    assert told[8:20] == REQUEST[8:20]
    assert told[20 : 20 + len(mapped) // 2].hex() == mapped


def test_what_is_sealed_is_vouched_for() -> None:
    body = b"\0\x06\0\x03a:b\0" + b"\0\x25\0\0"
    made = stun.seal(1, bytes(12), body, "secret")
    asked = stun.binding(made)
    assert asked is not None
    assert (asked.ufrag, asked.nominates, asked.vouched("secret")) == ("a", True, True)


def test_what_is_cut_or_changed_is_none_or_not_vouched_for() -> None:
    for end in range(len(REQUEST)):
        assert stun.binding(REQUEST[:end]) is None
    signed = len(REQUEST) - 32
    for at in range(signed):
        changed = stun.binding(REQUEST[:at] + bytes((REQUEST[at] ^ 1,)) + REQUEST[at + 1 :])
        assert changed is None or not changed.vouched(PASSWORD)
