"""What a route keeps of a query: in its order, each once, only below its prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native._probe import target_parse

RULES = ((b"/a/none/", ()), (b"/a/", (b"tok", b"id")))


def names(target: bytes) -> tuple[bytes, bytes]:
    """What its versions go by, and the whole key."""
    found = target_parse(target, RULES)
    assert found is not None
    assert found[1].startswith(found[0])
    return found[:2]


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (b"/a/x.ts?id=1&tok=2&z=3", b"/a/x.ts?tok=2&id=1"),
        (b"/a/x.ts?tok=1&tok=2", b"/a/x.ts?tok=1"),
        (b"/a/x.ts?token=1&to=2&xtok=3", b"/a/x.ts"),
        (b"/a/x.ts?tok=&id", b"/a/x.ts?tok="),
        (b"/a/x.ts?tok=a=b", b"/a/x.ts?tok=a=b"),
        (b"/a/x.ts?&&id=1&", b"/a/x.ts?id=1"),
        (b"/a/x.ts?", b"/a/x.ts"),
        (b"/b/x.ts?tok=2", b"/b/x.ts"),
        (b"/%61/x.ts?tok=2", b"/a/x.ts?tok=2"),
        (b"/a/none/x.ts?tok=2", b"/a/none/x.ts"),
        (b"/a/x.m3u8?_HLS_part=0&tok=2&_HLS_msn=7", b"/a/x.m3u8?tok=2&_HLS_msn=7&_HLS_part=0"),
        (b"/a/x.m3u8?_HLS_skip=v2&id=1", b"/a/x.m3u8?id=1&_HLS_skip=v2"),
        (b"/a/x.m3u8?_HLS_skip=YES", b"/a/x.m3u8?_HLS_skip=YES"),
    ],
)
def test_kept_parameters(target: bytes, key: bytes) -> None:
    assert names(target)[1] == key


def test_versions_go_by_the_path_with_what_is_kept() -> None:
    assert names(b"/a/x.m3u8?_HLS_msn=7&tok=2")[0] == b"/a/x.m3u8?tok=2"


@given(st.text(alphabet="tokid=&%2_HLS_msnpart", max_size=60))
def test_a_key_is_its_own_key(query: str) -> None:
    found = target_parse(b"/a/x.m3u8?" + query.encode(), RULES)
    if found is not None and not found[4]:
        assert names(found[1])[1] == found[1]


@pytest.mark.parametrize(
    "rules",
    [
        [(b"/" + b"a" * 128, ())],
        [(b"/", ())] * 17,
        [(b"/", (b"a" * 33,))],
        [(b"/", tuple(b"abcdefghi"[n : n + 1] for n in range(9)))],
    ],
)
def test_bounds(rules: list[tuple[bytes, tuple[bytes, ...]]]) -> None:
    with pytest.raises(ValueError, match="b'"):
        target_parse(b"/", rules)
