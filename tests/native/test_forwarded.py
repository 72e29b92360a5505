"""Whom a request is from, by Forwarded or X-Forwarded-For (native/forwarded.pxd)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native._probe import forwarded_client

OURS = [("::ffff:10.0.0.0", 104), ("2001:db8:f::", 48)]


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"203.0.113.9, 192.0.2.1", "192.0.2.1"),
        (b"192.0.2.1, 10.0.0.7", "192.0.2.1"),
        (b"203.0.113.9,192.0.2.1 ,\t10.0.0.7 , 10.1.2.3", "192.0.2.1"),
        (b"10.0.0.7, 10.1.2.3", "10.0.0.7"),
        (b"192.0.2.1:4711", "192.0.2.1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"[2001:db8::1]:4711", "2001:db8::1"),
        (b"[2001:db8::1]", "2001:db8::1"),
        (b"2001:db8::1, 2001:db8:f::1", "2001:db8::1"),
        (b"::ffff:192.0.2.1", "192.0.2.1"),
        (b"unknown", None),
        (b"192.0.2.1, unknown", None),
        (b"192.0.2.1, unknown, 10.0.0.7", None),
        (b"192.0.2.1,", None),
        (b"", None),
        (b",", None),
        (b"192.0.2.1; 192.0.2.2", None),
        (b"[192.0.2.1", None),
        (b"host.example", None),
    ],
)
def test_x_forwarded_for(value: bytes, client: str | None) -> None:
    assert forwarded_client(value, False, OURS) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"for=192.0.2.1", "192.0.2.1"),
        (b"For=192.0.2.1;proto=http;by=203.0.113.43", "192.0.2.1"),
        (b'proto=http; FOR="192.0.2.1:4711"', "192.0.2.1"),
        (b'for="[2001:db8::1]"', "2001:db8::1"),
        (b'for="[2001:db8::1]:4711"', "2001:db8::1"),
        (b"for=203.0.113.9, for=192.0.2.1, for=10.0.0.7", "192.0.2.1"),
        (b'for=192.0.2.1, for="[2001:db8:f::1]"', "192.0.2.1"),
        (b'for="203.0.113.9, for=203.0.113.10", for=192.0.2.1', "192.0.2.1"),
        (b"for=_hidden", None),
        (b"for=unknown", None),
        (b"for=192.0.2.1, for=_secret, for=10.0.0.7", None),
        (b"proto=https", None),
        (b"192.0.2.1", None),
        (b"for=", None),
        (b'for="', None),
        (b"for==192.0.2.1", None),
        (b"xfor=192.0.2.1", None),
        (b";;;", None),
    ],
)
def test_forwarded(value: bytes, client: str | None) -> None:
    assert forwarded_client(value, True, OURS) == client


@given(st.text(alphabet='for=",; :[]._1a\t', max_size=60), st.booleans())
def test_what_a_client_wrote_before_changes_nothing(text: str, pairs: bool) -> None:
    """A proxy of ours appends whom it saw; whatever stood there before is not looked at."""
    last = b"for=192.0.2.1" if pairs else b"192.0.2.1"
    assert forwarded_client(text.encode() + b", " + last, pairs, OURS) == "192.0.2.1"


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes(value: bytes, pairs: bool) -> None:
    forwarded_client(value, pairs, OURS)
