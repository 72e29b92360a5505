"""What another process is told of, and the marks that say what still stands, whoever changes it and
whenever it is looked at (native/deposit.pxd)."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Callable, Iterator

import pytest

from edgecache._core import noted
from tests.native.kit import TYPE, Edge

ROOM = 64
FREE, KEPT, LEFT = 0, 1, 2
BODY = os.urandom(40_000)


class Kept:
    """A store whose changes are told to nobody but the test."""

    def __init__(self) -> None:
        self.edge = Edge()
        self.told = 0
        fd = os.memfd_create("marks")
        os.ftruncate(fd, ROOM)
        self.marks = mmap.mmap(fd, ROOM)
        self.edge.plane.keep(fd, ROOM, self._tell)
        os.close(fd)

    def _tell(self) -> None:
        self.told += 1

    def keep(self, copied: int = 0) -> dict[bytes, int]:
        """What has changed is kept: key -> slot."""
        return {item.key: item.keep(copied) for item in noted(self.edge.plane, 1000)}

    def counted(self) -> tuple[int, int]:
        """(marks that stand, marks that have left)."""
        found = self.edge.plane.counters()
        return found["deposit_kept_now"], found["deposit_left"]


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept()
    yield made
    made.edge.stop()


def test_what_becomes_whole_is_told_once_and_in_order(kept: Kept) -> None:
    plane = kept.edge.plane
    for name in ("/b", "/a", "/c"):
        kept.edge.put(name, BODY)
    assert list(kept.keep()) == [b"/b", b"/a", b"/c"]
    assert kept.told == 3
    assert kept.keep() == {}
    fill = plane.open(b"/pulled")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=1000)
    fill.append(BODY)
    assert kept.keep() == {}  # nothing half filled
    fill.commit()
    assert list(kept.keep()) == [b"/pulled"]
    for part in (1, 2):
        kept.edge.publish("/live/s/v.m3u8", (7, part, 4))
    slots = kept.keep()
    assert list(slots) == [b"/live/s/v.m3u8"]  # the newest version of the two
    kept.edge.publish("/live/s/v.m3u8", (7, 3, 4))
    assert kept.keep() == slots
    assert list(kept.marks[:6]) == [KEPT] * 5 + [FREE]


def test_a_segment_that_grows_is_told_with_each_part_and_before_it(kept: Kept) -> None:
    fill = kept.edge.plane.open(b"/7.m4s")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=1000, pushed=True)
    for part in (b"/7.0.m4s", b"/7.1.m4s"):
        fill.append(BODY)
        fill.view(part, fill.filled - len(BODY), len(BODY), TYPE, etag=b"p", ttl_ms=1000)
        assert list(kept.keep()) == [b"/7.m4s", part]
    fill.fail(502)
    assert list(kept.marks[:4]) == [LEFT, LEFT, LEFT, FREE]


def evict(edge: Edge) -> None:
    edge.plane.set_budget(1)
    edge.plane.evict()


LEAVES: dict[str, Callable[[Edge], object]] = {
    "purged": lambda edge: edge.plane.purge(b"/x"),
    "purged with others": lambda edge: edge.plane.purge_prefix(b"/"),
    "evicted": evict,
    "expired": lambda edge: edge.ask("/x"),  # by a worker
}


@pytest.mark.parametrize("how", LEAVES)
def test_what_leaves_is_marked_in_that_step(kept: Kept, how: str) -> None:
    kept.edge.put("/x", BODY, ttl_ms=0 if how == "expired" else 60_000)
    slot = kept.keep()[b"/x"]
    assert kept.marks[slot] == KEPT
    assert kept.counted() == (1, 0)
    LEAVES[how](kept.edge)
    assert kept.marks[slot] == LEFT
    assert kept.counted() == (0, 1)
    assert kept.keep() == {}


def test_what_has_left_before_it_was_told_is_not_kept(kept: Kept) -> None:
    kept.edge.put("/x", BODY)
    (item,) = noted(kept.edge.plane, 9)
    kept.edge.plane.purge(b"/x")
    assert item.keep(0) == -1
    assert kept.marks.find(b"\1") == -1


def test_copies_are_in_the_budget(kept: Kept) -> None:
    def used() -> int:
        return kept.edge.plane.counters()["store_bytes_now"]

    kept.edge.put("/x", BODY)
    before = used()
    (item,) = noted(kept.edge.plane, 9)
    item.keep(1000)
    item.keep(700)
    assert used() == before + 700
    del item
    kept.edge.plane.purge(b"/x")
    assert used() == 0


def test_without_a_free_mark_nothing_more_is_kept(kept: Kept) -> None:
    for number in range(ROOM + 3):
        kept.edge.put(f"/{number}", b"body")
    slots = list(kept.keep().values())
    assert sorted(slots[:ROOM]) == list(range(ROOM))
    assert slots[ROOM:] == [-1] * 3
    kept.marks[7:8] = b"\0"
    kept.edge.put("/one-more", b"body")
    assert kept.keep() == {b"/one-more": 7}


def test_a_mark_may_be_taken_over_from_another_process(kept: Kept) -> None:
    kept.edge.put("/x", BODY)
    (item,) = noted(kept.edge.plane, 9)
    with pytest.raises(ValueError, match="slot 64"):
        item.keep(0, ROOM)
    assert (item.slot, item.keep(0, 33), item.slot, item.keep(0)) == (-1, 33, 33, 33)


def test_once_nobody_keeps_nothing_is_noted(kept: Kept) -> None:
    kept.edge.put("/x", BODY)
    kept.edge.plane.keep_no_more()
    kept.edge.put("/y", BODY)
    assert list(kept.keep()) == [b"/x"]
    assert kept.told == 1
    with pytest.raises(ValueError, match="keep once"):
        kept.edge.plane.keep(0, ROOM, lambda: None)


def test_who_ends_in_order_leaves_what_is_kept() -> None:
    """It is for the next process, as if this one had been killed."""
    kept = Kept()
    kept.edge.put("/stays", BODY)
    kept.edge.put("/purged", BODY)
    slots = kept.keep()
    kept.edge.plane.purge(b"/purged")
    kept.edge.put("/never told", BODY)
    kept.edge.stop()
    del kept.edge
    gc.collect()
    assert [kept.marks[slots[name]] for name in (b"/stays", b"/purged")] == [KEPT, LEFT]
