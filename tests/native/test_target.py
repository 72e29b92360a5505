"""Request target to canonical key: one spelling for one object, or 400 (native/target.pxd)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native._probe import target_parse

NOTHING = (False, 0, False, 0, False)


def key(raw: bytes) -> bytes | None:
    found = target_parse(raw)
    return found and found[1]


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b"/", b"/"),
        (b"/a", b"/a"),
        (b"/a/", b"/a/"),
        (b"/a/b.c", b"/a/b.c"),
        (b"/...", b"/..."),
        (b"/.a", b"/.a"),
        (b"/a..", b"/a.."),
        (b"/a?b=c", b"/a"),
        (b"/a?", b"/a"),
        (b"/?", b"/"),
        (b"/%61", b"/a"),
        (b"/%7e", b"/~"),
        (b"/%7E%2D%2e%5f", b"/~-._"),
        (b"/a%20b", b"/a%20b"),
        (b"/%c3%a4", b"/%C3%A4"),
        (b"/%3F", b"/%3F"),
        (b"/a%25b", b"/a%25b"),
        (b"/a;x", b"/a;x"),
        (b"/a%2525", b"/a%2525"),
        (b"/!$&'()*+,;=:@", b"/!$&'()*+,;=:@"),
        (b'/"<>^`{|}', b"/%22%3C%3E%5E%60%7B%7C%7D"),
        (b"http://x/a", b"/a"),
        (b"https://x:1/a?b", b"/a"),
        (b"http://x/", b"/"),
        (b"/a?b=/../%", b"/a"),
        (b"/a.m3u8", b"/a.m3u8"),
        (b"/a.m3u8?t=1", b"/a.m3u8"),
    ],
)
def test_canonical_form(raw: bytes, canonical: bytes) -> None:
    assert key(raw) == canonical
    assert key(canonical) == canonical, "canonical is a fixed point"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a",
        b"*",
        b"?",
        b"?a",
        b"a/b",
        b"//",
        b"//a",
        b"/a//b",
        b"/a//",
        b"/.",
        b"/..",
        b"/./a",
        b"/a/.",
        b"/a/..",
        b"/../a",
        b"/a/../b",
        b"/%2e",
        b"/%2e%2e",
        b"/.%2E/a",
        b"/%2e./x",
        b"/a/%2e%2e/b",
        b"/%2f",
        b"/a%2Fb",
        b"/%5c",
        b"/a\\b",
        b"/%00",
        b"/%0a",
        b"/%0D",
        b"/%7f",
        b"/%1f",
        b"/%",
        b"/%4",
        b"/%4g",
        b"/%g4",
        b"/%-1",
        b"/% 1",
        b"/a%",
        b"/a%2",
        b"/a b",
        b"/\x00",
        b"/\x7f",
        b"/\xff",
        b"/\xc3\xa4",
        b"/\t",
        b"http://",
        b"http:///a",
        b"http://x",
        b"http:/a",
        b"ftp://x/a",
        b"HTTP://",
        b"http://x?/a",
        b"http://u@x/a",
        b"http://x y/a",
        b"http://x\xff/a",
        b"http://x#/a",
        b"/a?\x00",
        b"/a?\xff",
        b"/a? b",
        b"/a?\x7f",
        b"/a?b\tc",
        b"/a#b",
        b"/a?b#c",
    ],
)
def test_what_is_refused(raw: bytes) -> None:
    assert target_parse(raw) is None


@pytest.mark.parametrize(
    ("query", "want", "canonical"),
    [
        (b"", NOTHING, b""),
        (b"?", NOTHING, b""),
        (b"?x=1&y", NOTHING, b""),
        (b"?_HLS_msn=7", (True, 7, False, 0, False), b"?_HLS_msn=7"),
        (b"?_HLS_msn=007", (True, 7, False, 0, False), b"?_HLS_msn=7"),
        (b"?_HLS_msn=7&_HLS_part=3", (True, 7, True, 3, False), b"?_HLS_msn=7&_HLS_part=3"),
        (b"?_HLS_part=3&_HLS_msn=7", (True, 7, True, 3, False), b"?_HLS_msn=7&_HLS_part=3"),
        (
            b"?t=1&_HLS_part=0&&u&_HLS_msn=0&v",
            (True, 0, True, 0, False),
            b"?_HLS_msn=0&_HLS_part=0",
        ),
        (b"?_HLS_skip=YES", (False, 0, False, 0, True), b"?_HLS_skip=YES"),
        (b"?_HLS_skip=v2", (False, 0, False, 0, True), b"?_HLS_skip=v2"),
        (b"?_HLS_skip=v2&_HLS_skip=YES", (False, 0, False, 0, True), b"?_HLS_skip=v2"),
        (b"?_HLS_skip=YES&_HLS_skip=v2", (False, 0, False, 0, True), b"?_HLS_skip=v2"),
        (b"?_HLS_msn=%37", (True, 7, False, 0, False), b"?_HLS_msn=7"),
        (b"?%5fHLS%5Fmsn%3D7&a=%5", (True, 7, False, 0, False), b"?_HLS_msn=7"),
        (b"?_HLS_skip=%59ES", (False, 0, False, 0, True), b"?_HLS_skip=YES"),
        (b"?CMCD=br%3D300%26_HLS_msn%3D7", NOTHING, b""),
        (b"?_HLS_skip=no", NOTHING, b""),
        (b"?_HLS_SKIP=YES", NOTHING, b""),
        (b"?_HLS_skip=YES&_HLS_msn=1", (True, 1, False, 0, True), b"?_HLS_msn=1&_HLS_skip=YES"),
        (
            b"?_HLS_msn=999999999999999999",
            (True, 10**18 - 1, False, 0, False),
            b"?_HLS_msn=999999999999999999",
        ),
        (
            b"?_HLS_msn=1&_HLS_part=1048576",
            (True, 1, True, 1 << 20, False),
            b"?_HLS_msn=1&_HLS_part=1048576",
        ),
        (b"?x_HLS_msn=1", NOTHING, b""),
        (b"?_HLS_msnx=1", NOTHING, b""),
    ],
)
def test_delivery_directives(
    query: bytes, want: tuple[bool, int, bool, int, bool], canonical: bytes
) -> None:
    """RFC 8216bis 6.2.5: for playlists alone, in the order the specification asks of a client."""
    found = target_parse(b"/l.m3u8" + query)
    assert found == (b"/l.m3u8", b"/l.m3u8" + canonical, want, True, False)
    assert target_parse(b"/l.mp4" + query) == (b"/l.mp4", b"/l.mp4", NOTHING, False, False)


@pytest.mark.parametrize(
    "query",
    [
        b"_HLS_part=1",
        b"_HLS_msn=",
        b"_HLS_msn=x",
        b"_HLS_msn=-1",
        b"_HLS_msn=1.5",
        b"_HLS_msn=+1",
        b"_HLS_msn=1000000000000000000",
        b"_HLS_msn=1&_HLS_msn=1",
        b"_HLS_msn=1&_HLS_part=",
        b"_HLS_msn=1&_HLS_part=a",
        b"_HLS_msn=1&_HLS_part=1048577",
        b"_HLS_msn=%3",
        b"_HLS_msn=%31%",
        b"_HLS_msn=" + b"%30" * 40 + b"1",
        b"_HLS_msn=1&_HLS_part=1&_HLS_part=1",
        b"_HLS_part=1&_HLS_skip=YES",
    ],
)
def test_bad_directives(query: bytes) -> None:
    """6.2.5.2: _HLS_part without _HLS_msn is 400; what is not a decimal number is no directive."""
    found = target_parse(b"/l.m3u8?" + query)
    assert found is not None
    assert found[4]


@given(st.binary(max_size=200).map(lambda data: b"/" + data))
def test_canonical_is_a_fixed_point(raw: bytes) -> None:
    found = target_parse(raw)
    if found is None:
        return
    path, full, want, playlist, bad = found
    assert path.startswith(b"/")
    assert all(33 <= c < 127 for c in full)
    assert not {b"", b".", b".."} & set(path.split(b"/")[1:-1])
    assert b"?" not in path
    assert len(path) <= 3 * len(raw)
    if not bad:
        assert target_parse(full) == (path, full, want, playlist, False)


@given(st.binary(max_size=40))
def test_spellings_of_one_path_are_one_key(name: bytes) -> None:
    """Every octet that may be encoded, encoded: the same key or, for both, none."""
    bare = b"/" + bytes(c for c in name if c < 128 and (chr(c).isalnum() or c in b"-._~"))
    encoded = b"/" + b"".join(b"%%%02x" % c for c in bare[1:])
    assert key(bare) == key(encoded) == key(encoded.upper().replace(b"%", b"%"))
    assert key(bare) == key(b"http://h.test" + encoded) == key(bare + b"?token=1")
