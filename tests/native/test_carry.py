"""One store's content in another: the same bytes, heads and times, and nothing copied that need
not be (native/carry.pxd)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import Any

import pytest

from edgecache._core import Fill, Plane, holdings, restore
from tests.native.kit import TYPE, Edge, Viewer, listener

SMALL, LARGE = b"s" * 900, os.urandom(200_000)


@pytest.fixture
def old() -> Iterator[Edge]:
    made = Edge()
    yield made
    made.stop()


def carried(old: Plane, new: Plane) -> dict[bytes, Fill | None]:
    """Everything but playlists, the shortest way."""
    found: dict[bytes, Fill | None] = {}
    for item in holdings(old):
        facts: dict[str, Any] = item.facts()
        if item.parent is not None:
            found[item.key] = restore(new, item.key, **facts, parent=found[item.parent])
            continue
        fd = os.dup(item.fd) if item.fd >= 0 else -1
        growing = item.state == b"filling"
        found[item.key] = restore(new, item.key, **facts, fd=fd, body=item.body(), growing=growing)
    return found


def plane(budget: int = 64 << 20) -> Plane:
    return Plane(name=b"pop-a", budget_bytes=budget)


def fresh(key: str) -> dict[str, Any]:
    """What restore() needs of a small object."""
    facts = {"status": 200, "offset": 0, "stored_us": 1, "expires_ms": 1 << 60, "drop_ms": 1 << 60}
    return {**facts, "pushed": True, "fields": TYPE, "etag": key.encode()}


def test_objects_and_their_views_are_answered_as_before(old: Edge) -> None:
    old.put("/small", SMALL)
    old.put("/large", LARGE, etag=b"tag")
    fill = old.plane.open(b"/segment")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    fill.append(LARGE)
    fill.view(b"/part", 1000, 50_000, TYPE, etag=b"p", ttl_ms=60_000)
    fill.commit(etag=b"whole")
    before = {key: old.ask(key) for key in ("/small", "/large", "/segment", "/part")}
    new = plane()
    found = carried(old.plane, new)
    assert list(found) == [b"/small", b"/large", b"/segment", b"/part"]
    assert new.counters()["store_bytes_now"] == old.plane.counters()["store_bytes_now"]
    old.plane.purge_prefix(b"/")
    with listener() as sock:
        new.start([sock.fileno()])
        for key, answer in before.items():
            with Viewer(sock.getsockname()[1]) as viewer:
                again = viewer.ask(key)
            volatile = (b"date", b"age")
            assert again.body == answer.body
            assert {n: v for n, v in again.fields.items() if n not in volatile} == {
                n: v for n, v in answer.fields.items() if n not in volatile
            }
        assert new.counters()["misses"] == 0
        new.stop()


def test_the_time_that_is_left_goes_along(old: Edge) -> None:
    old.put("/short", SMALL, ttl_ms=5000)
    new = plane()
    carried(old.plane, new)
    one, other = old.plane.lookup(b"/short"), new.lookup(b"/short")
    assert one is not None
    assert other is not None
    assert 0 < int(other["ttl_ms"]) <= int(one["ttl_ms"]) <= 5000


def test_what_grows_goes_on_and_both_see_it(old: Edge) -> None:
    fill = old.plane.open(b"/segment")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    fill.append(LARGE[:70_000])
    fill.view(b"/part", 0, 70_000, TYPE, etag=b"p", ttl_ms=60_000)
    with old.viewer() as viewer:
        viewer.send(b"GET /segment HTTP/1.1\r\nHost: h\r\n\r\n")
        viewer.head()
        new = plane()
        going = carried(old.plane, new)[b"/segment"]
        assert going is not None
        assert going.filled == 70_000
        going.append(LARGE[70_000:])
        going.commit(etag=b"whole")
        fill.grown(len(LARGE))
        fill.grown(10)  # never back
        assert fill.commit(etag=b"whole")
        assert viewer.body(-1) == LARGE
    for key in (b"/segment", b"/part"):
        found = new.lookup(key)
        assert found is not None
        assert found["state"] == b"complete"


def test_a_playlist_as_it_was(old: Edge) -> None:
    key = b"/live/s/v.m3u8"
    old.publish(key.decode(), (7, 2, 4), variants=(b"gz", b"delta"))
    (item,) = holdings(old.plane)
    version = item.version()
    assert (version["msn"], version["parts"], version["last_parts"]) == (7, 2, 4)
    assert version["bodies"] == [b"v7.2", b"gz", b"delta", None, None, None]
    pulled = version.pop("pulled")
    assert pulled is False
    new = plane()
    new.publish(key, **version)
    assert holdings(new)[0].version() | {"ttl_ms": 0, "age_ms": 0} == version | {
        "ttl_ms": 0, "age_ms": 0, "pulled": False,
    }  # fmt: skip


def test_a_smaller_budget_keeps_what_is_worth_most(old: Edge) -> None:
    for number in range(40):
        old.put(f"/{number}", bytes(30_000))
    for _ in range(3):
        old.ask("/3")
    new = plane(1 << 20)
    for item in holdings(old.plane):
        restore(new, item.key, **item.facts(), fd=os.dup(item.fd))
    assert new.counters()["store_bytes_now"] <= (1 << 20) * 17 // 16
    assert new.lookup(b"/39") is not None
    assert new.lookup(b"/0") is None


def test_a_memfd_is_sealed_by_who_takes_it_over() -> None:
    """The kernel seals none whose pages are under way to a viewer: such a body was left behind."""
    new = plane()
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(fd, b"0123456789")
    assert restore(new, b"/x", length=10, fd=fd, **fresh("x")) is not None
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    assert holdings(new)[0].fd == fd


@pytest.mark.parametrize("what", ["short", "a file"])
def test_only_a_memfd_of_that_size_is_believed(what: str, old: Edge) -> None:
    old.put("/large", LARGE)
    new = plane()
    source = os.open(os.devnull, os.O_RDONLY), os.dup(holdings(old.plane)[0].fd)
    fd, other = source if what == "a file" else source[::-1]
    os.close(other)
    length = len(LARGE) + 1 if what == "short" else 10
    assert restore(new, b"/x", length=length, fd=fd, **fresh("x")) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert new.counters()["store_entries_now"] == 0


def test_who_asked_before_it_came_has_it_then(old: Edge) -> None:
    """While workers run; a part and what grows as well."""
    old.put("/small", SMALL)
    fill = old.plane.open(b"/segment")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000, pushed=True)
    fill.append(LARGE[:70_000])
    fill.view(b"/part", 0, 70_000, TYPE, etag=b"p", ttl_ms=60_000)
    new = Edge()
    with new.viewer() as small, new.viewer() as part, new.viewer() as segment:
        for viewer, name in ((small, b"/small"), (part, b"/part"), (segment, b"/segment")):
            viewer.send(b"GET " + name + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        new.await_count("parked", 3)
        going = carried(old.plane, new.plane)[b"/segment"]
        assert going is not None
        assert small.answer().body == SMALL
        assert part.answer().body == LARGE[:70_000]
        going.append(LARGE[70_000:])
        going.commit(etag=b"whole")
        assert segment.answer().body == LARGE
    new.stop()


def test_a_key_is_restored_once(old: Edge) -> None:
    new = plane()
    assert restore(new, b"/x", length=4, body=b"body", **fresh("x")) is not None
    assert restore(new, b"/x", length=4, body=b"body", **fresh("x")) is None
    parent = restore(new, b"/p", length=4, body=b"body", **fresh("p"))
    with pytest.raises(ValueError, match="are not there"):
        restore(new, b"/v", length=5, parent=parent, **fresh("v"))
