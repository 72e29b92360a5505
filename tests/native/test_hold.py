"""What a worker keeps a reference to, and when it lets go (native/hold.pxd)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.native._probe import EntryRef, StoreOf, Worker


@pytest.fixture
def store() -> StoreOf:
    return StoreOf(1 << 30)


@pytest.fixture
def worker(store: StoreOf) -> Iterator[Worker]:
    with socket.socket() as sock:
        made = Worker(store, sock.fileno(), max_holds=4)
        yield made
        made.close()


def put(store: StoreOf, key: bytes, *, visited: bool = True) -> EntryRef:
    store.put(key, b"body")
    ref, _ = store.acquire(key)
    assert ref is not None
    if visited:
        ref.visit()
    return ref


def test_a_hold_is_one_reference(store: StoreOf, worker: Worker) -> None:
    ref = put(store, b"/a")
    worker.hold(ref)
    assert ref.refs == 3
    for _ in range(1000):
        worker.use(ref)
    assert ref.refs == 3, "uses are counted by the worker alone"
    for _ in range(1000):
        worker.unuse(ref)
    assert worker.found(b"/a")
    worker.sweep(True)
    assert (ref.refs, worker.holds()) == (2, [])


def test_a_use_marks_the_object_once(store: StoreOf, worker: Worker) -> None:
    ref = put(store, b"/a", visited=False)
    worker.hold(ref)
    worker.use(ref, fetched=True)
    assert worker.bits(ref)[2] == 0, "who makes us fetch it does not ask for it again"
    worker.use(ref)
    assert worker.bits(ref)[2] == 1
    worker.unuse(ref)
    worker.unuse(ref)


def test_what_was_used_for_the_first_time_is_not_held_on(store: StoreOf, worker: Worker) -> None:
    ref = put(store, b"/a", visited=False)
    for held in ([], [b"/a"]):
        worker.hold(ref)
        worker.use(ref)
        worker.unuse(ref)
        assert worker.holds() == held


def test_a_use_of_a_view_marks_its_segment(store: StoreOf, worker: Worker) -> None:
    """A part and its segment stay or go together; only the segment is in a queue."""
    segment = put(store, b"/seg", visited=False)
    store.put(b"/seg.0", b"bo", parent=segment)
    view, _ = store.acquire(b"/seg.0")
    assert view is not None
    worker.hold(view)
    worker.use(view)
    assert (worker.bits(segment)[2], worker.bits(view)[2]) == (1, 0)
    worker.unuse(view)


def test_idle_holds_go_at_the_second_sweep(store: StoreOf, worker: Worker) -> None:
    refs = [put(store, b"/%d" % i) for i in range(3)]
    for ref in refs:
        worker.hold(ref)
        worker.use(ref)
    worker.unuse(refs[0])
    worker.unuse(refs[1])
    worker.sweep()
    assert len(worker.holds()) == 3, "used since the last sweep"
    worker.use(refs[1])
    worker.unuse(refs[1])
    worker.sweep()
    assert worker.holds() == [b"/2", b"/1"]
    worker.unuse(refs[2])


def test_over_the_limit_idle_holds_make_room(store: StoreOf, worker: Worker) -> None:
    refs = [put(store, b"/%d" % i) for i in range(20)]
    for ref in refs:
        worker.hold(ref)
    assert len(worker.holds()) <= 5


def test_dead_entries_go_with_their_last_use(store: StoreOf, worker: Worker) -> None:
    ref = put(store, b"/a")
    worker.hold(ref)
    worker.use(ref)
    worker.use(ref)
    store.purge(b"/a")
    assert not worker.found(b"/a"), "a new request must not get it"
    worker.unuse(ref)
    assert len(worker.holds()) == 1
    worker.unuse(ref)
    assert (worker.holds(), ref.refs) == ([], 1)


def test_interest_ends_with_the_hold(store: StoreOf, worker: Worker) -> None:
    ref, _ = store.acquire(b"/a", reserve=True)
    assert ref is not None
    worker.hold(ref)
    worker.interest(ref)
    assert worker.bits(ref)[0] == 1
    worker.sweep(True)
    assert worker.bits(ref)[0] == 0


def test_a_hold_follows_the_versions(store: StoreOf, worker: Worker) -> None:
    store.publish(b"/l", 1, 0)
    ref, _ = store.acquire(b"/l")
    assert ref is not None
    worker.hold(ref)
    assert worker.refresh(ref) == (1, 0)
    store.publish(b"/l", 1, 1)
    store.publish(b"/l", 2, 0)
    assert worker.refresh(ref) == (2, 0)
    assert worker.refresh(ref) == (2, 0)


def test_two_entries_of_one_key(store: StoreOf, worker: Worker) -> None:
    """The purged one is still read; the new one is what requests find."""
    old = put(store, b"/a")
    worker.hold(old)
    worker.use(old)
    store.purge(b"/a")
    new = put(store, b"/a")
    worker.hold(new)
    assert worker.found(b"/a")
    assert len(worker.holds()) == 2
    worker.unuse(old)
    assert len(worker.holds()) == 1


def test_what_is_held_idle_has_a_share_of_the_budget() -> None:
    """A quarter, of all workers together; what is in use has no bound here."""
    store = StoreOf(1 << 20)
    with socket.socket() as sock:
        workers = [Worker(store, sock.fileno(), index=n) for n in range(2)]
        for number in range(10):
            store.put(b"/%d" % number, b"x" * 60_000)
            ref, _ = store.acquire(b"/%d" % number)
            assert ref is not None
            ref.visit()
            workers[number % 2].hold(ref)
            workers[number % 2].use(ref)
            workers[number % 2].unuse(ref)
            del ref
        assert [len(worker.holds()) for worker in workers] == [2, 2]
        workers[0].sweep(True)
        store.put(b"/new", b"x" * 60_000)
        ref, _ = store.acquire(b"/new")
        assert ref is not None
        ref.visit()
        workers[1].hold(ref)
        workers[1].use(ref)
        workers[1].unuse(ref)
        assert len(workers[1].holds()) == 3, "what was let go is room for others"
        del ref
        for worker in workers:
            worker.close()
