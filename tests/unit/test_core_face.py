"""The face of the native core: what it refuses, who owns a Fill, what each call returns."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from edgecache import _core
from edgecache._core import (
    PUT_CONFLICT,
    PUT_CREATED,
    PUT_SAME,
    Fill,
    Plane,
)
from tests.unit.core_face import HOUR_MS, TYPE, filling, publish, size, state


@pytest.fixture
def plane() -> Iterator[Plane]:
    """Without workers: the store alone."""
    made = Plane(name=b"pop-a", budget_bytes=64 << 20)
    yield made
    made.stop()


# ---------------------------------------------------------------- construction


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": b""}, "name: found 0 bytes, allowed 1 to 64"),
        ({"name": b"x" * 65}, "name: found 65 bytes"),
        ({"limits": {"fill_s": 1}}, "limits: unknown 'fill_s', allowed header_bytes"),
        ({"limits": {"header_bytes": 100_000}}, "header_bytes must be between"),
        ({"limits": {"header_bytes": 100}}, "header_bytes must be between"),
    ],
)
def test_a_plane_says_what_is_wrong(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"name": b"pop", "budget_bytes": 1 << 20, **options}
    with pytest.raises(ValueError, match=message):
        Plane(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, 65])
def test_start_takes_one_to_64_sockets(plane: Plane, number: int) -> None:
    with pytest.raises(ValueError, match=f"found {number}"):
        plane.start([0] * number)


def test_stop_is_idempotent_and_needs_no_start(plane: Plane) -> None:
    plane.stop()
    plane.stop()
    assert plane.misses() == []
    assert plane.worker_counters() == []


def test_build_says_what_runs() -> None:
    assert _core.BUILD["compiler"].startswith("gcc ")
    assert _core.BUILD["debug"] in {"True", "False"}


# ---------------------------------------------------------------- put, open, fill


def test_the_first_write_wins(plane: Plane) -> None:
    put = [
        plane.put(b"/a", body, TYPE, etag=etag, ttl_ms=HOUR_MS)
        for body, etag in [(b"one", b"1"), (b"one", b"1"), (b"two", b"2")]
    ]
    assert put == [PUT_CREATED, PUT_SAME, PUT_CONFLICT]
    assert size(plane, b"/a") == 3


def test_a_body_may_come_in_any_buffer(plane: Plane) -> None:
    bodies: list[bytes | bytearray | memoryview] = [b"12345", bytearray(b"12345"), b""]
    bodies.append(memoryview(b"x12345")[1:])
    for i, body in enumerate(bodies):
        key = b"/%d" % i
        assert plane.put(key, body, TYPE, etag=b"e", ttl_ms=HOUR_MS) == PUT_CREATED
        assert size(plane, key) == len(body)


def test_a_complete_key_cannot_be_opened(plane: Plane) -> None:
    plane.put(b"/a", b"x", TYPE, etag=b"1", ttl_ms=HOUR_MS)
    assert plane.open(b"/a") is None
    publish(plane, 1, 1)
    assert plane.open(b"/l.m3u8") is None


def test_the_life_of_a_fill(plane: Plane) -> None:
    fill = plane.open(b"/a")
    assert fill is not None
    assert (fill.key, fill.filled, fill.waiters, fill.live) == (b"/a", 0, 0, True)
    assert not fill.append(b"too early")
    assert not fill.commit()
    assert state(plane, b"/a") == b"reserved"
    assert fill.begin(200, TYPE, ttl_ms=HOUR_MS)
    assert not fill.begin(200, TYPE, ttl_ms=HOUR_MS)
    assert fill.append(b"12345")
    assert fill.append(b"")
    assert (fill.filled, state(plane, b"/a")) == (5, b"filling")
    assert fill.commit(etag=b"e")
    assert (fill.live, fill.filled, state(plane, b"/a")) == (False, 5, b"complete")
    assert not fill.append(b"x")
    assert not fill.commit()
    fill.fail(502)
    assert state(plane, b"/a") == b"complete"


def test_a_dropped_fill_fails(plane: Plane) -> None:
    fill = filling(plane)
    fill.append(b"123")
    del fill
    assert plane.lookup(b"/a") is None


def test_a_failed_fill_is_remembered_if_asked(plane: Plane) -> None:
    fill = plane.open(b"/a")
    assert fill is not None
    fill.fail(404, ttl_ms=HOUR_MS)
    found = plane.lookup(b"/a")
    assert found is not None
    assert (found["state"], found["status"]) == (b"failed", 404)
    assert not fill.live


def test_a_push_replaces_a_negative_entry(plane: Plane) -> None:
    fill = plane.open(b"/a")
    assert fill is not None
    fill.fail(404, ttl_ms=HOUR_MS)
    assert plane.put(b"/a", b"x", TYPE, etag=b"1", ttl_ms=HOUR_MS) == PUT_CREATED


@pytest.mark.parametrize("length", [5, 20_000])
def test_the_announced_length_is_kept(plane: Plane, length: int) -> None:
    fill = filling(plane, length=length)
    fill.append(b"x" * (length - 1))
    with pytest.raises(ValueError, match=f"body has {length - 1} bytes, {length} were announced"):
        fill.commit()
    assert not fill.append(b"xx"), "readers were promised fewer bytes"
    assert fill.append(b"x")
    assert fill.commit()


def test_two_fills_of_one_key_do_not_meet(plane: Plane) -> None:
    """A miss and a push may hold a Fill of the same reserved entry. Who begins owns it; the other
    could fail, cut, or write into the body of the first."""
    loser, winner = plane.open(b"/a"), plane.open(b"/a")
    assert loser is not None
    assert winner is not None
    assert winner.begin(200, TYPE, ttl_ms=HOUR_MS)
    assert not loser.begin(200, TYPE, ttl_ms=HOUR_MS)
    assert not loser.live
    assert not loser.append(b"foreign")
    assert not loser.commit()
    loser.fail(502)
    del loser
    assert winner.live
    assert winner.append(b"ours")
    assert winner.commit(etag=b"e")
    assert (size(plane, b"/a"), state(plane, b"/a")) == (4, b"complete")


def test_a_fill_without_room_does_not_fail_another(plane: Plane) -> None:
    loser, winner = plane.open(b"/a"), plane.open(b"/a")
    assert loser is not None
    assert winner is not None
    assert winner.begin(200, TYPE, ttl_ms=HOUR_MS)
    assert not loser.begin(200, TYPE, length=1 << 40, ttl_ms=HOUR_MS)
    assert winner.append(b"x")


def test_a_put_overtakes_a_fill(plane: Plane) -> None:
    fill = filling(plane)
    fill.append(b"slow")
    assert plane.put(b"/a", b"pushed", TYPE, etag=b"1", ttl_ms=HOUR_MS) == PUT_CREATED
    assert not fill.live
    del fill
    assert size(plane, b"/a") == 6


def test_a_fill_in_a_cycle_is_collected(plane: Plane) -> None:
    """The collector clears attributes before __dealloc__, which needs the plane."""

    class Owner:
        fill: Fill
        me: Owner

    for i in range(50):
        fill = filling(plane, b"/%d" % i)  # before its owner: cleared before it, too
        owner = Owner()
        owner.fill, owner.me = fill, owner
        del owner, fill
    gc.collect()
    assert plane.counters()["store_entries_now"] == 0


def test_no_room_for_a_body(plane: Plane) -> None:
    fill = plane.open(b"/a")
    assert fill is not None
    assert not fill.begin(200, TYPE, length=1 << 40, ttl_ms=HOUR_MS)
    assert plane.lookup(b"/a") is None
    assert plane.counters()["store_refused"] == 1


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 199, 600, 2**31 - 1])
def test_statuses_that_cannot_be_answered(plane: Plane, status: int) -> None:
    """A status picks its counter, so one out of range would count somewhere else."""
    fill = plane.open(b"/a")
    assert fill is not None
    with pytest.raises(ValueError, match=f"status: found {status}, allowed 200 to 599"):
        fill.begin(status, TYPE, ttl_ms=1)
    with pytest.raises(ValueError, match="status: found"):
        fill.fail(status)
    with pytest.raises(ValueError, match="status: found"):
        plane.put(b"/b", b"", TYPE, status=status, etag=b"", ttl_ms=1)


def test_negative_times(plane: Plane) -> None:
    with pytest.raises(ValueError, match="must not be negative: found -1, 0"):
        plane.put(b"/a", b"", TYPE, etag=b"", ttl_ms=-1)


def test_none_is_not_bytes(plane: Plane) -> None:
    fill = filling(plane)
    calls: list[Callable[[], object]] = [
        lambda: plane.put(None, b"", TYPE, etag=b"", ttl_ms=1),  # type: ignore[arg-type]
        lambda: plane.put(b"/x", b"", None, etag=b"", ttl_ms=1),  # type: ignore[arg-type]
        lambda: plane.put(b"/x", b"", TYPE, etag=None, ttl_ms=1),  # type: ignore[arg-type]
        lambda: plane.put(b"/x", None, TYPE, etag=b"", ttl_ms=1),  # type: ignore[arg-type]
        lambda: plane.open(None),  # type: ignore[arg-type]
        lambda: plane.lookup(None),  # type: ignore[arg-type]
        lambda: plane.version(None),  # type: ignore[arg-type]
        lambda: plane.purge(None),  # type: ignore[arg-type]
        lambda: plane.purge_prefix(None),  # type: ignore[arg-type]
        lambda: fill.append(None),  # type: ignore[arg-type]
        lambda: fill.commit(etag=None),  # type: ignore[arg-type]
        lambda: fill.view(None, 0, 1, TYPE, etag=b"", ttl_ms=1),  # type: ignore[arg-type]
        lambda: Plane(name=None, budget_bytes=1),  # type: ignore[arg-type]
    ]
    fill.append(b"x")
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_other_routes_count_at_once_or_not_at_all(plane: Plane) -> None:
    assert plane.key(b"/a/x?s=1") == b"/a/x"
    for names in ([b"s"], [], [b"t", b"s"]):
        assert plane.reroute([(b"/a/", names)], [])
        assert plane.key(b"/a/x?s=1") == (b"/a/x?s=1" if b"s" in names else b"/a/x")
    with pytest.raises(ValueError, match="one rule too many"):
        plane.reroute([(b"/b/", [])] * 20, [])
    assert plane.key(b"/a/x?s=1") == b"/a/x?s=1"
