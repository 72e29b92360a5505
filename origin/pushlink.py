"""One kept-alive, pipelined HTTP/1.1 connection to a POP's push door.

Laws: requests are answered in order, so the answer belongs to the oldest request on the wire; an
answer nobody asked for, a broken one, or one that closes ends the connection. Bounds: requests on
the wire, bytes in the transport (writing pauses), bytes of an answer; the owner looks at
`stalled_s` and aborts. Does not know what it sends, nor what happens when the connection is lost.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

import httptools

from .pushqueue import Item

_WRITE_HIGH: Final = 256 * 1024
_ANSWER_MAX: Final = 64 * 1024  # bytes of one answer, head and body


class Link(asyncio.Protocol):
    """`on_answer(item, status)` for each answer, `on_room()` when more may be sent. `closed` is
    done when the connection is; `on_wire` then holds what was not answered."""

    def __init__(
        self,
        *,
        pipeline: int,
        on_answer: Callable[[Item, int], None],
        on_room: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.on_wire: deque[Item] = deque()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._now = loop.time
        self._pipeline = pipeline
        self._on_answer = on_answer
        self._on_room = on_room
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._paused = False
        self._answer_bytes = 0
        self._progress_s = 0.0

    @property
    def room(self) -> bool:
        """May another request be sent now?"""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and not self._paused
            and len(self.on_wire) < self._pipeline
        )

    @property
    def stalled_s(self) -> float:
        """How long the oldest request waits without anything having been answered."""
        return self._now() - self._progress_s if self.on_wire else 0.0

    def send(self, item: Item, head: bytes, body: Sequence[bytes]) -> None:
        assert self._transport is not None
        if not self.on_wire:
            self._progress_s = self._now()
        self.on_wire.append(item)
        self._transport.writelines([head, *body])

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport by class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._on_room()

    def data_received(self, data: bytes) -> None:
        self._answer_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
        if self._answer_bytes > _ANSWER_MAX:
            self.abort()
        if self.room:
            self._on_room()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    # -- httptools

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer is not the answer
            return
        self._answer_bytes = 0
        self._progress_s = self._now()
        if not self.on_wire:
            self.abort()
            return
        self._on_answer(self.on_wire.popleft(), status)
        if not self._parser.should_keep_alive():
            self.abort()
