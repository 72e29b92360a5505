"""Who waits when a pass of the loop has taken its time (native/turn.pxd)."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.native._probe import StoreOf, Worker
from tests.native.kit import get

HEAD = 1000  # bytes that no head of an answer reaches
SHORT, LONG = 64 << 10, 300_000


@pytest.fixture
def asked() -> Iterator[Callable[..., Worker]]:
    """A worker that was asked for a body of that size, so many times; no thread runs it."""
    ends: list[socket.socket] = []
    workers = []

    def ask(size: int, times: int = 1) -> Worker:
        store = StoreOf(1 << 20)
        store.put(b"/a", b"x" * size, memfd=True)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ends.append(socket.create_connection(listener.getsockname()))
            worker = Worker(store, listener.fileno())
            workers.append(worker)
            accepted, _ = listener.accept()
        accepted.setblocking(False)
        assert worker.accept(accepted.detach())
        ends[-1].sendall(get("/a") * times)
        return worker

    yield ask
    for worker in workers:
        worker.close()
    for end in ends:
        end.close()


def test_a_long_answer_waits_for_a_pass_that_has_time(asked: Callable[..., Worker]) -> None:
    worker = asked(LONG)
    out, waits = worker.serve(spent=True)
    assert out < HEAD
    assert waits
    assert worker.serve(spent=True) == (out, True)
    assert worker.serve(spent=False)[0] > SHORT


def test_a_short_answer_waits_for_none(asked: Callable[..., Worker]) -> None:
    out, waits = asked(SHORT).serve(spent=True)
    assert SHORT < out < SHORT + HEAD
    assert not waits


def test_a_pipeline_waits_for_a_pass_that_has_time(asked: Callable[..., Worker]) -> None:
    """A hundred of them, unread, kept everybody else waiting for eight answers each."""
    worker = asked(SHORT // 8, 4)
    assert worker.serve(spent=True) == (0, True)
    out, waits = worker.serve(spent=False)
    assert SHORT // 2 < out < SHORT // 2 + 4 * HEAD
    assert not waits


@pytest.mark.parametrize("events", [select.EPOLLHUP | select.EPOLLERR, select.EPOLLRDHUP])
def test_who_leaves_waits_for_a_pass_that_has_time(
    asked: Callable[..., Worker], events: int
) -> None:
    worker = asked(SHORT)
    assert worker.named(events, spent=True) == (1, True)
    assert worker.named(events, spent=False) == (1, True), "once on the list its turn ends it"


def test_who_leaves_goes_at_once_in_a_pass_that_has_time(asked: Callable[..., Worker]) -> None:
    assert asked(SHORT).named(select.EPOLLHUP, spent=False) == (0, False)


def test_a_spent_pass_lets_few_in() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.setblocking(False)
        worker = Worker(StoreOf(1 << 20), listener.fileno())
        came = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        assert worker.arrive(spent=True) == 8
        assert worker.arrive(spent=False) == 20
        worker.close()
        for end in came:
            end.close()
