"""Publishers by WHIP: offers are answered, then media comes to one UDP port, by way of POPs.

Laws: an offer that is answered has its stream from then on, and is refused by what holds for all
publishers (`Ingest.check`). ICE is its lite form: who asks with a session's name and password is
answered, and the way that it chooses is used. Bounds: sessions as Ingest allows publishers; silence
(Ingest's); datagrams of nobody are dropped and counted; of sessions that were ended for good, the
newest of which it is remembered why, `_OVER`. Names and passwords are never logged. Needs the
packages of `edgecache[whip]`; without them nothing is listened on, and one line says so.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edgecache import stun

from . import sdp
from .config import Config
from .doors import StartError
from .ffmpeg import Ffmpeg
from .ingest import Ingest
from .publishers import Publishers
from .receive import RefusedError

if TYPE_CHECKING:
    from .dtls import Identity
    from .whippeer import Peer

log = logging.getLogger(__name__)

Address = tuple[str, int]

_SINCE: Final = (8, 0)  # ffmpeg reads Opus in FLV
_TICK_S: Final = 0.02
_BATCH: Final = 64
_DATAGRAM_MAX: Final = 2048
_OVER: Final = 256
_STOP_S: Final = 3.0
_BUFFER_BYTES: Final = 4 << 20  # a key frame of each of many at once


@dataclass(eq=False, slots=True)
class _Session:
    name: str
    place: sdp.Place
    peer: Peer
    address: Address | None = None  # where it wants to be sent to
    known: set[Address] = field(default_factory=set)


def lacking(ffmpeg: Ffmpeg) -> str:
    """What WHIP needs and is not there, and what to do; "" for nothing."""
    try:
        importlib.import_module(".dtls", __package__)  # optional
    except ImportError as error:
        return f"found no package {error.name}; install edgecache[whip]"
    if ffmpeg.since(_SINCE) is None:
        return f"found {ffmpeg}, allowed 8.0 or newer; install edgecache[ffmpeg]"
    return ""


class WhipDoor:
    """`start`, then `stop`; between them `open` and `close` sessions."""

    def __init__(
        self, config: Config, ingest: Ingest, publishers: Publishers, ffmpeg: Ffmpeg
    ) -> None:
        self._settings = config.whip
        self._ffmpeg = ffmpeg
        self._ingest = ingest
        self._publishers = publishers
        self._counts = ingest.counts  # whip.accepted, whip.closed, whip.dropped
        self._identity: Identity | None = None
        self._socket: socket.socket | None = None
        self._sessions: dict[str, _Session] = {}
        self._ufrags: dict[str, _Session] = {}
        self._addresses: dict[Address, _Session] = {}
        self._over: dict[str, str] = {}  # why, by name; the oldest first
        self._serving: dict[asyncio.Task[None], _Session] = {}
        self._ticking: asyncio.TimerHandle | None = None
        self.port = 0

    def place(self, host: str) -> str:
        """Where POPs that asked at `host` may send media to; "" while it is closed."""
        host = f"[{host}]" if ":" in host else host
        return (self._settings.public or f"{host}:{self.port}") if self.port else ""

    async def start(self) -> None:
        """Listen, if the packages are there. Raises StartError when the address is taken."""
        listen = self._settings.listen
        if not listen:
            return
        if why := lacking(self._ffmpeg):
            log.error("whip.listen: no WHIP, the rest is served: %s", why)
            return
        from .dtls import identity

        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((host, int(port)))
        except OSError as error:
            sock.close()
            text = f"whip.listen: found {listen}, which cannot be listened on: {error.strerror}"
            raise StartError(text) from None
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._identity = identity()
        self._socket, self.port = sock, sock.getsockname()[1]
        asyncio.get_running_loop().add_reader(sock, self._read, sock)
        log.info("serving WHIP", extra={"port": self.port})

    async def stop(self) -> None:
        """Every publisher told and gone. Idempotent."""
        for session in self._serving.values():  # what they sent is put out
            session.peer.end("the origin is going away")
        if self._serving:
            await asyncio.wait(tuple(self._serving), timeout=_STOP_S)
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket, self.port = None, 0

    def open(
        self,
        offer: str,
        place: sdp.Place,
        *,
        stream: str,
        key_id: str,
        publisher: str,
        title: str = "",
    ) -> tuple[str, str]:
        """(the session's name, the answer). place: where the publisher is to send to. Raises
        SdpError, RefusedError."""
        from .dtls import Dtls
        from .whippeer import Peer

        if self._identity is None or place.ufrag in self._ufrags:
            raise RefusedError(503, "WHIP is not served here")
        self._ingest.check(stream)
        asked = sdp.read(offer)
        loop = asyncio.get_running_loop()
        dtls = Dtls(self._identity, asked.fingerprint, server=asked.active)
        name = secrets.token_urlsafe(16)
        peer = Peer(
            dtls, asked.taken, send=lambda data: self._send(session, data), now_s=loop.time()
        )
        session = _Session(name, place, peer)
        self._sessions[name] = self._ufrags[place.ufrag] = session
        task = loop.create_task(self._serve(session, stream, key_id, publisher, title))
        self._serving[task] = session
        task.add_done_callback(self._serving.pop)
        if self._ticking is None:
            self._tick()
        return name, sdp.answer(asked, place, self._identity.fingerprint)

    def close(self, name: str) -> bool:
        """The publisher says that it is over. False: no such session. Raises RefusedError (410)
        when it was ended here, for good, and says why."""
        session = self._sessions.get(name)
        if why := session.peer.dismissed if session else self._over.get(name):
            raise RefusedError(410, why)
        if session is not None:
            session.peer.end("the publisher said goodbye")
        return session is not None

    async def _serve(
        self, session: _Session, stream: str, key_id: str, publisher: str, title: str
    ) -> None:
        self._counts["whip.accepted"] += 1
        try:
            with self._publishers.enter(stream, key_id, session.peer):
                await self._ingest.serve(stream, session.peer, publisher=publisher, title=title)
        except RefusedError as error:
            log.warning("WHIP publisher ended", extra={"stream": stream, "why": error.reason})
            if error.status == 410:
                session.peer.set_exception(error)
        finally:
            session.peer.end("the broadcast has ended")
            if session.peer.dismissed:
                self._over[session.name] = session.peer.dismissed
                if len(self._over) > _OVER:
                    del self._over[next(iter(self._over))]
            del self._sessions[session.name], self._ufrags[session.place.ufrag]
            for address in session.known:
                del self._addresses[address]
            self._counts["whip.closed"] += 1

    # -- datagrams

    def _read(self, sock: socket.socket) -> None:
        now_s = asyncio.get_running_loop().time()
        for _ in range(_BATCH):
            try:
                data, (host, port, *_) = sock.recvfrom(_DATAGRAM_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # a word of ICMP's about somebody
                continue
            address = (host, port)
            if data[:1] < b"\x04":
                self._asked(data, address)
            elif session := self._addresses.get(address):
                session.peer.datagram(data, now_s)
            else:
                self._counts["whip.dropped"] += 1

    def _asked(self, data: bytes, address: Address) -> None:
        asked = stun.binding(data)
        session = self._ufrags.get(asked.ufrag) if asked else None
        if asked is None or session is None or not asked.vouched(session.place.password):
            self._counts["whip.dropped"] += 1
            return
        before = self._addresses.get(address)
        if before is not session:
            if before is not None:
                before.known.discard(address)
            self._addresses[address] = session
            session.known.add(address)
        self._put(stun.success(asked, address, session.place.password), address)
        if asked.nominates or session.address is None:
            session.address = address
            session.peer.begin()

    def _send(self, session: _Session, data: bytes) -> None:
        if session.address is not None:
            self._put(data, session.address)

    def _put(self, data: bytes, address: Address) -> None:
        try:
            if self._socket is not None:
                self._socket.sendto(data, address)
        except OSError:
            self._counts["whip.dropped"] += 1

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        for session in tuple(self._sessions.values()):
            session.peer.tick(loop.time())
        self._ticking = loop.call_later(_TICK_S, self._tick) if self._sessions else None
