"""The broadcasters' door for SRT: one UDP port, each publisher routed by its stream id.

Laws: who asks is answered by a cookie first, without any state, by a packet no longer than its own:
only an address that can read what we send gets further, and nobody is flooded through us. Then a
publisher is admitted by stream key, as over RTMP, and told by SRT's code why it is not; keys are
never logged. Bounds: sessions at once (beyond: OVERLOAD), what an unknown address may ask for each
second (beyond: dropped), the time to a data centre, silence. Whatever else arrives is dropped and
counted. accepted = publishers + closed.*. Decodes no media, see srtsession.py for its way.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from .. import srt
from . import srtsession
from .admission import Admission, RefusedError
from .datagrams import Address, Listener
from .rates import Rates
from .srtsession import Session

log = logging.getLogger(__name__)

_SWEEP_S: Final = 1.0
_COOKIE_S: Final = 30  # one is good for as long, and as long again
_CODES: Final = {
    "bad_key": srt.UNAUTHORIZED,
    "bad_stream": srt.NOT_FOUND,
    "full": srt.OVERLOAD,
    "closed": srt.UNIMPLEMENTED,
}
_REASONS: Final = {srt.UNAUTHORIZED: "bad_key", srt.CONFLICT: "busy", srt.DOWN: "full"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    publishers: int = 256
    asks_per_s: float = 20.0  # datagrams of an address that is not a publisher's
    asks_at_once: float = 40.0
    session: srtsession.Limits = field(default_factory=srtsession.Limits)


class SrtRouter:
    """await start(listener), then drain() (no new publishers) and stop()."""

    def __init__(self, *, admission: Admission, limits: Limits | None = None) -> None:
        self._admission = admission
        self._limits = limits or Limits()
        # accepted, closed.<reason>, rejected.<reason>, dropped.<reason>, bytes_in, bytes_out, moved
        self.counts: Counter[str] = Counter()
        self._secret = os.urandom(16)
        self._rates = Rates(per_s=self._limits.asks_per_s, burst=self._limits.asks_at_once)
        self._listener = Listener()
        self._sessions: dict[Address, Session] = {}
        self._ids: dict[int, Session] = {}  # as the data centres name them
        self._lives: dict[Session, asyncio.Task[None]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def publishers(self) -> int:
        """Sessions open now."""
        return len(self._lives)

    async def start(self, listener: socket.socket) -> None:
        """Serve on a bound socket, which becomes ours."""
        self._listener.start(listener, self._received)
        self._sweep()

    def drain(self) -> None:
        """Take no more publishers; those that are on go on, by sockets of their own."""
        self._listener.close()

    async def stop(self) -> None:
        """Tell every publisher and every data centre that it is over."""
        self.drain()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for session in tuple(self._sessions.values()):
            session.end("stopped")
        lives = tuple(self._lives.values())
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        for session in tuple(self._lives):  # ended before it began
            self._leave(session)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for session in tuple(self._sessions.values()):
            session.check(loop.time())
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)

    # -- datagrams that no session's own socket got

    def _received(self, data: bytes, address: Address) -> None:
        if session := self._sessions.get(address):
            session.from_client(data, address)
            return
        now_s = asyncio.get_running_loop().time()
        if not self._rates.take(address[0], now_s):
            self.counts["dropped.rate"] += 1
        elif asked := srt.handshake(data):
            self._shake(asked, address)
        elif not self._moved(srt.destination(data), address, now_s):
            self.counts["dropped.stray"] += 1

    def _moved(self, destination: int, address: Address, now_s: float) -> bool:
        """A publisher whose network changed under it; its packets say whom they are for."""
        session = self._ids.get(destination)
        if session is None:
            return False
        before = session.address
        if session.moved(address, now_s):
            self._sessions[address] = self._sessions.pop(before)
            return True
        return False

    def _shake(self, asked: srt.Handshake, address: Address) -> None:
        if asked.kind == srt.INDUCTION:
            self._send(srt.invitation(asked, self._cookie(address, 0)), address)
        elif asked.kind != srt.CONCLUSION or not self._knows(asked.cookie, address):
            self.counts["dropped.cookie"] += 1
        elif self._listener.is_open:
            self._enter(asked, address)

    def _send(self, data: bytes, address: Address) -> None:
        try:
            self._listener.send(data, address)
        except OSError:
            self.counts["dropped.unsent"] += 1

    def _cookie(self, address: Address, age: int) -> int:
        """Of this address and no other, for a while. `age`: 1 is the one before."""
        said = f"{address} {int(time.monotonic()) // _COOKIE_S - age}".encode()
        return int.from_bytes(hmac.digest(self._secret, said, hashlib.sha256)[:4], "big")

    def _knows(self, cookie: int, address: Address) -> bool:
        return cookie in (self._cookie(address, 0), self._cookie(address, 1))

    # -- publishers

    def _enter(self, asked: srt.Handshake, address: Address) -> None:
        if before := self._sessions.get(address):  # its program began anew at the same port
            before.end("replaced")
            self._forget(before)
        try:
            wish = srt.wish(srt.stream_id(asked))
        except srt.StreamIdError as error:
            log.info("publisher rejected", extra={"addr": address[0], "reason": str(error)})
            self.counts["rejected.stream_id"] += 1
            self._send(srt.rejection(asked, error.code), address)
            return
        if self.publishers >= self._limits.publishers:
            self._reject(asked, address, RefusedError("full", "no more publishers here"))
            return
        session = Session(
            asked,
            address,
            limits=self._limits.session,
            counts=self.counts,
            door=self._listener.door,
            shake=self._shake,
            on=self._on,
        )
        self._sessions[address] = session
        self.counts["accepted"] += 1
        loop = asyncio.get_running_loop()
        self._lives[session] = loop.create_task(self._live(session, asked, wish))

    async def _live(self, session: Session, asked: srt.Handshake, wish: srt.Wish) -> None:
        try:
            admitted = await self._admission.ask(wish.key, session.address[0])
            if wish.stream not in (None, admitted.stream):
                raise RefusedError("bad_stream", "the key is another stream's")
            if not admitted.srt:
                raise RefusedError("closed", "the data centre takes no SRT")
            session.stream = admitted.stream
            if code := await session.live(admitted.srt):
                reason = _REASONS.get(code, "refused")
                self._reject(asked, session.address, RefusedError(reason, f"code {code}"), code)
        except RefusedError as error:
            self._reject(asked, session.address, error)
        finally:
            self._leave(session)

    def _reject(
        self, asked: srt.Handshake, address: Address, error: RefusedError, code: int = 0
    ) -> None:
        self.counts[f"rejected.{error.reason}"] += 1
        extra = {"addr": address[0], "reason": error.reason, "protocol": "srt"}
        log.warning("publisher rejected", extra=extra)
        self._send(srt.rejection(asked, code or _CODES.get(error.reason, srt.DOWN)), address)

    def _on(self, session: Session) -> None:
        self._ids.setdefault(session.id, session)  # a stranger to the second of one name: as before
        extra = {"stream": session.stream, "addr": session.address[0], "protocol": "srt"}
        log.info("publisher on", extra=extra)

    def _leave(self, session: Session) -> None:
        session.end("rejected")
        self._forget(session)
        del self._lives[session]
        self.counts[f"closed.{session.reason}"] += 1
        log.info("publisher gone", extra={"addr": session.address[0], "reason": session.reason})

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.address) is session:
            del self._sessions[session.address]
        if self._ids.get(session.id) is session:
            del self._ids[session.id]
