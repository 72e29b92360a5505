"""edgecache/control/kernel.py, on a queue of this network that really overflows."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from edgecache.control import kernel
from tests.running import LIMIT_S


def test_a_queue_that_overflows_is_counted() -> None:
    """Nobody accepts, and there is room for one: the next ones' SYNs are dropped."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1))
        before = kernel.counts()
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            assert client.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        deadline = time.monotonic() + LIMIT_S
        while (now := kernel.counts())["listen_overflows"] < before["listen_overflows"] + 1:
            assert time.monotonic() < deadline
        assert now["listen_drops"] > before["listen_drops"]
        assert now.keys() == {
            "listen_overflows", "listen_drops", "backlog_drops", "memory_aborts"
        }  # fmt: skip


def test_a_host_that_hides_them_has_none(tmp_path: Path) -> None:
    assert kernel.counts(tmp_path / "netstat") == {}
    (tmp_path / "netstat").write_text("TcpExt: SyncookiesSent\nTcpExt: 7\nTcpExt:\n")
    assert kernel.counts(tmp_path / "netstat") == {}
