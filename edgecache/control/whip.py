"""The way of WHIP publishers' media: one UDP port, each publisher routed by its ICE user name.

Laws: DTLS stays end to end: only who asks whether the way is open (STUN) is read, and nothing of
anybody passes who does not know the password of a session. What asks from an address has a socket
of its own at each side from then on, so the kernel sorts datagrams, and the data centre sees as
many ways to a publisher as there are, and uses the one that is chosen. Nothing is queued; what a
socket does not take is dropped, and counted. Bounds: sessions, ways of each, what an unknown
address may ask each second, silence. accepted = publishers + closed.*.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from .. import stun
from ..errors import UpstreamError
from ..fields import split_address
from .admission import RefusedError
from .datagrams import Address, Door, Listener, connected, read
from .rates import Rates

log = logging.getLogger(__name__)

_SWEEP_S: Final = 1.0
_WILD: Final = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    publishers: int = 256
    ways: int = 8  # addresses of one publisher
    idle_s: float = 10.0  # browsers ask every 2.5 s (RFC 7675)
    asks_per_s: float = 50.0  # datagrams of an address that is not a publisher's
    asks_at_once: float = 100.0


@dataclass(eq=False, slots=True)
class Session:
    """One publisher. `centre`: where its media goes, once that is known."""

    ufrag: str
    password: str
    heard_s: float
    told_s: float
    stream: str = ""
    centre: tuple[int, Address] | None = None
    ways: dict[Address, _Way] = field(default_factory=dict)
    ended: bool = False


class WhipRelay:
    """await start(listener), then drain() (no new ways) and stop(). `expect` a publisher before its
    data centre knows of it, `lead` it there, `end` it."""

    def __init__(self, *, public: str = "", limits: Limits | None = None) -> None:
        self._public = public
        self._limits = limits or Limits()
        # accepted, closed.<reason>, dropped.<reason>, bytes_in, bytes_out
        self.counts: Counter[str] = Counter()
        limit = self._limits
        self._rates = Rates(per_s=limit.asks_per_s, burst=limit.asks_at_once)
        self._listener = Listener()
        self._sessions: dict[str, Session] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def publishers(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    @property
    def is_open(self) -> bool:
        return self._listener.is_open

    @property
    def door(self) -> Door:
        return self._listener.door

    def place(self, host: str) -> Address:
        """Where publishers are told to send to, who asked at `host`."""
        if self._public:
            return split_address(self._public)
        bound, port = str(self.door.name[0]), int(str(self.door.name[1]))
        return (host if bound in _WILD else bound).removeprefix("::ffff:"), port

    async def start(self, listener: socket.socket) -> None:
        """Serve on a bound socket, which becomes ours."""
        self._listener.start(listener, self._asked)
        self._sweep()

    def drain(self) -> None:
        """Take no more publishers; those that are on go on, by sockets of their own."""
        self._listener.close()

    def stop(self) -> None:
        self.drain()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for session in tuple(self._sessions.values()):
            self.end(session, "stopped")

    def expect(self) -> Session:
        """Somebody who has not sent anything. Raises RefusedError."""
        if self.publishers >= self._limits.publishers:
            raise RefusedError("full", f"{self._limits.publishers} publishers are on; try again")
        now_s = asyncio.get_running_loop().time()
        session = Session(secrets.token_hex(8), secrets.token_hex(16), now_s, now_s)
        self._sessions[session.ufrag] = session
        self.counts["accepted"] += 1
        return session

    async def lead(self, session: Session, place: str) -> None:
        """To the data centre at `place` (host:port). Raises UpstreamError."""
        try:
            host, port = split_address(place)
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, ValueError) as error:
            raise UpstreamError("refused", f"{place}: {error}") from None
        session.centre = (found[0][0], (str(found[0][4][0]), int(found[0][4][1])))

    def end(self, session: Session, reason: str) -> None:
        """Once."""
        if session.ended:
            return
        session.ended = True
        del self._sessions[session.ufrag]
        for way in session.ways.values():
            way.close()
        self.counts[f"closed.{reason}"] += 1
        log.info("publisher gone", extra={"stream": session.stream, "reason": reason})

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        before_s = loop.time() - self._limits.idle_s
        for session in tuple(self._sessions.values()):
            for address, way in tuple(session.ways.items()):
                if way.heard_s < before_s:
                    way.close()
                    del session.ways[address]
            if session.heard_s < before_s:
                self.end(session, "silent")
            elif session.told_s < before_s:
                self.end(session, "away")
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)

    def _asked(self, data: bytes, address: Address) -> None:
        """A datagram that no way's own socket got."""
        if not self._rates.take(address[0], asyncio.get_running_loop().time()):
            self.counts["dropped.rate"] += 1
            return
        asked = stun.binding(data)
        session = self._sessions.get(asked.ufrag) if asked else None
        if asked is None or session is None or not asked.vouched(session.password):
            self.counts["dropped.stray"] += 1
            return
        if session.centre is None:  # it asks again
            return
        way = session.ways.get(address)
        if way is None:
            if len(session.ways) >= self._limits.ways:
                self.counts["dropped.ways"] += 1
                return
            try:
                way = session.ways[address] = _Way(self, session, address)
            except OSError:
                self.counts["dropped.unsent"] += 1
                return
        way.from_client(data, address)

    def lost(self, session: Session) -> None:
        """Nobody is at the data centre's address."""
        self.end(session, "away")


class _Way:
    """Between one address of a publisher and its data centre."""

    def __init__(self, relay: WhipRelay, session: Session, address: Address) -> None:
        assert session.centre is not None, "led nowhere"
        self._relay = relay
        self._session = session
        self._loop = asyncio.get_running_loop()
        family, place = session.centre
        self._client = connected(relay.door, address)
        self._centre = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._centre.setblocking(False)
            self._centre.connect(place)
        except OSError:
            self._client.close()
            self._centre.close()
            raise
        self.heard_s = self._loop.time()
        self._loop.add_reader(self._client, read, self._client, self.from_client)
        self._loop.add_reader(self._centre, self._read_centre)

    def close(self) -> None:
        for sock in (self._client, self._centre):
            self._loop.remove_reader(sock)
            sock.close()

    def from_client(self, data: bytes, _address: Address) -> None:
        self.heard_s = self._session.heard_s = self._loop.time()
        self._relay.counts["bytes_in"] += len(data)
        if self._send(self._centre, data):
            self._relay.counts["bytes_out"] += len(data)

    def _read_centre(self) -> None:
        if not read(self._centre, self._from_centre):
            self._relay.lost(self._session)

    def _from_centre(self, data: bytes, _address: Address) -> None:
        self._session.told_s = self._loop.time()
        self._send(self._client, data)

    def _send(self, sock: socket.socket, data: bytes) -> bool:
        try:
            sock.send(data)
        except OSError:
            self._relay.counts["dropped.unsent"] += 1
            return False
        return True
