"""A log whose reader stands still, as a journal does that is stopped: nobody waits for it."""

from __future__ import annotations

import fcntl
import json
import signal
import threading
from dataclasses import dataclass, field
from typing import Self

import pytest

from tests.running import LIMIT_S, Edge, ScriptedOrigin, ok, read_all

pytestmark = pytest.mark.timeout(60)

LONG = "long" * 50
DROPPED = "edge_log_lines_dropped_total"


@dataclass
class Unread(Edge):
    """Its stderr is a small pipe, which is read while `reading` is set."""

    reading: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.reading.set()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        self.reading.set()
        super().__exit__()

    def _read(self) -> None:
        assert self.process.stderr is not None
        fcntl.fcntl(self.process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        for line in self.process.stderr:
            self.lines.append(line)
            self._fresh.put(line)
            assert self.reading.wait(4 * LIMIT_S)

    def deafen(self) -> None:
        """Stop reading, and go on asking until lines are lost."""
        self.reading.clear()
        before = self.metrics()[DROPPED]
        with self.raw() as viewer:
            viewer.sendall(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % LONG.encode() * 4_000)
            viewer.sendall(b"GET /nobody-has-it HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            read_all(viewer)
        while self.metrics()[DROPPED] == before:
            threading.Event().wait(0.01)


def test_nobody_waits_for_who_reads_the_log(origin: ScriptedOrigin) -> None:
    """Battery H4: hits, misses, the operators' door and signals go on. When it is read again, the
    lines and those that are said to be missing are all that there were."""
    for path in (LONG, "miss", "last"):
        origin.says(f"/{path}", ok(b"body", "Cache-Control: max-age=600"))
    with Unread(("log.access=true", f"origin.urls={origin.url}")) as edge:
        assert edge.get(f"/{LONG}").body == b"body"
        edge.deafen()
        assert edge.get(f"/{LONG}").body == b"body"
        assert edge.get("/miss").body == b"body"
        edge.process.send_signal(signal.SIGHUP)
        edge.settled("edge_reloads_applied", 1)

        edge.reading.set()
        edge.logged("log lines dropped")
        assert edge.get("/last").body == b"body"
        edge.logged("GET /last")
        records = [json.loads(line) for line in edge.lines]
        seen = sum(record["message"].startswith("GET /") for record in records)
        lost = sum(record.get("lines", 0) for record in records)
        counts = edge.metrics()
        assert counts[DROPPED] == lost > 0
        reloaded = any(record["message"] == "reloaded" for record in records)
        assert seen + lost == counts["edge_requests_total"] + (not reloaded)

        edge.deafen()
        assert edge.stop() == 0
