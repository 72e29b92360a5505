"""The PROXY header, both versions, wherever the bytes are cut (native/proxy.pxd)."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native._probe import proxy_parse

PARTIAL, BAD, LOCAL, TOLD = range(4)
V2 = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = ipaddress.ip_address("192.0.2.1").packed + ipaddress.ip_address("198.51.100.1").packed
SIX = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed
PORTS = struct.pack("!HH", 56324, 443)


def v2(block: bytes, *, command: int = 0x21, family: int = 0x11, length: int = -1) -> bytes:
    size = length if length >= 0 else len(block)
    return V2 + struct.pack("!BBH", command, family, size) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


LONGEST = b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b"ffff:" * 8)[:-1], (b"ffff:" * 8)[:-1])
TLVS = tlv(4, b"") + tlv(2, b"edge.test") + tlv(0x20, b"\1" + bytes(4) + tlv(0x21, b"TLSv1.3"))
GOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", TOLD, "192.0.2.1"),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n", TOLD, "2001:db8::1"),
    "v1 longest": (LONGEST, TOLD, "ffff:" * 7 + "ffff"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", LOCAL, ""),
    "v1 UNKNOWN and more": (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", LOCAL, ""),
    "v2 TCP4": (v2(FOUR + PORTS), TOLD, "192.0.2.1"),
    "v2 TCP6": (v2(SIX + PORTS, family=0x21), TOLD, "2001:db8::1"),
    "v2 with TLVs": (v2(FOUR + PORTS + TLVS), TOLD, "192.0.2.1"),
    "v2 LOCAL": (v2(b"", command=0x20, family=0), LOCAL, ""),
    "v2 LOCAL with a block": (v2(FOUR + PORTS, command=0x20), LOCAL, ""),
    "v2 UNSPEC": (v2(b"abc", family=0), LOCAL, ""),
    "v2 UNIX": (v2(bytes(216), family=0x31), LOCAL, ""),
    "v2 UDP": (v2(FOUR + PORTS, family=0x12), LOCAL, ""),
    "v2 largest": (v2(FOUR + PORTS + tlv(4, bytes(4096 - 16 - 12 - 3))), TOLD, "192.0.2.1"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_it_says(name: str) -> None:
    data, verdict, source = GOOD[name]
    assert proxy_parse(data) == (verdict, len(data), source)
    assert proxy_parse(data + b"GET / HTTP/1.1\r\n\r\n") == (verdict, len(data), source)


@pytest.mark.parametrize("name", GOOD)
def test_every_prefix_is_a_part(name: str) -> None:
    data, _, _ = GOOD[name]
    assert {proxy_parse(data[:at])[0] for at in range(len(data))} == {PARTIAL}


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
        b"PROXY TCP4 192.0.2.1  198.51.100.1 56324 443\r\n",
        b"PROXY  TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1  443\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.1 1 443\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.1 1 443\r\n",
        b"PROXY TCP5 192.0.2.1 198.51.100.1 1 443\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.1 1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1 443\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1\t1 443\r\n",
        b"PROXY tcp4 192.0.2.1 198.51.100.1 1 443\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
        b"PROXY UNKNOWN" + b"x" * 94,
    ],
)
def test_bad_lines(line: bytes) -> None:
    assert proxy_parse(line)[0] == BAD


@pytest.mark.parametrize(
    "data",
    [
        v2(FOUR + PORTS, command=0x11),
        v2(FOUR + PORTS, command=0x31),
        v2(FOUR + PORTS, command=0x22),
        v2(FOUR + PORTS, family=0x41),
        v2(FOUR + PORTS, family=0x13),
        v2(FOUR),
        v2(FOUR + PORTS, family=0x21),
        v2(FOUR + PORTS + b"\4"),
        v2(FOUR + PORTS + b"\4\0"),
        v2(FOUR + PORTS + b"\4\0\5abcd"),
        v2(FOUR + PORTS + tlv(4, b"abcd") + b"\4\xff\xff"),
        v2(b"", length=4081),
        v2(b"", length=65535),
    ],
)
def test_bad_blocks(data: bytes) -> None:
    assert proxy_parse(data)[0] == BAD


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXIES",
        b"proxy TCP4",
        b"\r\n\r\n\r\n",
        b"\x16\x03\x01",
        b"\0",
        b"P ",
    ],
)
def test_what_is_no_header_is_not_waited_for(data: bytes) -> None:
    assert proxy_parse(data)[0] == BAD


@given(st.binary(max_size=64), st.sampled_from([b"PROXY ", b"PROXY TCP4 ", V2, V2 + b"\x21\x11\0"]))
def test_anything_behind_a_signature(tail: bytes, start: bytes) -> None:
    """Never reads beyond (the bytes end where memory ends), never skips more than there is."""
    verdict, length, _ = proxy_parse(start + tail)
    assert verdict < LOCAL or length <= len(start + tail)


@given(st.ip_addresses(v=4), st.ip_addresses(v=6), st.binary(max_size=40))
def test_both_versions_agree(four: ipaddress.IPv4Address, six: ipaddress.IPv6Address,
                             value: bytes) -> None:  # fmt: skip
    for address, name, family in ((four, "TCP4", 0x11), (six, "TCP6", 0x21)):
        line = f"PROXY {name} {address} {address} 1 2\r\n".encode()
        block = address.packed * 2 + PORTS + tlv(0xE0, value)
        assert proxy_parse(line)[::2] == proxy_parse(v2(block, family=family))[::2]
