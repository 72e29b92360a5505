"""A small HTTP/1.1 server for our own doors (push, admin). Never faces viewers.

Law: one connection's requests are answered in order, one at a time, whatever arrives first. Bounds:
queued requests and body bytes (reading pauses), connections (closed at once), and a deadline for
each state of a connection (closed). Does not know what requests mean, nor who may send them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final, cast

from .http1 import Admit, Asked, Limits, Reader, Request, Response, refusal, render

log = logging.getLogger(__name__)

_LINGER_S: Final = 1.0
_QUEUE_MAX: Final = 64  # requests read but not answered; then reading pauses

Handler = Callable[[Request], Awaitable[Response]]


class _Connection(asyncio.Protocol):
    """One peer: reads into a queue, answers from it in order."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._limits = door.limits
        self._reader = Reader(door.limits, door.admit)
        self._queue: deque[Asked] = deque()
        self._queued_bytes = 0
        self._wakeup = asyncio.Event()
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._eof = asyncio.Event()
        self._last = False  # nothing more is read; closes once the queue is answered
        self._busy = False
        self.why = "done"  # it closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer = self._loop.call_later(self._patience(), self._tick)
        self._task = self._loop.create_task(self._answer_all())
        if not self._door.enter(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        self._door.leave(self)
        self._timer.cancel()
        self._task.cancel()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def eof_received(self) -> bool:
        self._last = True
        self._eof.set()
        self._wakeup.set()
        return True  # half-closed: what was asked is answered first

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        before = self._reader.state
        for item in self._reader.feed(data):
            self._queue.append(item)
            self._queued_bytes += len(item.request.body) if item.request else 0
            self._last = self._last or not item.keep_alive
        if self._reader.state == "body" or self._reader.state != before:
            self._since = self._loop.time()
        if self._reader.state != before:  # whose time may be shorter
            self._timer.cancel()
            self._timer = self._loop.call_later(self._patience(), self._tick)
        if self._queue:
            self._wakeup.set()
        if self._crowded() or self._last:
            self._transport.pause_reading()

    def drain(self) -> None:
        """Answer what has arrived, then close."""
        self._last = True
        self._wakeup.set()

    def abort(self) -> None:
        self._transport.abort()

    def _crowded(self) -> bool:
        return len(self._queue) >= _QUEUE_MAX or self._queued_bytes > self._limits.queue_bytes

    def _patience(self) -> float:
        state = self._reader.state
        limits = self._limits
        return {"head": limits.head_s, "body": limits.body_s}.get(state, limits.idle_s)

    def _tick(self) -> None:
        """One timer a connection, lazy within a state: looks again when it would run out."""
        waiting = self._busy or self._queue or self._last
        left = self._since + self._patience() - self._loop.time()
        if not waiting and left <= 0:
            self.why = f"{self._reader.state}_timeout"
            self._transport.abort()
            return
        self._timer = self._loop.call_later(left if left > 0 else 0.5, self._tick)

    async def _answer_all(self) -> None:
        try:
            while await self._next_asked():
                if not await self._answer(self._queue.popleft()):
                    break
        except TimeoutError:
            self.why = "write_timeout"
            self._transport.abort()
        self._transport.close()

    async def _next_asked(self) -> bool:
        while not self._queue:
            if self._last:
                return False
            self._wakeup.clear()
            await self._wakeup.wait()
        return True

    async def _answer(self, item: Asked) -> bool:
        """False: that was the last one."""
        self._queued_bytes -= len(item.request.body) if item.request else 0
        self._busy = True
        response = item.response or await self._handle(item.request)
        self._busy = False
        self._since = self._loop.time()
        last = response.close or (not self._queue and self._last)
        head_only = item.request is not None and item.request.method == "HEAD"
        self._door.counts[f"answers.{response.status}"] += 1
        self._transport.write(render(response, head_only=head_only, close=last))
        async with asyncio.timeout(self._limits.body_s):
            await self._can_write.wait()
        if last and item.request is None:
            await self._linger()
        elif not self._last and not self._crowded():
            self._transport.resume_reading()
        return not last

    async def _linger(self) -> None:
        """Closing with unread bytes would reset the connection and lose the answer on its way."""
        self._last = True
        self._transport.write_eof()
        self._transport.resume_reading()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._eof.wait()

    async def _handle(self, request: Request | None) -> Response:
        assert request is not None
        try:
            return await self._door.handler(request)
        except Exception:
            log.exception("a request to the %s door failed", self._door.name)
            return refusal(500, "internal error", close=True)


class Door:
    """One listening socket and its connections. `counts` is monotonic: `<what>.<label>`; accepted =
    closed + connections."""

    def __init__(
        self, name: str, handler: Handler, *, limits: Limits, admit: Admit | None = None
    ) -> None:
        self.name = name
        self.handler = handler
        self.limits = limits
        self.admit = admit
        self.counts: Counter[str] = Counter()
        self._connections: set[_Connection] = set()
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, listener: socket.socket) -> None:
        """Accept from a bound socket until close()."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), sock=listener)

    def enter(self, connection: _Connection) -> bool:
        self.counts["accepted"] += 1
        if len(self._connections) >= self.limits.connections:
            connection.why = "crowded"
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self.counts[f"closed.{connection.why}"] += 1
        if not self._connections:
            self._empty.set()

    async def close(self, deadline_s: float) -> None:
        """Stop accepting, answer what has arrived, then cut what is left after `deadline_s`."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.drain()
        self._empty.clear()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    await self._empty.wait()
        for connection in tuple(self._connections):
            connection.abort()
