"""One kind of address: its text, and the networks it is in (native/address.pxd)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native._probe import address_text, in_network

V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).map(str)


@given(V4)
def test_ipv4_is_written_as_it_was_read(text: str) -> None:
    assert address_text(text.encode(), six=False) == text
    assert address_text(f"::ffff:{text}".encode(), six=True) == text


@given(V6)
def test_ipv6_is_written_as_it_was_read(text: str) -> None:
    written = address_text(text.encode(), six=True)
    assert written is not None
    mapped = ipaddress.IPv6Address(text).ipv4_mapped
    assert ipaddress.ip_address(written) == (mapped or ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [b"", b"1.2.3", b"1.2.3.4.5", b"01.2.3.4", b"1.2.3.256", b"0x1.2.3.4", b"1.2.3.4 ", b" 1.2.3.4",
     b"1.2.3.4\0", b"1.2.3.4:80", b"a.b.c.d", b"1" * 200],
)  # fmt: skip
def test_no_ipv4(text: bytes) -> None:
    assert address_text(text, six=False) is None


@pytest.mark.parametrize("text", [b":::", b"[::1]", b"fe80::1%eth0", b"1.2.3.4", b"::1 ", b"g::"])
def test_no_ipv6(text: bytes) -> None:
    assert address_text(text, six=True) is None


@given(V6, V6, st.integers(0, 128))
def test_networks(address: str, base: str, bits: int) -> None:
    network = ipaddress.ip_network((base, bits), strict=False)
    assert in_network(address, (base, bits)) == (ipaddress.ip_address(address) in network)
    assert in_network(base, (base, bits))


def test_an_ipv4_network_is_one_of_mapped_addresses() -> None:
    ten = ("::ffff:10.0.0.0", 96 + 8)
    assert in_network("10.255.0.1", ten)
    assert not in_network("11.0.0.1", ten)
    assert not in_network("::a00:1", ten)
