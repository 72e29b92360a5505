"""LL-DASH from pushed and pulled parts: a whole segment leaves the POP while it is made, to any
number of viewers, from the same bytes as its parts, and costs the origin nothing."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.running import Edge, ScriptedOrigin, ask, read_head
from tests.system.test_40_push_receiver import digest, object_fields

pytestmark = pytest.mark.timeout(60)

PARTS = [os.urandom(60_000) for _ in range(6)]
WHOLE = b"".join(PARTS)
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"


class Follower:
    """A viewer that takes a chunked body as it comes."""

    def __init__(self, edge: Edge, path: str) -> None:
        self.sock = edge.raw()
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self.head = b""
        self._rest = b""
        self.body = b""

    def begin(self) -> None:
        self.head, self._rest = read_head(self.sock)
        self._decode()

    def take(self) -> None:
        """What arrived, chunk framing removed."""
        self._rest += self.sock.recv(1 << 18)
        self._decode()

    def _decode(self) -> None:
        while b"\r\n" in self._rest:
            size_line, _, rest = self._rest.partition(b"\r\n")
            size = int(size_line, 16)
            if len(rest) < size + 2:
                return
            self.body += rest[:size]
            self._rest = rest[size + 2 :]


def push_part(edge: Edge, track: str, msn: int, index: int) -> None:
    fields = object_fields(PARTS[index])
    fields |= {"Edge-Segment": f"{track}/{msn}.m4s", "Edge-Offset": str(60_000 * index)}
    if index == len(PARTS) - 1:
        fields |= {"Edge-Final": "1", "Edge-Segment-Digest": digest(WHOLE)}
    assert edge.put(f"{track}/{msn}.{index}.m4s", PARTS[index], fields).status == 201


def all_have(followers: list[Follower], size: int, since: float) -> list[float]:
    """Wait until each has `size` bytes; seconds after `since` at which each had."""
    waiting = {f.sock: f for f in followers if len(f.body) < size}
    lags = [time.monotonic() - since] * (len(followers) - len(waiting))
    while waiting:
        ready, _, _ = select.select(list(waiting), [], [], 10)
        assert ready, "a part did not reach everybody"
        for sock in ready:
            waiting[sock].take()
            if len(waiting[sock].body) >= size:
                lags.append(time.monotonic() - since)
                del waiting[sock]
    return lags


@pytest.fixture(scope="module")
def patient(origin: ScriptedOrigin) -> Iterator[Edge]:
    """A POP that waits for pushes for longer than a loaded machine may take to open connections."""
    options = (f"origin.urls={origin.url}", "origin.push_wait=10s", "http.workers=2")
    with Edge(options) as daemon:
        yield daemon
        assert daemon.stop() == 0


def state(edge: Edge) -> Any:
    """What it knows now; /metrics may be a second old."""
    return json.loads(ask(edge.admin, "GET", "/state", {}).body)


def await_parked(edge: Edge, number: int) -> None:
    deadline = time.monotonic() + 10
    while sum(worker["parked_now"] for worker in state(edge)["workers"]) != number:
        assert time.monotonic() < deadline


@pytest.fixture
def close_all() -> Iterator[list[Follower]]:
    opened: list[Follower] = []
    yield opened
    for follower in opened:
        follower.sock.close()


def test_a_segment_leaves_chunk_by_chunk_while_it_is_pushed(
    patient: Edge, origin: ScriptedOrigin, close_all: list[Follower], measured: Callable[..., None]
) -> None:
    """Who asks for 1042 before its first part is held like a hint; then every part reaches all of
    100 viewers within milliseconds of its push. In memory the segment is there once."""
    edge, track = patient, "/live/grow/t0/360p"
    for index in range(len(PARTS)):
        push_part(edge, track, 1041, index)
    before = state(edge)["store"]["store_bytes_now"]
    segment = f"{track}/1042.m4s"
    close_all += [Follower(edge, segment) for _ in range(100)]
    await_parked(edge, 100)
    lags: list[float] = []
    for index in range(len(PARTS)):
        started = time.monotonic()
        push_part(edge, track, 1042, index)
        if not index:
            for follower in close_all:
                follower.begin()
        lags += all_have(close_all, 60_000 * (index + 1), started)
        assert edge.get(f"{track}/1042.{index}.m4s").body == PARTS[index]
    assert {follower.body for follower in close_all} == {WHOLE}
    assert b"Transfer-Encoding: chunked" in close_all[0].head
    assert edge.get(segment).body == WHOLE
    taken = state(edge)["store"]["store_bytes_now"] - before
    assert len(WHOLE) <= taken < len(WHOLE) + 32_768, "one copy, and the heads of its parts"
    assert [a.target for a in origin.asked if a.target.startswith(track)] == []
    lags.sort()
    measured(
        viewers=100, p50_ms=f"{lags[len(lags) // 2] * 1e3:.1f}", last_ms=f"{lags[-1] * 1e3:.1f}",
        segment_bytes=len(WHOLE), store_bytes=taken,
    )  # fmt: skip
    assert lags[len(lags) // 2] < 0.25, "a whole second late would be a wait for the segment"


def test_a_segment_leaves_while_it_is_filled(
    edge: Edge, origin: ScriptedOrigin, close_all: list[Follower]
) -> None:
    """One fill for all, each chunk of the origin reaches them before the next one is made, and a
    slow encoder (under origin.min_rate) is no stall."""
    go = [threading.Event() for _ in PARTS]
    steps: list[bytes | threading.Event] = [CHUNKED]
    for event, part in zip(go, PARTS, strict=True):
        steps += [event, b"%x\r\n%b\r\n" % (len(part), part)]
    origin.says("/pulled/7.m4s", *steps, b"0\r\n\r\n")
    close_all += [Follower(edge, "/pulled/7.m4s") for _ in range(20)]
    for index, event in enumerate(go):
        event.set()
        if not index:
            for follower in close_all:
                follower.begin()
        all_have(close_all, 60_000 * (index + 1), time.monotonic())
    assert {follower.body for follower in close_all} == {WHOLE}
    assert origin.count("/pulled/7.m4s") == 1
    assert edge.get("/pulled/7.m4s").body == WHOLE


def test_what_was_asked_for_too_early_is_asked_for_at_the_origin(
    edge: Edge, origin: ScriptedOrigin
) -> None:
    """The hold is bounded: a push that does not come is pulled after origin.push_wait."""
    track = "/live/early/t0/360p"
    push_part(edge, track, 7, 0)
    started = time.monotonic()
    assert edge.get(f"{track}/8.m4s").status == 404
    assert 0.9 < time.monotonic() - started < 5
    assert origin.count(f"{track}/8.m4s") == 1


def silent(sock: socket.socket) -> bool:
    return not select.select([sock], [], [], 0.05)[0]


def test_a_part_is_all_or_nothing_beside_its_growing_segment(patient: Edge) -> None:
    """RFC 8216bis 6.2.6: of the hinted part nothing is sent before its push was whole."""
    edge, track = patient, "/live/hint/t0/360p"
    push_part(edge, track, 7, 0)
    hint = edge.raw()
    hint.sendall(f"GET {track}/7.1.m4s HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await_parked(edge, 1)
    assert silent(hint)
    push_part(edge, track, 7, 1)
    head, body = read_head(hint)
    assert b"Content-Length: 60000" in head
    while len(body) < 60_000:
        body += hint.recv(1 << 18)
    assert body == PARTS[1]
    hint.close()
