"""Who waits when a pass of the loop has taken its time (native/turn.pxd)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.native._probe import StoreOf, Worker
from tests.native.kit import get

HEAD = 1000  # bytes that no head of an answer reaches
SHORT, LONG = 64 << 10, 300_000


@pytest.fixture
def asked() -> Iterator[Callable[[int], Worker]]:
    """A worker that was asked for a body of that size; no thread runs it."""
    ends: list[socket.socket] = []
    workers = []

    def ask(size: int) -> Worker:
        store = StoreOf(1 << 20)
        store.put(b"/a", b"x" * size, memfd=True)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ends.append(socket.create_connection(listener.getsockname()))
            worker = Worker(store, listener.fileno())
            workers.append(worker)
            accepted, _ = listener.accept()
        accepted.setblocking(False)
        assert worker.accept(accepted.detach())
        ends[-1].sendall(get("/a"))
        return worker

    yield ask
    for worker in workers:
        worker.close()
    for end in ends:
        end.close()


def test_a_long_answer_waits_for_a_pass_that_has_time(asked: Callable[[int], Worker]) -> None:
    worker = asked(LONG)
    out, waits = worker.serve(spent=True)
    assert out < HEAD
    assert waits
    assert worker.serve(spent=True) == (out, True)
    assert worker.serve(spent=False)[0] > SHORT


def test_a_short_answer_waits_for_none(asked: Callable[[int], Worker]) -> None:
    out, waits = asked(SHORT).serve(spent=True)
    assert SHORT < out < SHORT + HEAD
    assert not waits
