"""One SRT publisher at a POP: its datagrams to its data centre and back.

Laws: SRT stays end to end: only the cookie of a handshake is exchanged, so retransmission, latency
and encryption are the publisher's and the data centre's. Nothing but handshakes passes before the
data centre has accepted. Once it has, the session has a connected socket at each side, which belong
to nobody else: whoever owns the listener next does not matter to it. Nothing is queued here; what a
socket does not take is dropped, counted, and sent again by SRT. Knows no keys.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from .. import srt
from ..errors import UpstreamError
from ..fields import split_address
from .admission import RefusedError
from .datagrams import Address, Door, connected, read

_AGAIN_S: Final = 0.25  # as libsrt repeats a handshake


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    connect_s: float = 1.0  # for a data centre to answer, each of two times
    idle_s: float = 10.0  # SRT says something every second, and gives up after five
    moved_s: float = 0.2  # silence after which a publisher may be heard from another address


class Session:
    """begin with `live(places)`, which returns when it is over; `end` ends it. `shake` is given
    handshakes of another connection that come from this one's address."""

    def __init__(
        self,
        asked: srt.Handshake,
        address: Address,
        *,
        limits: Limits,
        counts: Counter[str],
        door: Door,
        shake: Callable[[srt.Handshake, Address], None],
        on: Callable[[Session], None],
    ) -> None:
        self._asked = asked
        self._limits = limits
        self._counts = counts
        self._door = door
        self._shake = shake
        self._on = on
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._client: socket.socket | None = None
        self._centre: socket.socket | None = None
        self._cookie: asyncio.Future[int | None] | None = None  # None: nobody listens there
        self._answer: asyncio.Future[srt.Handshake] = self._loop.create_future()
        self.address = address
        self.caller = asked.caller
        self.stream = ""
        self.id = 0  # of the data centre's socket, once it has accepted
        self.reason = ""  # why it ended
        self.heard_s = self._told_s = self._loop.time()

    async def live(self, places: Sequence[str]) -> int:
        """At the first place (`host:port`) that answers. Returns the code that it refuses with, or
        0 when all is over. Raises RefusedError when none answers."""
        reaching = self._loop.create_task(self._reach(places))
        try:
            ends = (reaching, self._over)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not reaching.done():
                return 0
            if code := reaching.result().code:
                return code
            await self._over
            return 0
        finally:
            reaching.cancel()

    def end(self, reason: str) -> None:
        """Once; both sides are told if they had been brought together."""
        if self.reason:
            return
        self.reason = reason
        if self.id:
            self._to_client(srt.shutdown(self.caller))
            self._to_centre(srt.shutdown(self.id))
        for sock in (self._client, self._centre):
            if sock is not None:
                self._loop.remove_reader(sock)
                sock.close()
        if not self._over.done():
            self._over.set_result(None)

    def check(self, now_s: float) -> None:
        """End what has gone silent."""
        if now_s - self.heard_s > self._limits.idle_s:
            self.end("silent")
        elif self.id and now_s - self._told_s > self._limits.idle_s:
            self.end("away")

    def moved(self, address: Address, now_s: float) -> bool:
        """Does it go on from another address? Not while it is heard from its own: who guesses its
        id must not lead it away."""
        if now_s - self.heard_s <= self._limits.moved_s:
            return False
        before, self.address = self.address, address
        try:
            self._own()
        except OSError:
            self.address = before
            return False
        self._counts["moved"] += 1
        return True

    def from_client(self, data: bytes, address: Address) -> None:
        asked = srt.handshake(data)
        if address != self.address or (
            asked is not None and (asked.caller != self.caller or asked.kind == srt.INDUCTION)
        ):
            if asked is not None:
                self._shake(asked, address)
            return
        self.heard_s = self._loop.time()
        self._counts["bytes_in"] += len(data)
        if asked is not None:
            self._conclude(asked)
        elif self.id:
            self._to_centre(data)
            if srt.is_shutdown(data):
                self.end("ended")

    # -- the data centre

    async def _reach(self, places: Sequence[str]) -> srt.Handshake:
        """What the first data centre that answers says to the conclusion."""
        for place in places:
            try:
                async with asyncio.timeout(2 * self._limits.connect_s):
                    await self._invited(place)
                    self._conclude(self._asked)
                    return await asyncio.shield(self._answer)
            except (TimeoutError, UpstreamError):
                continue
        raise RefusedError("away", "no data centre answers; try again")

    async def _invited(self, place: str) -> None:
        """Have a cookie of the data centre at `place`. Raises UpstreamError."""
        if self._centre is not None:
            self._loop.remove_reader(self._centre)
            self._centre.close()
        try:
            host, port = split_address(place)
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, where = found[0]
            centre = self._centre = socket.socket(family, kind, protocol)
            centre.setblocking(False)
            centre.connect(where)
        except (OSError, ValueError) as error:
            raise UpstreamError("refused", f"{place}: {error}") from None
        self._loop.add_reader(centre, self._read_centre, centre)
        cookie = self._cookie = self._loop.create_future()
        while not cookie.done():
            self._to_centre(srt.induction(self._asked))
            await asyncio.wait((cookie,), timeout=_AGAIN_S)
        if cookie.result() is None:
            raise UpstreamError("refused", f"{place}: nobody listens there")

    def _conclude(self, asked: srt.Handshake) -> None:
        """Pass it on with the cookie that the data centre knows, if there is one yet."""
        cookie = self._cookie.result() if self._cookie and self._cookie.done() else None
        if cookie is not None:
            told = replace(asked, cookie=cookie)
            self._to_centre(told.encode(srt.destination(asked.head)))

    def _read_centre(self, centre: socket.socket) -> None:
        if read(centre, self._from_centre) or self.reason:
            return
        if self.id:  # its process is gone, and with it the other end of this connection
            self.end("away")
        elif self._cookie is not None and not self._cookie.done():
            self._cookie.set_result(None)

    def _from_centre(self, data: bytes, _address: Address) -> None:
        self._told_s = self._loop.time()
        told = srt.handshake(data)
        if told is not None:
            self._told(told, data)
        elif self.id:
            self._to_client(data)
            if srt.is_shutdown(data):
                self.end("closed")

    def _told(self, told: srt.Handshake, data: bytes) -> None:
        if told.kind == srt.INDUCTION:
            if self._cookie is not None and not self._cookie.done():
                self._cookie.set_result(told.cookie)
            return
        if not self._answer.done():
            if not told.code and not self._accepted(told):
                return
            self._answer.set_result(told)
        if not told.code:
            self._to_client(data)

    def _accepted(self, told: srt.Handshake) -> bool:
        self.id = told.caller
        try:
            self._own()
        except OSError as error:
            refusal = RefusedError("full", f"no socket for another publisher: {error.strerror}")
            self._answer.set_exception(refusal)
            return False
        self._on(self)
        return True

    # -- sockets

    def _own(self) -> None:
        """A socket for this publisher alone, at the door's address. Raises OSError."""
        client = connected(self._door, self.address)
        if self._client is not None:
            self._loop.remove_reader(self._client)
            self._client.close()
        self._client = client
        self._loop.add_reader(client, read, client, self.from_client)

    def _to_client(self, data: bytes) -> None:
        if self._client is not None:
            self._send(self._client, data)

    def _to_centre(self, data: bytes) -> None:
        if self._centre is not None and self._send(self._centre, data):
            self._counts["bytes_out"] += len(data)

    def _send(self, sock: socket.socket, data: bytes) -> bool:
        try:
            sock.send(data)
        except OSError:
            self._counts["dropped.unsent"] += 1
            return False
        return True
