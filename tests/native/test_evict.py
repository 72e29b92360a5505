"""Who leaves when the budget is used up (native/evict.pxd)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.traces import Mix, trace
from tests.native._probe import EntryRef, StoreOf
from tests.native.kit import TYPE, Edge, Viewer, get

CREATED, NO_SPACE = 0, 3
BODY_BYTES = 10_000
BODY = b"x" * BODY_BYTES
COST = 11_500  # of one object, a little more than it takes


def name(number: int) -> bytes:
    return b"/%06d" % number


def store_of(objects: int) -> StoreOf:
    return StoreOf(objects * COST)


def ref(store: StoreOf, number: int) -> EntryRef | None:
    return store.acquire(name(number))[0]


def entry(store: StoreOf, number: int) -> EntryRef:
    found = ref(store, number)
    assert found is not None
    return found


def ask(store: StoreOf, number: int) -> bool:
    """As one viewer: a hit is a visit, a miss fetches."""
    found = ref(store, number)
    if found is not None:
        found.visit()
        return True
    assert store.put(name(number), BODY) == CREATED
    return False


def there(store: StoreOf, numbers: Sequence[int]) -> list[int]:
    return [number for number in numbers if ref(store, number) is not None]


def push_out(store: StoreOf, objects: int) -> None:
    """Make room as if so many more were to be written."""
    store.make_room(objects * COST)


def test_the_oldest_on_probation_leaves_first() -> None:
    store = store_of(10)
    for number in range(6):
        ask(store, number)
    push_out(store, 6)
    assert there(store, range(6)) == [2, 3, 4, 5]


def test_what_was_asked_for_again_is_kept() -> None:
    store = store_of(10)
    for number in (*range(6), 0, 1):
        ask(store, number)
    push_out(store, 6)
    assert there(store, range(6)) == [0, 1, 4, 5]


def test_what_comes_and_goes_does_not_push_out_what_is_kept() -> None:
    """One pass of a crawler, or of a viewer through hours of history."""
    store = store_of(30)
    for number in (*range(10), *range(10)):
        ask(store, number)
    for number in range(100, 400):
        ask(store, number)
    assert there(store, range(10)) == list(range(10))


def test_what_was_popular_leaves_when_nobody_asks_any_more() -> None:
    """The live edge moves: segments that everybody wanted a minute ago make room."""
    store = store_of(30)
    for newest in range(0, 200, 5):
        for number in (*range(newest, newest + 5), *range(newest, newest + 5)):
            ask(store, number)
    assert there(store, range(150)) == []


def test_what_is_being_read_is_not_evicted_in_vain() -> None:
    store = store_of(6)
    ask(store, 0)
    reader = entry(store, 0)
    for number in range(1, 40):
        ask(store, number)
    assert there(store, [0]) == [0]
    assert not reader.dead
    del reader
    for number in range(40, 80):
        for _ in range(2):
            ask(store, number)
    assert there(store, [0]) == [], "others that are kept push it out"


def test_a_segment_stays_while_one_of_its_parts_is_read() -> None:
    store = store_of(6)
    ask(store, 0)
    segment = entry(store, 0)
    store.put(b"/part", b"x", parent=segment)
    reader, _ = store.acquire(b"/part")
    del segment
    for number in range(1, 40):
        ask(store, number)
    assert there(store, [0]) == [0]
    del reader


# ---------------------------------------------------------------- against a model of the policy


STEPS_MAX = 64 * 64  # EVICT_STEPS × EVICT_ROUNDS of store.pxd


class Policy:
    """The law of evict.pxd in Python, over numbers."""

    def __init__(self) -> None:
        self.probation: list[int] = []
        self.kept: list[int] = []
        self.visited: set[int] = set()
        self.read: set[int] = set()

    def evict(self) -> bool:
        """One step; whether somebody left."""
        total = len(self.probation) + len(self.kept)
        queue = self.probation if 3 * len(self.probation) >= total else self.kept
        number = queue.pop(0)
        if number in self.visited | self.read:
            self.visited.discard(number)
            self.kept.append(number)
            return False
        return True

    def ask(self, number: int) -> None:
        if number in self.probation + self.kept:
            self.visited.add(number)
        else:
            self.probation.append(number)


STEP = st.tuples(st.sampled_from(["ask", "ask", "ask", "evict", "read", "leave"]),
                 st.integers(0, 15))  # fmt: skip


ALL_KEPT_ARE_READ = [
    *(("ask", number) for number in (13, 10, 6, 9, 2, 6, 13)),
    *(("read", number) for number in (10, 2)),
    ("evict", 0), ("ask", 2), ("evict", 0), ("ask", 0), ("read", 6), ("ask", 10),
    *[("evict", 0)] * 3,
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=120))
@example(ALL_KEPT_ARE_READ)
def test_any_order_of_uses_leaves_what_the_model_leaves(steps: list[tuple[str, int]]) -> None:
    store, policy = StoreOf(1 << 30), Policy()
    readers: dict[int, EntryRef] = {}
    for what, number in steps:
        if what == "ask":
            ask(store, number)
            policy.ask(number)
        elif what == "read" and there(store, [number]):
            readers[number] = entry(store, number)
            policy.read.add(number)
        elif what == "leave":
            readers.pop(number, None)
            policy.read.discard(number)
        elif what == "evict" and len(readers) < len(policy.probation + policy.kept):
            used = store.figures()["used"]
            store.make_room((1 << 30) - used + 1)  # as much as one object
            # Nobody leaves while all that are kept are read and few are on probation.
            any(policy.evict() for _ in range(STEPS_MAX))
        assert there(store, range(16)) == sorted(policy.probation + policy.kept)


def lru_ratio(ids: Sequence[int], objects: int) -> float:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for number in ids:
        if number in held:
            hits += 1
            held.move_to_end(number)
        elif len(held) >= objects:
            held.popitem(last=False)
        held[number] = None
    return hits / len(ids)


@pytest.mark.parametrize(
    ("mix", "objects", "more"), [("live", 1500, -0.001), ("dvr", 1500, -0.005), ("zipf", 800, 0.04)]
)
def test_as_good_as_lru_at_the_edge_and_better_on_a_catalogue(
    mix: Mix, objects: int, more: float
) -> None:
    ids = trace(mix, requests=15_000, objects=10_000, alpha=0.9)
    store = store_of(objects)
    held = sum(ask(store, number) for number in ids) / len(ids)
    assert held >= lru_ratio(ids, objects) + more


# ---------------------------------------------------------------- in a worker's hands


def pull(edge: Edge, viewer: Viewer, key: str) -> None:
    """A viewer asks for what may not be there; the control plane fetches it."""
    misses = edge.count("misses")
    viewer.send(get(key))
    while viewer.silent(0.001):
        if edge.count("misses") > misses:
            misses = edge.count("misses")
            fill = edge.fill()
            assert fill.begin(200, TYPE, length=BODY_BYTES, etag=b"e", ttl_ms=60_000)
            assert fill.append(BODY)
            assert fill.commit()
    answer = viewer.answer()
    assert (answer.status, answer.body) == (200, BODY)


def test_the_request_that_fetches_an_object_does_not_keep_it(edges: Callable[..., Edge]) -> None:
    """It used to count as a visit, so everybody entered visited and the order was that of FIFO."""
    edge = edges(budget=30 * COST)
    with edge.viewer() as viewer:
        for key in ("/once", "/hot", "/hot"):
            pull(edge, viewer, key)
        for number in range(60):
            pull(edge, viewer, f"/{number}")
        assert edge.plane.lookup(b"/hot") is not None
        assert edge.plane.lookup(b"/once") is None


def test_an_idle_worker_does_not_hold_the_budget(edges: Callable[..., Edge]) -> None:
    """Workers used to keep a reference for a second to all they had served, and a trace that was
    faster than that was answered with 503 for want of room: half of it, with 32 MiB."""
    edge = edges(budget=30 * COST)
    with edge.viewer() as viewer:
        for number in range(200):
            pull(edge, viewer, f"/{number}")
    assert edge.plane.counters()["shed"] == 0
