"""Viewers of `http` routes: one request at a time comes over from the data plane, and its
connection goes back there once it is answered.

Law: the head was accepted by the data plane or is judged here by llhttp as strictly; bodies by
Content-Length or chunks, bounded. What follows the request on the connection is never read as part
of it; where its end is not certain the connection ends. A body that breaks off is cut, so that it
cannot look whole. Every write has a deadline. Bounds: requests at once (503). Does not know what
requests mean (site.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ..errors import UpstreamError
from .caching import Fields
from .http1 import Admit, Asked, Limits, Reader, Request, Response, refusal, render, render_head

log = logging.getLogger(__name__)

_READ_BYTES: Final = 256 << 10
_LINGER_S: Final = 1.0

Handler = Callable[[Request], Awaitable[Response]]
GiveBack = Callable[[socket.socket, bytes, bytes], None]


@dataclass
class Served:
    """One request and what came of it; `request` None: it was not understood."""

    sock: socket.socket
    client: bytes
    at_ns: int = field(default_factory=time.time_ns)
    began_s: float = field(default_factory=time.monotonic)
    request: Request | None = None
    answer: Response | None = None
    sent: int = 0


class Guests:
    """take() for each that comes. `give_back(socket, bytes read beyond the request, client)`: takes
    over the socket. `admit` may refuse a head (http1.py). `tell` hears of each when it is over.
    `counts` is monotonic: `<what>.<label>`."""

    def __init__(
        self, handler: Handler, give_back: GiveBack, limits: Limits, admit: Admit | None = None
    ) -> None:
        self._handler = handler
        self._admit = admit
        self._give_back = give_back
        self._limits = limits
        self.tell: Callable[[Served], None] = lambda _: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self, sock: socket.socket, head: bytes, rest: bytes, client: bytes) -> None:
        """`head`: a request's, to its empty line; `rest`: what was read behind it; `client`: whose
        it is, for who takes the connection back."""
        self.counts["taken"] += 1
        task = asyncio.create_task(self._serve(sock, head, rest, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, deadline_s: float) -> None:
        """Answer what has come, then cut what is left after `deadline_s`."""
        self._draining = True
        tasks = tuple(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=deadline_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, sock: socket.socket, head: bytes, rest: bytes, client: bytes) -> None:
        sock.setblocking(False)
        served = Served(sock, client)
        try:
            try:
                goes_on, rest = await self._turn(served, head, rest)
            finally:
                self.tell(served)
        except (OSError, TimeoutError):
            self.counts["closed.gone"] += 1
            sock.close()
        except UpstreamError:  # in mid-body: a reset, so that the end is not taken for an end
            self.counts["closed.cut"] += 1
            linger = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()
        except BaseException:
            self.counts["closed.stopped"] += 1
            sock.close()
            raise
        else:
            if goes_on:
                self.counts["returned"] += 1
                self._give_back(sock, rest, client)
            else:
                self.counts["closed.answered"] += 1
                await self._linger(sock)

    async def _turn(self, served: Served, head: bytes, rest: bytes) -> tuple[bool, bytes]:
        """(may the connection go on, what was read behind the request)."""
        asked, rest = await self._read(served.sock, head, rest)
        request = served.request = asked.request
        if request is None:
            answer = served.answer = asked.response or refusal(400, "malformed request", close=True)
            await self._send(served, render(answer, close=True))
            self.counts[f"answers.{answer.status}"] += 1
            return False, b""
        certain = not any(name == "transfer-encoding" for name, _ in request.fields)
        last = self._draining or not asked.keep_alive or not certain
        request.interim = self._interim(served.sock) if request.minor else None
        answer = served.answer = asked.response or await self._answer(request)
        self.counts[f"answers.{answer.status}"] += 1
        if answer.stream is None:
            bare = request.method == "HEAD"
            await self._send(served, render(answer, head_only=bare, close=last or answer.close))
            return not (last or answer.close), rest
        return not await self._stream(served, request, answer, answer.stream, last=last), rest

    async def _read(self, sock: socket.socket, head: bytes, rest: bytes) -> tuple[Asked, bytes]:
        """One request with its body. Raises TimeoutError when the body does not come."""
        reader = Reader(self._limits, self._admit)
        found = reader.feed(head)
        while not found:
            wanted = reader.body_left
            if not rest:
                async with asyncio.timeout(self._limits.body_s):
                    rest = await asyncio.get_running_loop().sock_recv(sock, _READ_BYTES)
                if not rest:
                    raise ConnectionResetError("the viewer left in mid-request")
            piece, rest = (rest, b"") if wanted is None else (rest[:wanted], rest[wanted:])
            found = reader.feed(piece)
        return found[0], rest

    async def _answer(self, request: Request) -> Response:
        if len(self._tasks) > self._limits.connections:
            self.counts["shed"] += 1
            return refusal(503, "too many requests at once", close=True)
        try:
            return await self._handler(request)
        except Exception:
            log.exception("a request to a site failed", extra={"key": request.target})
            return refusal(500, "internal error", close=True)

    async def _stream(
        self,
        served: Served,
        request: Request,
        answer: Response,
        stream: AsyncGenerator[bytes, None],
        *,
        last: bool,
    ) -> bool:
        """A body as it comes. True: the connection ends with it."""
        bare = request.method == "HEAD" or answer.status in (204, 304)
        endless = answer.length is None and not bare
        chunked = endless and request.minor > 0
        last = last or (endless and not chunked)
        framing = "Transfer-Encoding: chunked" if chunked else ""
        if answer.length is not None and answer.status != 204:
            framing = f"Content-Length: {answer.length}"
        async with contextlib.aclosing(stream) as pieces:
            await self._send(served, render_head(answer, close=last, framing=framing))
            if bare:
                return last
            async for piece in pieces:
                await self._send(
                    served, b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                )
        if chunked:
            await self._send(served, b"0\r\n\r\n")
        return last

    async def _send(self, served: Served, data: bytes) -> None:
        async with asyncio.timeout(self._limits.body_s):
            await asyncio.get_running_loop().sock_sendall(served.sock, data)
        served.sent += len(data)

    @staticmethod
    def _interim(sock: socket.socket) -> Callable[[int, Fields], None]:
        """An early hint is worth no waiting: one that does not fit into the socket is left out."""

        def send(status: int, fields: Fields) -> None:
            hint = render_head(Response(status, fields=fields))
            with contextlib.suppress(OSError):
                sent = sock.send(hint)
                if 0 < sent < len(hint):
                    sock.shutdown(socket.SHUT_RDWR)  # half a head: nothing can follow

        return send

    async def _linger(self, sock: socket.socket) -> None:
        """Closing with unread bytes would reset the connection and lose the answer on its way."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_LINGER_S):
                while await loop.sock_recv(sock, _READ_BYTES):
                    pass
        sock.close()
