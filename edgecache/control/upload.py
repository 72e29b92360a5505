"""The broadcasters' door over HTTP: a body that is sent for as long as the broadcast lasts, or the
messages of a page that goes live (WebSocket). Both go on to the data centre by a relay.

Laws: a connection comes from the data plane with the bytes that were read from it, carries one
request and ends with it. A publisher is admitted by stream key before its media is read, and is
told in one line why it is not; keys stand in `Authorization`, in the path or in a page's first
message, and are never logged. Bounds: publishers at once (503), time to present a key, silence, a
message's size, what is buffered towards the data centre (reading pauses). accepted = publishers +
closed.*; every refusal is counted in rejected.*. Decodes no media.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from aiohttp import WSMsgType, hdrs, web

from ..config import UPLOADS
from ..containers import READERS
from ..hosts import host_is_among
from . import relay
from .admission import Admission, Admitted, RefusedError, SignFields
from .passage import Passage
from .trackdoor import TrackDoor
from .whipdoor import WhipDoor

log = logging.getLogger(__name__)

_STATUS: Final = {
    "no_key": 401,
    "bad_key": 403,
    "method": 405,
    "silent": 408,
    "busy": 409,
    "replaced": 410,
    "no_init": 412,
    "type": 415,
    "misdirected": 421,
    "refused": 400,
    "message": 400,
    "full": 503,
    "away": 503,
    "stopped": 503,
}
# What is worth trying again by itself: the key and what is sent are good.
_AGAIN: Final = frozenset(("busy", "full", "away", "stopped", "silent", "failed"))
_MESSAGE_BYTES: Final = 8 << 20
_TITLE_CHARS: Final = 100
_LINGER_S: Final = 1.0  # for a refused publisher to stop sending, and read why


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    publishers: int = 256
    key_s: float = 10.0  # from a page's connection to its first message
    idle_s: float = 15.0
    relay: relay.Limits = field(default_factory=relay.Limits)


class Uploads:
    """take() each connection that asks below `UPLOADS`; at the end stop(). `hosts`: the names we
    go by (hosts.py)."""

    def __init__(
        self,
        *,
        admission: Admission,
        sign: SignFields,
        hosts: Sequence[str] = (),
        limits: Limits | None = None,
        whip: WhipDoor | None = None,
    ) -> None:
        self._hosts = hosts
        self._whip = whip
        self._admission = admission
        self._sign = sign
        self._limits = limits or Limits()
        self._server: web.Server | None = None
        self._publishing: set[asyncio.Task[object]] = set()
        self._opening: set[asyncio.Task[object]] = set()
        # accepted, closed.<reason>, rejected.<reason>, bytes_in, and what a relay counts
        self.counts: Counter[str] = Counter()
        self._tracks = TrackDoor(admission=admission, sign=sign, counts=self.counts)

    @property
    def publishers(self) -> int:
        """Requests that are being answered now."""
        return len(self._publishing)

    def take(self, sock: socket.socket, read: bytes) -> None:
        """A connection, which becomes ours, and what was read from it."""
        loop = asyncio.get_running_loop()
        server = self._server = self._server or web.Server(self._serve)
        opening = loop.create_task(
            loop.connect_accepted_socket(lambda: _Connection(server, loop, read), sock)
        )
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def stop(self) -> None:
        """Tell every publisher, and finish what each has sent. Bounded by the relay's
        `finish_s`."""
        tasks = (*self._publishing, *self._opening)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.shutdown(_LINGER_S)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._publishing.add(task)
        self.counts["accepted"] += 1
        reason = "gone"
        try:
            answer = await self._answer(request)
            reason = "answered"
            return answer
        finally:
            self._publishing.discard(task)
            self.counts[f"closed.{reason}"] += 1

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not host_is_among(request.headers.get(hdrs.HOST, ""), self._hosts):
            text = "Host: this server does not go by that name"
            return self._refuse(request, RefusedError("misdirected", text))
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await _Page(self, request).serve()
        if self._whip is not None and self._whip.takes(request):
            return await self._whip.answer(request)
        try:
            if self._tracks.takes(request):
                return await self._tracks.answer(request)
            stream = await self._body(request)
        except RefusedError as error:
            return self._refuse(request, error)
        except asyncio.CancelledError:
            return self._refuse(request, RefusedError("stopped", "this server is going away"))
        answer = web.Response(text=f"{stream}: the broadcast has ended\n")
        answer.force_close()
        return answer

    def reject(self, error: RefusedError, address: str | None) -> None:
        self.counts[f"rejected.{error.reason}"] += 1
        log.warning("publisher rejected", extra={"addr": address, "reason": error.reason})

    def _refuse(self, request: web.BaseRequest, error: RefusedError) -> web.Response:
        self.reject(error, request.remote)
        fields = {"WWW-Authenticate": "Bearer"} if error.reason == "no_key" else {}
        status = _STATUS.get(error.reason, 502)
        answer = web.Response(status=status, text=f"{error}\n", headers=fields)
        answer.force_close()
        return answer

    async def _body(self, request: web.BaseRequest) -> str:
        """All of a body, on its way; returns the stream's name. Raises RefusedError."""
        if request.method not in ("PUT", "POST"):
            raise RefusedError("method", "allowed are PUT and POST of media, and WebSocket")
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else request.path.removeprefix(UPLOADS)
        admitted, way = await self.begin(request, key, request.content_type)
        try:
            if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
                assert request.transport is not None
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            while data := await self._read(request):
                await self.send(way, data)
        except (ConnectionError, RefusedError, asyncio.CancelledError):
            await self.finish(way)
            raise
        await way.finish()
        return admitted.stream

    async def _read(self, request: web.BaseRequest) -> bytes:
        try:
            async with asyncio.timeout(self._limits.idle_s):
                return await request.content.readany()
        except TimeoutError:
            raise self.silence() from None
        except web.RequestPayloadError as error:
            raise ConnectionResetError from error

    # -- for both kinds of publishers

    @property
    def limits(self) -> Limits:
        return self._limits

    def silence(self) -> RefusedError:
        return RefusedError("silent", f"nothing was sent for {self._limits.idle_s:g} s")

    async def begin(
        self, request: web.BaseRequest, key: str, kind: str, title: str = ""
    ) -> tuple[Admitted, Passage]:
        """The way of a publisher that may. Raises RefusedError."""
        if kind not in READERS:
            raise RefusedError("type", f"Content-Type: found {kind}, allowed {', '.join(READERS)}")
        if not key:
            raise RefusedError("no_key", "a stream key is needed: Authorization: Bearer KEY")
        if self.publishers > self._limits.publishers:
            raise RefusedError("full", f"{self._limits.publishers} publishers are on; try again")
        admitted = await self._admission.ask(key, request.remote or "")
        fields = [("Edge-Publisher", request.remote or "")]
        if title:
            fields.append(("Edge-Title", quote(title[:_TITLE_CHARS])))
        way = Passage(
            admitted, kind, fields,
            ways=self._admission.ways, sign=self._sign, limits=self._limits.relay,
            counts=self.counts,
        )  # fmt: skip
        await way.open()
        log.info("publisher on", extra={"stream": admitted.stream, "addr": request.remote})
        return admitted, way

    async def send(self, way: Passage, data: bytes) -> None:
        self.counts["bytes_in"] += len(data)
        await way.send(data)

    @staticmethod
    async def finish(way: Passage) -> None:
        """An end of what cannot go on: whatever the data centre says is no news to anybody."""
        with contextlib.suppress(RefusedError):
            await way.finish()


