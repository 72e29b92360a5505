"""Every test ends with as many native objects as it began with (tests/conftest.py). This one shows
that the count sees what is left over, of each kind that a plane without workers can hold."""

from __future__ import annotations

from edgecache._core import Plane
from tests.conftest import leaked, live_objects


def test_what_is_left_over_is_noticed() -> None:
    before = live_objects()
    plane = Plane(name=b"edge", budget_bytes=1 << 20)
    plane.put(b"/a", b"x", b"", etag=b"e", ttl_ms=1000)
    held = plane.open(b"/b")
    nothing = [None] * 5
    plane.publish(
        b"/c.m3u8", msn=1, parts=0, last_parts=0, hold_ms=0, advance=0, ended=False, ttl_ms=1000,
        fields=[b"", *nothing], bodies=[b"v", *nothing], etags=[b"e", *nothing],
    )  # fmt: skip
    assert leaked(before) == {"blobs": 1, "heads": 2, "versions": 1, "entries": 3}
    plane.stop()
    del plane
    assert leaked(before), "a fill keeps its plane"
    del held
    assert leaked(before) == {}
