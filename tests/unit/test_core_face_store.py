"""The face of the native core: views, versions, purges, figures."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest

from edgecache import _core
from edgecache._core import (
    PUT_CONFLICT,
    PUT_CREATED,
    PUT_NO_SPACE,
    PUT_SAME,
    PUT_STALE,
    Plane,
)
from tests.unit.core_face import HOUR_MS, TYPE, filling, publish, size


@pytest.fixture
def plane() -> Iterator[Plane]:
    """Without workers: the store alone."""
    made = Plane(name=b"pop-a", budget_bytes=64 << 20)
    yield made
    made.stop()


def test_views_are_entries_of_their_own(plane: Plane) -> None:
    fill = filling(plane, b"/seg")
    fill.append(b"0123456789")
    assert fill.view(b"/seg.0", 0, 4, TYPE, etag=b"0", ttl_ms=HOUR_MS) == PUT_CREATED
    assert fill.view(b"/seg.1", 4, 6, TYPE, etag=b"1", ttl_ms=HOUR_MS) == PUT_CREATED
    assert fill.view(b"/seg.1", 4, 6, TYPE, etag=b"1", ttl_ms=HOUR_MS) == PUT_SAME
    assert fill.view(b"/seg.1", 0, 6, TYPE, etag=b"2", ttl_ms=HOUR_MS) == PUT_CONFLICT
    assert (size(plane, b"/seg.0"), size(plane, b"/seg.1")) == (4, 6)
    assert fill.commit(etag=b"s")


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 11), (10, 1), (11, 0), (2**64 - 1, 1), (2**64 - 1, 2), (1, 2**64 - 1)],
)
def test_a_view_lies_inside(plane: Plane, offset: int, length: int) -> None:
    fill = filling(plane, b"/seg")
    fill.append(b"0123456789")
    with pytest.raises(ValueError, match="outside the 10 bytes"):
        fill.view(b"/v", offset, length, TYPE, etag=b"0", ttl_ms=HOUR_MS)


def test_a_view_under_the_name_of_its_segment(plane: Plane) -> None:
    """It would take its own parent out of the index and leave with nobody."""
    fill = filling(plane, b"/seg")
    fill.append(b"0123456789")
    assert fill.view(b"/seg", 0, 5, TYPE, etag=b"0", ttl_ms=HOUR_MS) == PUT_CONFLICT
    assert fill.live


def test_only_the_writer_makes_views(plane: Plane) -> None:
    loser, winner = plane.open(b"/seg"), plane.open(b"/seg")
    assert loser is not None
    assert winner is not None
    winner.begin(200, TYPE, ttl_ms=HOUR_MS)
    winner.append(b"0123")
    with pytest.raises(ValueError, match="outside"):
        loser.view(b"/v", 0, 1, TYPE, etag=b"", ttl_ms=1)


def test_views_leave_with_their_segment(plane: Plane) -> None:
    fill = filling(plane, b"/seg")
    fill.append(b"0123456789")
    fill.view(b"/seg.0", 0, 4, TYPE, etag=b"0", ttl_ms=HOUR_MS)
    fill.commit(etag=b"s")
    assert plane.purge(b"/seg")
    assert plane.lookup(b"/seg.0") is None
    assert fill.view(b"/seg.1", 4, 6, TYPE, etag=b"1", ttl_ms=HOUR_MS) == PUT_NO_SPACE


# ---------------------------------------------------------------- values


def test_versions_only_move_on(plane: Plane) -> None:
    results = [publish(plane, *v) for v in [(1, 0), (1, 2), (1, 2), (1, 1), (0, 9), (2, 0)]]
    assert results == [
        PUT_CREATED, PUT_CREATED, PUT_STALE, PUT_STALE, PUT_STALE, PUT_CREATED,
    ]  # fmt: skip
    assert plane.version(b"/l.m3u8") == (2, 0, 6)
    assert publish(plane, 2, 0, ended=True) == PUT_CREATED
    assert publish(plane, 3, 0) == PUT_STALE


def test_a_value_that_never_blocks_is_replaced(plane: Plane) -> None:
    assert [publish(plane, 5, 0, hold_ms=0) for _ in range(3)] == [PUT_CREATED] * 3


def test_a_value_and_an_object_do_not_share_a_name(plane: Plane) -> None:
    publish(plane, 1, 1)
    assert plane.put(b"/l.m3u8", b"x", TYPE, etag=b"1", ttl_ms=HOUR_MS) == PUT_CONFLICT
    assert plane.put(b"/a", b"x", TYPE, etag=b"1", ttl_ms=HOUR_MS) == PUT_CREATED
    assert plane.version(b"/a") is None
    assert plane.version(b"/nothing") is None


@pytest.mark.parametrize(
    ("bodies", "fields"),
    [
        ([None] * 4, [TYPE] * 4),
        ([], []),
        ([b"x"] * 7, [TYPE] * 7),
        ([b"x"] * 4, [TYPE] * 3),
    ],
)
def test_variants_are_six_at_most(
    plane: Plane, bodies: list[bytes | None], fields: list[bytes | None]
) -> None:
    with pytest.raises(ValueError, match="are up to 6 each, the first body not None"):
        plane.publish(
            b"/l", msn=1, parts=1, last_parts=1, hold_ms=1, advance=1, ended=False, ttl_ms=1,
            fields=fields, bodies=bodies, etags=fields,
        )  # fmt: skip


@pytest.mark.parametrize("missing", ["fields", "etags"])
def test_a_variant_has_fields_and_etag(plane: Plane, missing: str) -> None:
    parts: dict[str, Any] = {
        name: [b"x", b"y", None, None] for name in ("fields", "bodies", "etags")
    }
    parts[missing] = [b"x", None, None, None]
    with pytest.raises(TypeError):
        plane.publish(
            b"/l", msn=1, parts=1, last_parts=1, hold_ms=1, advance=1, ended=False, ttl_ms=1,
            **parts,
        )  # fmt: skip


# ---------------------------------------------------------------- leaving


def test_purge(plane: Plane) -> None:
    plane.put(b"/a", b"x", TYPE, etag=b"1", ttl_ms=HOUR_MS)
    assert [plane.purge(b"/a"), plane.purge(b"/a")] == [True, False]
    assert plane.put(b"/a", b"y", TYPE, etag=b"2", ttl_ms=HOUR_MS) == PUT_CREATED


def test_purge_by_prefix_counts_everything_that_left(plane: Plane) -> None:
    """Views leave with their segment; whichever is found first, each of them counts."""
    for i in range(40):
        fill = filling(plane, b"/live/s/%d" % i)
        fill.append(b"0123456789")
        for part in range(3):
            key = b"/live/s/%d.%d" % (i, part)
            fill.view(key, part, 1, TYPE, etag=b"0", ttl_ms=HOUR_MS)
        fill.commit(etag=b"s")
    plane.put(b"/live/other", b"x", TYPE, etag=b"1", ttl_ms=HOUR_MS)
    assert plane.purge_prefix(b"/live/s/") == 160
    assert plane.counters()["store_entries_now"] == 1
    assert plane.purge_prefix(b"") == 1
    assert plane.counters()["store_purged"] == 161


def test_lookup_tells_times(plane: Plane) -> None:
    plane.put(b"/a", b"xyz", TYPE, etag=b"1", ttl_ms=HOUR_MS)
    found = plane.lookup(b"/a")
    assert found is not None
    assert {k: found[k] for k in ("state", "status", "size", "pushed", "waiters")} == {
        "state": b"complete", "status": 200, "size": 3, "pushed": 1, "waiters": 0,
    }  # fmt: skip
    assert 0 <= int(found["age_ms"]) < 60_000
    assert HOUR_MS - 60_000 < int(found["ttl_ms"]) <= HOUR_MS


def test_figures_have_names_and_helps(plane: Plane) -> None:
    counters = plane.counters()
    assert set(_core.COUNTER_HELP) <= set(counters)
    assert all(_core.COUNTER_HELP.values())
    assert set(plane.histograms()) == set(_core.HISTOGRAM_HELP)
    assert not select.select([plane.event_fd], [], [], 0)[0]


def test_everything_is_given_back() -> None:
    before = _core.live_objects()
    made = Plane(name=b"pop", budget_bytes=1 << 20)
    made.put(b"/a", b"x" * 100_000, TYPE, etag=b"1", ttl_ms=HOUR_MS)
    publish(made, 1, 1)
    fill = filling(made, b"/b")
    fill.append(b"x")
    fill.view(b"/c", 0, 1, TYPE, etag=b"1", ttl_ms=HOUR_MS)
    assert _core.live_objects() != before
    del fill, made
    assert _core.live_objects() == before