class _Page:
    """A page's connection. It says who it is in one message (`key`, `type`, `title`), sends media
    in binary messages, and is told in text ones: `stream` when it is on, `received` (bytes, with
    its own mark `t`) whenever it asks, `error` (and whether to try `again`) before the end."""

    def __init__(self, uploads: Uploads, request: web.BaseRequest) -> None:
        self._uploads = uploads
        self._request = request
        self._socket = web.WebSocketResponse(
            max_msg_size=_MESSAGE_BYTES, compress=False, timeout=_LINGER_S
        )
        self._received = 0

    async def serve(self) -> web.WebSocketResponse:
        await self._socket.prepare(self._request)
        try:
            await self._live()
        except RefusedError as error:
            await self._refuse(error)
        except asyncio.CancelledError:
            await self._refuse(RefusedError("stopped", "this server is going away"))
        await self._socket.close()
        return self._socket

    async def _live(self) -> None:
        key, kind, title = _introduced(await self._next(self._uploads.limits.key_s))
        admitted, way = await self._uploads.begin(self._request, key, kind, title)
        try:
            await self._socket.send_json({"stream": admitted.stream})
            while (message := await self._next(self._uploads.limits.idle_s)) is not None:
                if isinstance(message, bytes):
                    self._received += len(message)
                    await self._uploads.send(way, message)
                else:
                    await self._socket.send_json({"t": message, "received": self._received})
        finally:
            await self._uploads.finish(way)

    async def _next(self, within_s: float) -> bytes | str | None:
        """The next message; None: it has said goodbye, or is gone."""
        try:
            message = await self._socket.receive(within_s)
        except TimeoutError:
            raise self._uploads.silence() from None
        if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
            data: bytes | str = message.data
            return data
        return None

    async def _refuse(self, error: RefusedError) -> None:
        self._uploads.reject(error, self._request.remote)
        told = {"error": str(error), "again": error.reason in _AGAIN}
        with contextlib.suppress(ConnectionError):
            await self._socket.send_json(told)


def _introduced(message: bytes | str | None) -> tuple[str, str, str]:
    """(key, type, title) of a page's first message. Raises RefusedError."""
    try:
        told = json.loads(message or "")
        key, kind, title = (told.get(name, "") for name in ("key", "type", "title"))
    except (ValueError, AttributeError):
        raise RefusedError("message", "the first message has to be JSON with a key") from None
    if not all(isinstance(each, str) for each in (key, kind, title)):
        raise RefusedError("message", "key, type and title have to be strings")
    return key, kind.partition(";")[0], title


class _Connection(web.RequestHandler):
    """aiohttp's, that begins with what was read already."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, read: bytes) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # a target may hold a key
            lingering_time=_LINGER_S,
            keepalive_timeout=0,
        )
        self._read = read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.data_received(self._read)

    def connection_lost(self, exc: BaseException | None) -> None:
        """A body that is whole is good, whatever became of its sender: encoders close behind the
        last byte, and aiohttp would fail what of it has not been taken yet."""
        request = self._current_request
        if request is not None and request.content.is_eof():
            self._current_request = None
        super().connection_lost(exc)
