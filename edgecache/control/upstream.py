"""Connections to origins: a bounded pool of kept-alive HTTP/1.1 connections each, and their health.

Law: one exchange has one connection; it returns to the pool only if the response ended exactly
where it said. Deadlines: connect (TLS and all), first byte, and a minimum rate afterwards; a stall
is as bad as a cut. A chunked body may be one that is still being made (a live segment): of it only
silence, for as long as a first byte may take, is a stall. Bounds: connections per origin (an
exchange beyond it waits, under its caller's deadline), idle time. An origin that fails several
times in a row is left alone for a while, then probed by one exchange (breaker). Does not know keys,
caching, retries or which origin to prefer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, cast
from urllib.parse import urlsplit

from .. import tls
from ..errors import UpstreamError
from .body import Flow
from .breaker import Breaker
from .dial import Way
from .pace import Pace
from .response import Interim, ResponseReader, Sink

_RATE_WINDOW_S: Final = 1.0
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Deadlines in seconds, rate in bytes per second (0: any, but for `silence_s`), the pool's
    bounds, and who may sign the certificates of https (None: who the system trusts)."""

    connect_s: float = 1.0
    min_rate: int = 64 * 1024
    silence_s: float = 60.0
    idle_s: float = 30.0
    connections: int = 64
    failures: int = 5
    open_s: float = 2.0
    resolve_s: float = 30.0
    ca_file: Path | None = None
    # These count as failures of the origin, not only of the resource:
    status_fails: bool = True  # a 5xx
    cut_fails: bool = True  # a connection that is closed before its response is whole


