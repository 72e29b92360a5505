"""The broadcasters' door: RTMP ends here, media goes on as FLV tags to the stream's data centre.

Laws: a publisher is admitted by stream key and told in words why it is not; keys are never logged.
Bounds: publishers at once (beyond: `full`), time to publish, silence, what a publisher leaves
unread (it is cut), and what is buffered towards the data centre (reading pauses). accepted =
publishers + closed.*; tags = held + held.*; every refusal is counted in rejected.*. Decodes no
media.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, cast

from ..config import Ingest as Config
from ..containers import FLV, TagReader
from ..flv import Tag
from ..rtmp import Ended, Event, PublishRequested, RtmpError, Session
from . import relay
from .admission import Admission, RefusedError, SignFields
from .relay import Relay
from .tlsdoor import Certificate, TlsDoor

log = logging.getLogger(__name__)

_LINGER_S: Final = 1.0  # for a publisher to read why; closing at once could reset the answer away
_UNREAD_BYTES: Final = 64 << 10
_NOTHING_TO_READ: Final = frozenset(("protocol", "ended", "gone", "full", "deadline"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    publishers: int = 256
    publish_s: float = 10.0  # from connect to publish, handshake included
    idle_s: float = 15.0
    relay: relay.Limits = field(default_factory=relay.Limits)


def limits_of(config: Config) -> Limits:
    return Limits(
        relay=relay.Limits(
            hold_bytes=config.hold_bytes,
            hold_s=config.hold / 1000,
            silence_s=config.silence / 1000,
            move_s=config.move / 1000,
            away_s=config.away / 1000,
        )
    )


class IngestRouter:
    """await start(listener), then drain() (no new publishers) and stop()."""

    def __init__(
        self, *, admission: Admission, sign: SignFields, limits: Limits | None = None
    ) -> None:
        self.admission = admission
        self.sign = sign
        self.limits = limits or Limits()
        # accepted, closed.<reason>, rejected.<reason>, bytes_in, bytes_out, reconnects, tags
        self.counts: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._tls = TlsDoor(lambda: _Publisher(self), self.counts)
        self._publishers: set[_Publisher] = set()

    @property
    def publishers(self) -> int:
        """Connections open now."""
        return len(self._publishers)

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket, which becomes ours."""
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: _Publisher(self), sock=listener))

    def start_tls(self, listener: socket.socket, certificate: Certificate) -> None:
        """The same behind TLS."""
        self._tls.start(listener, certificate)

    def drain(self) -> None:
        """Take no more publishers; those that are on go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._tls.close()

    async def stop(self) -> None:
        """Tell every publisher, finish their PUTs, close. Bounded by the relay's finish_s."""
        self.drain()
        await self._tls.stop()
        publishers = tuple(self._publishers)
        for publisher in publishers:
            publisher.end("stopped", "this server is going away")
        await asyncio.gather(*(publisher.gone.wait() for publisher in publishers))

    def enter(self, publisher: _Publisher) -> None:
        self.counts["accepted"] += 1
        self._publishers.add(publisher)

    def leave(self, publisher: _Publisher, reason: str) -> None:
        self.counts[f"closed.{reason}"] += 1
        self._publishers.discard(publisher)


