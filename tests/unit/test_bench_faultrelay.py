"""The relay of faults: what passes, what does not, and how it ends, seen from both ends."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from bench.faultrelay import Fault, Relay, Then

LIMIT_S = 10.0
BODY = bytes(range(256)) * 400


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(LIMIT_S)
        yield made


@pytest.fixture
def relay(listener: socket.socket) -> Iterator[Relay]:
    with Relay(f"127.0.0.1:{listener.getsockname()[1]}") as made:
        yield made


class Ends:
    """Both ends of one connection through the relay."""

    def __init__(self, relay: Relay, listener: socket.socket) -> None:
        host, _, port = relay.address.rpartition(":")
        self.client = socket.create_connection((host, int(port)), timeout=LIMIT_S)
        self.server, _ = listener.accept()
        self.server.settimeout(LIMIT_S)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def ends(relay: Relay, listener: socket.socket) -> Iterator[Ends]:
    made = Ends(relay, listener)
    yield made
    made.close()


def send(sock: socket.socket, data: bytes) -> threading.Thread:
    """From a thread of its own; the peer may be gone before all is sent."""

    def run() -> None:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def received(sock: socket.socket) -> tuple[bytes, str]:
    """(bytes, how it ended: "end" or "reset")."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        return data, "reset"
    return data, "end"


def data_segments(sock: socket.socket) -> int:
    """How many came in: what one recv returns depends on how late it is."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    return int.from_bytes(info[152:156], sys.byteorder)  # linux/tcp.h: tcpi_data_segs_in


def test_both_ways_and_the_end_pass(ends: Ends) -> None:
    for source, sink in ((ends.client, ends.server), (ends.server, ends.client)):
        thread = send(source, BODY)
        assert received(sink) == (BODY, "end")
        thread.join(LIMIT_S)


def test_one_byte_at_a_time(relay: Relay, ends: Ends) -> None:
    relay.set(up=Fault(piece=1))
    thread = send(ends.client, BODY[:12_000])
    assert received(ends.server) == (BODY[:12_000], "end")
    thread.join(LIMIT_S)
    # a busy kernel sends some together: 54 segments of 3,000 bytes were seen; unfaulted it is one
    assert data_segments(ends.server) > 100


def test_latency_and_rate_take_their_time(relay: Relay, ends: Ends) -> None:
    relay.set(up=Fault(latency_s=0.05))
    began = time.monotonic()
    ends.client.sendall(b"a")
    assert ends.server.recv(9) == b"a"
    assert time.monotonic() - began >= 0.05
    relay.set(up=Fault(rate=20_000, piece=200))
    began = time.monotonic()
    thread = send(ends.client, BODY[:2000])
    assert received(ends.server)[0] == BODY[:2000]
    thread.join(LIMIT_S)
    assert time.monotonic() - began >= 0.09


@pytest.mark.parametrize(
    ("then", "how"), [("cut", "end"), ("reset", "reset"), ("half_close", "end")]
)
def test_an_end_after_so_many_bytes(relay: Relay, ends: Ends, then: Then, how: str) -> None:
    relay.set(down=Fault(after=1000, then=then))
    thread = send(ends.server, BODY)
    assert received(ends.client) == (BODY[:1000], how)
    thread.join(LIMIT_S)
    assert relay.struck == {then: 1}
    if then == "half_close":
        thread = send(ends.client, BODY)
        assert received(ends.server) == (BODY, "end")
        thread.join(LIMIT_S)


def test_one_bit_is_flipped_once(relay: Relay, ends: Ends) -> None:
    relay.set(up=Fault(after=70_000, then="corrupt"))
    thread = send(ends.client, BODY)
    data, _ = received(ends.server)
    thread.join(LIMIT_S)
    wrong = [at for at, (was, now) in enumerate(zip(BODY, data, strict=True)) if was != now]
    assert wrong == [70_000]
    assert BODY[70_000] ^ data[70_000] == 1


def test_a_stall_ends_with_the_fault(relay: Relay, ends: Ends) -> None:
    relay.set(up=Fault(after=10, then="stall"))
    thread = send(ends.client, BODY[:500])
    data = b""
    while len(data) < 10:
        data += ends.server.recv(500)
    ends.server.settimeout(0.05)
    with pytest.raises(TimeoutError):
        ends.server.recv(1)
    ends.server.settimeout(LIMIT_S)
    relay.set()
    assert data + received(ends.server)[0] == BODY[:500]
    thread.join(LIMIT_S)


def test_it_strikes_so_many_connections(relay: Relay, listener: socket.socket) -> None:
    relay.set(up=Fault(then="reset", times=2))
    how = []
    for _ in range(3):
        ends = Ends(relay, listener)
        ends.client.sendall(b"x")
        with contextlib.suppress(OSError):  # it may have been struck already
            ends.client.shutdown(socket.SHUT_WR)
        how.append(received(ends.server))
        ends.close()
    assert how == [(b"", "reset"), (b"", "reset"), (b"x", "end")]
    assert relay.connections == 3


def test_nobody_behind_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with Relay(address) as relay:
        host, _, port = relay.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=LIMIT_S) as client:
            assert received(client)[0] == b""
