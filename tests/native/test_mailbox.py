"""The boxes between the planes: nothing is lost, even when they are full (native/mailbox.pxd)."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from tests.native._probe import DOWN_SLOTS, UP_SLOTS, EntryRef, StoreOf, Worker


@pytest.fixture
def store() -> StoreOf:
    return StoreOf(1 << 30)


@pytest.fixture
def worker(store: StoreOf) -> Iterator[Worker]:
    with socket.socket() as sock:
        made = Worker(store, sock.fileno(), index=3)
        yield made
        made.close()


def reserved(store: StoreOf, key: bytes) -> EntryRef:
    ref, created = store.acquire(key, reserve=True)
    assert ref is not None
    assert created
    return ref


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_misses_go_up_in_order_each_with_a_reference(store: StoreOf, worker: Worker) -> None:
    refs = [reserved(store, b"/%d" % i) for i in range(10)]
    assert all(worker.ask(ref) for ref in refs)
    assert {ref.refs for ref in refs} == {3}
    taken = [worker.asked() for _ in range(10)]
    assert worker.asked() is None
    del taken
    assert {ref.refs for ref in refs} == {2}


def test_a_full_box_says_so(store: StoreOf, worker: Worker) -> None:
    ref = reserved(store, b"/a")
    assert all(worker.ask(ref) for _ in range(UP_SLOTS))
    assert not worker.ask(ref)
    assert worker.asked() is not None
    assert worker.ask(ref)
    worker.close()
    assert ref.refs == 2, "what was never taken is released with the box"


def test_ready_is_sent_once_until_it_is_read(store: StoreOf, worker: Worker) -> None:
    ref = reserved(store, b"/a")
    worker.hold(ref)
    worker.interest(ref)
    assert worker.bits(ref)[:2] == (1 << 3, 0)
    for _ in range(5):
        worker.ready(ref)
    assert (worker.waiting, worker.bits(ref)[1]) == (1, 1 << 3)
    worker.mail()
    assert (worker.waiting, worker.bits(ref)[1]) == (0, 0)
    worker.ready(ref)
    assert worker.waiting == 1


def test_ready_for_what_nobody_holds_any_more(store: StoreOf, worker: Worker) -> None:
    ref = reserved(store, b"/a")
    worker.ready(ref)
    assert ref.refs == 3
    worker.mail()
    assert ref.refs == 2


def test_an_overflow_does_not_silence_an_entry(store: StoreOf, worker: Worker) -> None:
    """The READY that found no room left its `posted` bit behind, and with it set no other READY
    would ever be sent: whoever parked on the entry later waited for its deadline."""
    refs = [reserved(store, b"/%d" % i) for i in range(DOWN_SLOTS + 2)]
    held, unheld = refs[-1], refs[-2]
    worker.hold(held)
    worker.interest(held)
    for ref in refs:
        worker.ready(ref)
    assert worker.waiting == DOWN_SLOTS
    worker.mail()
    assert worker.bits(held)[1] == 0
    worker.hold(unheld)
    worker.interest(unheld)
    assert worker.bits(unheld)[1] == 0
    assert {ref.refs for ref in refs} == {2, 3}
    worker.ready(held)
    assert worker.waiting == 1


@pytest.mark.parametrize("stop", [False, True])
def test_orders_find_room_in_a_full_box(store: StoreOf, worker: Worker, stop: bool) -> None:
    refs = [reserved(store, b"/%d" % i) for i in range(DOWN_SLOTS)]
    for ref in refs:
        worker.ready(ref)
    worker.order(stop)
    assert worker.waiting == DOWN_SLOTS
    assert worker.mail() == (not stop, stop)
    assert {ref.refs for ref in refs} == {2}


def test_a_bell_rings_once_until_it_is_answered(worker: Worker) -> None:
    assert not readable(worker.bell_fd)
    worker.ring()
    worker.ring()
    assert readable(worker.bell_fd)
    worker.answer()
    assert not readable(worker.bell_fd)
    worker.answer()
    worker.ring()
    assert readable(worker.bell_fd)
