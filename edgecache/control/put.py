"""One HTTP/1.1 request to a data centre on its own connection; its body may be sent piece by piece.

Law: the connection carries this request only, by http or https (dial.py). An answer may come line
by line while the body is still being sent (`on_line`). Bounds: the answer's head and body
(ANSWER_BYTES), or one line of it (LINE_BYTES); what is written and not yet taken by the kernel is
reported (`paused`), and the writer must stop then. What the host does not acknowledge for `stall_s`
ends the connection: a line that swallows bytes is noticed by nobody else for as long as the
kernel's buffers take them. Other deadlines belong to the caller. Does not know what it carries.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from ..errors import UpstreamError
from .dial import Ways

ANSWER_BYTES: Final = 64 << 10
LINE_BYTES: Final = 512 << 10
WRITE_BUFFER_BYTES: Final = 256 << 10
_STALL_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


def head(method: str, url: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """A request head. Raises ValueError if a field would break out of its line."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in fields]
    text = "\r\n".join((*lines, "\r\n"))
    if text.count("\n") != len(lines) + 1 or not text.isascii():
        raise ValueError("a request field holds a line break or is not ASCII")
    return text.encode("ascii")


class Put(asyncio.Protocol):
    """Made by `connect`. `answered` resolves to the Answer, or raises UpstreamError when the
    connection ends without one; `proceed` resolves once the peer has said 100 or anything final.
    `on_line`, if there is one, gets the lines of a 200 as they come, and the Answer has none."""

    def __init__(
        self,
        on_pause: Callable[[bool], None],
        on_line: Callable[[bytes], None] | None = None,
        stall_s: float = _STALL_S,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._on_pause = on_pause
        self._on_line = on_line
        self._stall_s = stall_s
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self.answered: asyncio.Future[Answer] = loop.create_future()
        self.proceed: asyncio.Future[None] = loop.create_future()
        # Looked at by whoever waits for it; nobody has to.
        self.answered.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.paused = False
        self.sent_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        sock: socket.socket = transport.get_extra_info("socket")
        stall_ms = round(1000 * self._stall_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stall_ms)

    def write(self, data: bytes) -> None:
        """Bytes as they are: a head, or a body whose length was announced."""
        if not self._transport.is_closing():
            self.sent_bytes += len(data)
            self._transport.write(data)

    def chunk(self, data: bytes) -> None:
        """A piece of a chunked body."""
        if data:
            self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """The last chunk: the body is whole."""
        self.write(b"0\r\n\r\n")

    def abort(self) -> None:
        self._transport.abort()

    def pause_writing(self) -> None:
        self.paused = True
        self._on_pause(True)

    def resume_writing(self) -> None:
        self.paused = False
        self._on_pause(False)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamError("malformed", f"not an HTTP answer: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(UpstreamError("cut", f"the connection ended without an answer: {exc}"))

    def on_headers_complete(self) -> None:
        if not self.proceed.done():
            self.proceed.set_result(None)

    def on_body(self, body: bytes) -> None:
        if self._on_line is None or self._parser.get_status_code() != 200:
            self._body += body[: ANSWER_BYTES - len(self._body)]
            return
        *lines, rest = (bytes(self._body) + body).split(b"\n")
        self._body[:] = rest
        for line in lines:
            self._on_line(line)
        if len(rest) > LINE_BYTES:
            self._fail(UpstreamError("malformed", f"a line of over {LINE_BYTES} bytes"))

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and not self.answered.done():
            self.answered.set_result(Answer(status, bytes(self._body)))

    def _fail(self, error: UpstreamError) -> None:
        if not self.proceed.done():
            self.proceed.set_result(None)
        if not self.answered.done():
            self.answered.set_exception(error)
        self._transport.abort()


def _ignore(paused: bool) -> None:
    """A caller that writes everything at once."""


async def connect(
    url: str,
    *,
    ways: Ways,
    timeout_s: float,
    on_pause: Callable[[bool], None] = _ignore,
    on_line: Callable[[bytes], None] | None = None,
    stall_s: float = _STALL_S,
) -> Put:
    """A connection to the host of a URL, which has shown its certificate if that is https. Raises
    UpstreamError."""
    way, netloc = ways.to(url), urlsplit(url).netloc
    try:
        async with asyncio.timeout(timeout_s):
            return await way.connect(lambda: Put(on_pause, on_line, stall_s))
    except TimeoutError:
        raise UpstreamError("connect_timeout", f"no connection to {netloc}") from None
    except OSError as error:
        raise UpstreamError("refused", f"no connection to {netloc}: {error}") from None


async def post(
    url: str, body: bytes, fields: Iterable[tuple[str, str]], *, ways: Ways, timeout_s: float
) -> Answer:
    """One POST and its answer. Raises UpstreamError."""
    put = await connect(url, ways=ways, timeout_s=timeout_s)
    try:
        length = ("Content-Length", str(len(body)))
        put.write(head("POST", url, (*fields, length, ("Connection", "close"))) + body)
        async with asyncio.timeout(timeout_s):
            return await put.answered
    except TimeoutError:
        raise UpstreamError("timeout", f"no answer in {timeout_s:g} s") from None
    finally:
        put.abort()
