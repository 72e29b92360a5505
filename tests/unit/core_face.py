"""Short ways to say what the tests of the core's face say often."""

from __future__ import annotations

from edgecache._core import Fill, Plane

TYPE = b"Content-Type: video/mp4\r\n"
HOUR_MS = 3_600_000


def filling(plane: Plane, key: bytes = b"/a", length: int = -1) -> Fill:
    fill = plane.open(key)
    assert fill is not None
    assert fill.begin(200, TYPE, length=length, ttl_ms=HOUR_MS)
    return fill


def publish(plane: Plane, msn: int, parts: int, *, ended: bool = False, hold_ms: int = 1000) -> int:
    return plane.publish(
        b"/l.m3u8", msn=msn, parts=parts, last_parts=6, hold_ms=hold_ms, advance=9, ended=ended,
        ttl_ms=HOUR_MS, fields=[TYPE, None, None, None], bodies=[b"text", None, None, None],
        etags=[b"e", None, None, None],
    )  # fmt: skip


def size(plane: Plane, key: bytes) -> object:
    found = plane.lookup(key)
    return found and found["size"]


def state(plane: Plane, key: bytes) -> object:
    found = plane.lookup(key)
    return found and found["state"]
