"""A TCP relay that misbehaves as it is told: what stands between a server and its peers in tests of
faults. No packet filter, no root, no other program.

Laws. Bytes pass in order and unchanged but for what a Fault says. Each direction has its own Fault,
read before every piece, so a change takes effect on open connections too. `then` strikes where
`after` bytes of its direction have passed on a connection, on `times` connections in all. Runs in a
thread of its own; every buffer is bounded (64 reads), so a stalled receiver stalls its sender.
Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final, Literal, Self

import uvloop

_READ: Final = 65536
_GRAIN_S: Final = 0.002
_QUEUE: Final = 64
_START_S: Final = 10.0
Then = Literal["", "cut", "reset", "stall", "half_close", "corrupt"]
Direction = Literal["up", "down"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Of one direction. `piece`: bytes a write at most; `rate`: bytes a second; 0: no limit.
    `then`: "cut" closes both ends in order, "reset" with RST, "stall" passes nothing more until the
    fault is changed, "half_close" ends this direction alone, "corrupt" flips one bit and goes on.
    `times`: on so many connections, the first ones; -1: on all."""

    latency_s: float = 0.0
    rate: int = 0
    piece: int = 0
    after: int = 0
    then: Then = ""
    times: int = -1


CLEAN: Final = Fault()


class _Broken(Exception):  # noqa: N818 - an end that was ordered
    """The connection is over, because the fault says so."""


class Relay:
    """`with Relay("127.0.0.1:80") as relay:` peers connect to `relay.address`. `up` is from whoever
    connects to the target, `down` back. `struck` counts what `then` did."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.struck: Counter[str] = Counter()
        self.connections = 0
        self._faults: dict[Direction, Fault] = {"up": CLEAN, "down": CLEAN}
        self._left: dict[Direction, int] = {"up": 0, "down": 0}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop, self._changed = asyncio.Event(), asyncio.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), name="faultrelay")

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(_START_S):
            raise TimeoutError("the relay did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_S)

    def set(self, *, up: Fault = CLEAN, down: Fault = CLEAN) -> None:
        """Both directions, from now on. Returns once it holds. Not from the relay's own thread."""
        done = threading.Event()

        def change() -> None:
            self._faults = {"up": up, "down": down}
            self._left = {"up": up.times, "down": down.times}
            self._changed.set()
            self._changed = asyncio.Event()
            done.set()

        self._loop.call_soon_threadsafe(change)
        if not done.wait(_START_S):
            raise TimeoutError("the relay hangs")

    # -- its own thread

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        accepting = self._loop.create_task(self._accept())
        self._started.set()
        await self._stop.wait()
        tasks = [accepting, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            self.connections += 1
            task = self._loop.create_task(self._relay(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, client: socket.socket) -> None:
        host, _, port = self.target.rpartition(":")
        server = socket.socket()
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.sock_connect(server, (host, int(port)))
            await _together(
                _Pump(self, "up", client, server).run(), _Pump(self, "down", server, client).run()
            )
        except (OSError, _Broken):
            pass  # of one end, or ordered: the other is closed with it
        finally:
            client.close()
            server.close()


async def _until(due_s: float) -> None:
    """`due_s`: monotonic. Never early, as timers of uvloop are, which go by whole milliseconds."""
    await asyncio.sleep(due_s - time.monotonic() + _GRAIN_S)


async def _together(*work: Coroutine[object, object, None]) -> None:
    """Until all are done; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Pump:
    """One direction of one connection."""

    def __init__(
        self, relay: Relay, direction: Direction, source: socket.socket, sink: socket.socket
    ) -> None:
        self._relay = relay
        self._direction = direction
        self._source = source
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)
        self._passed = 0
        self._hit: Fault | None = None  # what has struck here

    async def run(self) -> None:
        await _together(self._read(), self._write())

    async def _read(self) -> None:
        while True:
            data = await self._loop.sock_recv(self._source, _READ)
            await self._queue.put((time.monotonic(), data))
            if not data:
                return

    async def _write(self) -> None:
        while True:
            at_s, data = await self._queue.get()
            if self._fault.latency_s:
                await _until(at_s + self._fault.latency_s)
            if not data:
                with contextlib.suppress(OSError):  # it may be gone altogether
                    self._sink.shutdown(socket.SHUT_WR)
                return
            while data:
                data = await self._pass(data)

    @property
    def _fault(self) -> Fault:
        return self._relay._faults[self._direction]

    async def _pass(self, data: bytes) -> bytes:
        """Some of it; what is left of it."""
        fault = self._fault
        size = min(len(data), fault.piece or len(data))
        if self._strikes(fault):
            before = fault.after - self._passed
            if before <= 0:
                return await self._strike(fault, data)
            size = min(size, before)
        began_s = time.monotonic()
        await self._loop.sock_sendall(self._sink, data[:size])
        self._passed += size
        if fault.piece:
            await asyncio.sleep(0)
        if fault.rate:
            await _until(began_s + size / fault.rate)
        return data[size:]

    def _strikes(self, fault: Fault) -> bool:
        spent = self._hit is fault or self._relay._left[self._direction] == 0
        return bool(fault.then) and not spent

    async def _strike(self, fault: Fault, data: bytes) -> bytes:
        self._hit = fault
        self._relay._left[self._direction] -= 1
        self._relay.struck[fault.then] += 1
        if fault.then == "corrupt":
            return bytes([data[0] ^ 1]) + data[1:]
        if fault.then == "stall":
            await self._relay._changed.wait()
            return data
        if fault.then == "half_close":
            self._sink.shutdown(socket.SHUT_WR)
            while (await self._queue.get())[1]:
                pass
            return b""
        if fault.then == "reset":
            for end in (self._sink, self._source):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Broken