class _Connection(asyncio.Protocol):
    """One connection and at most one exchange on it."""

    def __init__(self, on_lost: Callable[[_Connection], None]) -> None:
        self._on_lost = on_lost
        self._reader: ResponseReader | None = None
        self._done: asyncio.Future[None] | None = None
        self.idle_timer: asyncio.TimerHandle | None = None
        self.unasked = False
        self.lost = False
        self._paused = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._done is None or self._done.done():
            self.unasked = True
            self.abort()
            return
        self._received += len(data)
        try:
            self._reader.feed(data)
        except Exception as error:
            self.finish(error)
        else:
            if self._reader.complete:
                self.finish(None)

    def eof_received(self) -> None:
        """It said that it has sent all: by FIN, or by close_notify, which nobody else can say."""
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._on_lost(self)
        if self._reader is None:
            return
        try:
            if not self._ended and not self._reader.complete:
                raise UpstreamError("cut", f"the connection to the origin broke: {exc or 'no end'}")
            self._reader.eof()
        except UpstreamError as error:
            self.finish(error)
        else:
            self.finish(None)

    def abort(self) -> None:
        self.transport.abort()

    def pause(self) -> None:
        """Whoever reads the body cannot keep up: its rate is not the origin's fault."""
        self._paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        self._checked = 0
        if not self.lost:
            self.transport.resume_reading()

    async def exchange(
        self, request: bytes, reader: ResponseReader, first_byte_s: float, patience: Patience
    ) -> None:
        """`first_byte_s`: how long the first byte may take; after it, `patience`."""
        if self.lost:
            raise UpstreamError("cut", "the connection was closed while idle")
        self._reader, self._done = reader, self._loop.create_future()
        self._first_byte_s, self._patience = first_byte_s, patience
        self._received = self._checked = 0
        timer = self._timer = self._loop.call_later(self._first_byte_s, self._check)
        try:
            self.transport.write(request)
            await self._done
        finally:
            timer.cancel()
            self._timer.cancel()
            self._reader = None

    def _check(self) -> None:
        assert self._reader is not None
        if not self._reader.started:
            self.finish(UpstreamError("timeout", f"no answer in {self._first_byte_s:g} s"))
            return
        window_s, enough = self._due(self._reader)
        if self._checked and not self._paused and self._received - self._checked < enough:
            self.finish(UpstreamError("slow", "the origin sends too slowly"))
        else:
            self._checked = self._received
            self._timer = self._loop.call_later(window_s, self._check)

    def _due(self, reader: ResponseReader) -> tuple[float, float]:
        """(seconds, bytes that have to come in them)"""
        if not self._patience.min_rate:
            return self._patience.silence_s, 1
        if reader.growing:
            return self._first_byte_s, 1
        return _RATE_WINDOW_S, self._patience.min_rate * _RATE_WINDOW_S

    def finish(self, error: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


class Origin:
    """One origin: its pool, breaker and counters (`<what>` or `<what>.<label>`, monotonic)."""

    parent = False  # a cache of ours (chain.py)
    slack = 1  # times the first byte that callers allow

    def __init__(self, url: str, patience: Patience) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.netloc
        self.counts: Counter[str] = Counter()
        self.breaker = Breaker(patience.failures, patience.open_s)
        self.pace = Pace()
        self._patience = patience
        safe = parts.scheme == "https"
        self._way = Way(
            parts.hostname or "",
            parts.port or (443 if safe else 80),
            tls=tls.client(patience.ca_file) if safe else None,
            resolve_s=patience.resolve_s,
        )
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._room = asyncio.Semaphore(patience.connections)

    @property
    def connections(self) -> int:
        return len(self._open)

    def describe(self) -> dict[str, object]:
        """For people."""
        return {
            "healthy": self.breaker.closed,
            "breaker": self.breaker.state(monotonic()),
            "failed_in_a_row": self.breaker.failed,
            "connections": self.connections,
            "late_after_s": self.pace.late_s,
        }

    async def get(self, request: bytes, sink: Sink, *, first_byte_s: float) -> None:
        """Send a GET and stream its response into `sink`; returns after its last byte. Raises
        UpstreamError, or what the sink raises."""
        await self.send(request, "GET", sink, first_byte_s=first_byte_s)

    async def send(
        self,
        request: bytes,
        method: str,
        sink: Sink,
        *,
        first_byte_s: float,
        flow: Callable[[Flow], None] | None = None,
        interim: Interim | None = None,
    ) -> None:
        """As get(), with any method. A kept-alive connection that the origin closed before
        answering is replaced once if the request may be repeated (RFC 9110 9.2.2); others get a
        fresh one. `flow` is told where the body's bytes will come from, `interim` of every 1xx."""
        async with self._turn():
            self.counts["requests"] += 1
            fresh = method not in _REPEATABLE
            while True:
                reader = ResponseReader(sink, head_only=method == "HEAD", interim=interim)
                connection = self._take() if not fresh else None
                fresh = connection is None
                try:
                    connection = connection or await self._connect()
                    if flow is not None:
                        flow(connection)
                    await connection.exchange(
                        request, reader, self.slack * first_byte_s, self._patience
                    )
                except BaseException as error:
                    if connection is not None:
                        connection.abort()
                    if isinstance(error, UpstreamError):
                        if error.reason == "cut" and not fresh and not reader.started:
                            fresh = True
                            continue
                        self._failed(error, reader.status)
                    raise
                if fresh:
                    self._way.remember(connection.transport)
                self._give_back(connection, reader)
                if self._lives(reader.status):
                    self.breaker.success()
                else:
                    self._failed(UpstreamError("status_5xx"), reader.status)
                return

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One exchange, once there is room for it."""
        async with self._room:
            yield

    def _lives(self, status: int) -> bool:
        """503 is the answer of one that does: a playlist held in vain (RFC 8216bis 6.2.5.2) says
        nothing about the origin's other streams."""
        return status < 500 or status == 503 or not self._patience.status_fails

    def _failed(self, error: UpstreamError, status: int) -> None:
        """`status`: of the answer, 0 for none; one that only says no counts against nobody."""
        self.counts[f"failures.{error.reason}"] += 1
        if error.reason == "cut" and not self._patience.cut_fails:
            return
        if status in (0, 200, 206) or not self._lives(status):
            self.breaker.failure(monotonic())
        else:
            self.breaker.success()

    def abandon(self, reason: str) -> None:
        """End what is under way as failed."""
        for connection in tuple(self._open):
            connection.finish(UpstreamError(reason, f"{self.url} does not answer"))

    async def close(self) -> None:
        """Abort everything; exchanges in flight end as cut."""
        self._way.close()
        for connection in tuple(self._open):
            connection.abort()

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._patience.connect_s):
                connection = await self._way.connect(lambda: _Connection(self._lost))
        except TimeoutError:
            raise UpstreamError("connect_timeout", f"no connection to {self.url}") from None
        except OSError as error:
            raise UpstreamError("refused", f"no connection to {self.url}: {error}") from None
        self._open.add(connection)
        self.counts["connections"] += 1
        return connection

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_timer:
                connection.idle_timer.cancel()
            if not connection.lost:
                return connection
        return None

    def _give_back(self, connection: _Connection, reader: ResponseReader) -> None:
        if reader.extra:
            self.counts["failures.extra_bytes"] += 1
        if reader.extra or not reader.keep_alive or connection.lost or not self._patience.idle_s:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_timer = loop.call_later(self._patience.idle_s, connection.abort)
        self._idle.append(connection)

    def _lost(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if connection.unasked:
            self.counts["failures.extra_bytes"] += 1
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)


class Upstreams:
    """The configured origins, in order of preference. Several that share `known` share the origins
    that they both name."""

    def __init__(
        self, urls: Sequence[str], patience: Patience, known: dict[str, Origin] | None = None
    ) -> None:
        self._patience = patience
        self._known = {} if known is None else known
        self.origins: tuple[Origin, ...] = ()
        self.replace(urls)

    def replace(self, urls: Sequence[str]) -> None:
        """Known origins keep pool and health; a removed one closes as its exchanges end."""
        for url in urls:
            if url not in self._known:
                self._known[url] = Origin(url, self._patience)
        self.origins = tuple(self._known[url] for url in urls)

    def pick(self, avoid: Collection[Origin] = ()) -> Origin | None:
        """The first origin that is healthy and not to be avoided, those that are shy behind the
        others; None when there is none."""
        now = monotonic()
        ordered = sorted(self.origins, key=lambda origin: origin.breaker.shy(now))
        return next(
            (origin for origin in ordered if origin not in avoid and origin.breaker.allow(now)),
            None,
        )

    async def close(self) -> None:
        for origin in self.origins:
            await origin.close()