class _Publisher(asyncio.Protocol):
    """One connection. Its life is one task from `publish` on: admit, relay, finish."""

    def __init__(self, router: IngestRouter) -> None:
        self._router = router
        self._limits = router.limits
        self._counts = router.counts
        self._session = Session()
        self._reader = TagReader()
        self._relay: Relay | None = None
        self._task: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._reason = ""  # why it ends; set once
        self._heard = False
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(high=_UNREAD_BYTES)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        self._timer = self._loop.call_later(self._limits.publish_s, self._late)
        self._router.enter(self)
        if self._router.publishers > self._limits.publishers:
            self._counts["rejected.full"] += 1
            self.end("full")

    def data_received(self, data: bytes) -> None:
        # A publisher with Nagle on waits for our delayed ACK: +130 ms (media.md 5.1). One-shot
        # option.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._counts["bytes_in"] += len(data)
        self._heard = True
        if self._reason:
            return
        try:
            events = self._session.feed(data)
        except RtmpError as error:
            log.info("not RTMP", extra={"addr": self._address, "why": str(error)})
            self._counts["rejected.protocol"] += 1
            self.end("protocol")
            return
        self._flush()
        self._handle(events)

    def pause_writing(self) -> None:
        """It does not read what we say: nothing that a publisher does."""
        self.end("unread")
        self._transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.end("gone")
        self._timer.cancel()
        if self._task is None:
            self._left()

    def end(self, reason: str, message: str = "") -> None:
        """Begin to end, once. `message` is shown to the publisher, who gets a moment to read it."""
        if self._reason:
            return
        self._reason = reason
        if message and not self._transport.is_closing():
            self._session.fail(message)
            self._flush()
        self._resume()
        self._timer.cancel()
        self._timer = self._loop.call_later(_LINGER_S, self._transport.abort)
        if reason in _NOTHING_TO_READ:
            self._transport.close()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _left(self) -> None:
        self._router.leave(self, self._reason)
        self.gone.set()

    def _flush(self) -> None:
        if out := self._session.take_output():
            self._transport.write(out)

    def _late(self) -> None:
        self._counts["rejected.deadline"] += 1
        self.end("deadline")

    def _handle(self, events: list[Event]) -> None:
        tags: list[Tag] = []
        ended = False
        for event in events:
            if isinstance(event, Tag):
                tags.append(event)
            elif isinstance(event, PublishRequested):
                self._timer.cancel()
                self._transport.pause_reading()  # until admitted
                self._task = self._loop.create_task(self._live(event.key))
            elif isinstance(event, Ended):
                ended = True
        if tags and self._relay is not None:
            self._counts["tags"] += len(tags)
            self._relay.feed([self._reader.piece(tag) for tag in tags])
        if ended:
            self.end("ended")

    async def _live(self, key: str) -> None:
        try:
            self._relay = await self._admit(key)
            if self._relay is None:
                return
            assert self._over is not None
            await self._over
            await self._relay.close()
        finally:
            if not self._transport.is_closing():
                # Rejected or failed: let it read why, then it is over.
                await asyncio.sleep(_LINGER_S)
                self._transport.abort()
            self._left()

    async def _admit(self, key: str) -> Relay | None:
        """The opened relay of an accepted publisher; None if it was turned away or is gone."""
        relay_: Relay | None = None
        try:
            admitted = await self._router.admission.ask(key, self._address)
            relay_ = Relay(
                admitted,
                header=self._reader.header,
                fields=(("Content-Type", FLV),),
                ways=self._router.admission.ways,
                sign=self._router.sign,
                limits=self._limits.relay,
                counts=self._counts,
                on_pause=self._paused,
                on_failed=self._failed,
            )
            await relay_.open()
        except RefusedError as error:
            self._reject(error)
            return None
        if self._reason:  # it left meanwhile
            await relay_.close()
            return None
        log.info("publisher on", extra={"stream": admitted.stream, "addr": self._address})
        self._session.accept()
        self._flush()
        self._heard = True
        self._listen()
        self._resume()
        return relay_

    def _reject(self, error: RefusedError) -> None:
        self._counts[f"rejected.{error.reason}"] += 1
        log.warning("publisher rejected", extra={"addr": self._address, "reason": error.reason})
        if not self._reason:
            self._session.reject(str(error))
            self._flush()
        self.end("rejected")

    def _failed(self, error: RefusedError) -> None:
        """The relay gave up in mid-stream."""
        self._counts[f"rejected.{error.reason}"] += 1
        self.end("failed", str(error))

    def _listen(self) -> None:
        """Deadline for silence, checked twice as often; a pause that we asked for is not
        silence."""
        if not self._heard and self._transport.is_reading():
            self._counts["rejected.silent"] += 1
            self.end("silent", f"nothing was sent for {self._limits.idle_s:g} s")
            return
        self._heard = False
        self._timer = self._loop.call_later(self._limits.idle_s, self._listen)

    def _paused(self, paused: bool) -> None:
        if paused:
            self._transport.pause_reading()
        else:
            self._resume()

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
