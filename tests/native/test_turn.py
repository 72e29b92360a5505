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
RESET = b"\1\0\0\0\0\0\0\0"  # of SO_LINGER


@pytest.fixture
def ends() -> Iterator[list[socket.socket]]:
    """Of viewers, newest last."""
    opened: list[socket.socket] = []
    yield opened
    for end in opened:
        end.close()


@pytest.fixture
def asked(ends: list[socket.socket]) -> Iterator[Callable[..., Worker]]:
    """A worker that was asked for a body of that size, so many times; no thread runs it."""
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


@pytest.mark.parametrize("spent", [False, True])
@pytest.mark.parametrize("events", [select.EPOLLHUP | select.EPOLLERR, select.EPOLLRDHUP])
def test_who_leaves_waits_for_the_second_pass(
    asked: Callable[..., Worker], events: int, spent: bool
) -> None:
    worker = asked(SHORT)
    assert worker.named(events, spent=spent) == (1, True, 0)
    assert worker.named(events, spent=False) == (1, True, 0), "once on the list its turn ends it"


def test_who_leaves_goes_in_a_second_pass_that_has_time(
    asked: Callable[..., Worker], ends: list[socket.socket]
) -> None:
    worker = asked(SHORT)
    ends[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    ends.pop().close()
    worker.named(select.EPOLLHUP, spent=False)
    assert worker.second(spent=True) == (1, True, 0)
    assert worker.second(spent=False) == (0, False, 0)


def test_who_was_served_before_goes_first(
    asked: Callable[..., Worker], ends: list[socket.socket]
) -> None:
    """Half heads by the hundred, ready all at once, were read before a viewer's next request."""
    worker = asked(SHORT // 8)
    assert worker.named(select.EPOLLIN, spent=False) == (1, True, 0)
    left, waits, out = worker.second(spent=False)
    assert (left, waits) == (1, False)
    assert out > SHORT // 8
    ends[-1].sendall(get("/a"))
    assert worker.named(select.EPOLLIN, spent=True) == (1, False, 2 * out)


def test_a_spent_pass_lets_few_in() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.setblocking(False)
        worker = Worker(StoreOf(1 << 20), listener.fileno())
        came = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        assert worker.arrive(spent=True) == 4
        assert worker.arrive(spent=False) == 20
        worker.close()
        for end in came:
            end.close()
