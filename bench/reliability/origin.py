"""An origin that breaks: the first segment of a path says how. It counts what it is asked and keeps
the bytes of requests.

The first request for a path meets the fault, later ones get the whole body, and Range with If-Match
is honoured: the friendliest a broken origin can be. `twice`, `slow`, `late`, `busy`, `hang` and the
two that break framing do the same every time. Runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
import struct
import threading
from collections import Counter
from typing import Final, Self

import uvloop

SIZE: Final = 400_000
_SIZES: Final = {"part": 65_536, "short": 16_384}  # of what is below these: nobody paces it
HEAD_BYTES: Final = 65536
_START_S: Final = 10.0
_HANG_S: Final = 30.0
_LATE_S: Final = 0.3
_SLOW_S: Final = 0.5


def body_of(path: str) -> bytes:
    """Bytes that belong to this path alone."""
    seed = hashlib.sha256(path.encode()).digest()
    return seed * (_SIZES.get(path.split("/")[1], SIZE) // len(seed))


class Origin:
    """`with Origin() as origin:` listens on `origin.port`; `asked[path]`: how often."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.heads: list[bytes] = []
        self.first_byte_s: dict[str, float] = {}  # loop time of the first answer's body
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listener.getsockname()[1])
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), name="origin")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(_START_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_S)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(serve, sock=self._listener, limit=HEAD_BYTES)
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                path = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
                self.asked[path] += 1
                if not await _Answer(self, writer, path, head).give():
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()


class _Answer:
    """One answer to one request. give() says whether the connection goes on."""

    def __init__(
        self, origin: Origin, writer: asyncio.StreamWriter, path: str, head: bytes
    ) -> None:
        self._origin = origin
        self._writer = writer
        self._path = path
        self._first = origin.asked[path] == 1
        self._range = re.search(rb"(?i)\r\nrange: *bytes=(\d+)-", head)
        self._wanted = re.search(rb'(?i)\r\nif-(?:match|range): *("[^"]*")', head)
        self._body = body_of(path)
        self._kind = path.strip("/").partition("/")[0]
        self._etag = b'"1"'

    async def give(self) -> bool:
        if self._kind == "changed" and not self._first:
            self._etag, self._body = b'"2"', body_of(self._path + "2")
        how = getattr(self, f"_{self._kind}", None)
        if how is None or (not self._first and self._kind in ("fin", "rst", "chunked", "changed")):
            return await self._whole()
        return bool(await how())

    def _head(self, *lines: bytes, status: bytes = b"200 OK") -> bytes:
        fields = (b"HTTP/1.1 " + status, b"Content-Type: video/mp4", b"ETag: " + self._etag,
                  b"Cache-Control: max-age=60", *lines, b"", b"")  # fmt: skip
        return b"\r\n".join(fields)

    def _length(self) -> bytes:
        return b"Content-Length: %d" % len(self._body)

    def _write(self, data: bytes) -> None:
        self._origin.first_byte_s.setdefault(self._path, self._origin._loop.time())
        self._writer.write(data)

    async def _whole(self) -> bool:
        if not self._range:
            self._write(self._head(self._length()) + self._body)
        elif self._wanted and self._wanted[1] != self._etag:
            self._write(self._head(b"Content-Length: 0", status=b"412 Precondition Failed"))
        else:
            start = int(self._range[1])
            size = len(self._body)
            span = b"Content-Range: bytes %d-%d/%d" % (start, size - 1, size)
            rest = self._body[start:]
            length = b"Content-Length: %d" % len(rest)
            self._write(self._head(length, span, status=b"206 Partial Content") + rest)
        await self._writer.drain()
        return True

    async def _half(self, *lines: bytes) -> None:
        self._write(self._head(*lines) + self._body[: SIZE // 2])
        await self._writer.drain()
        await asyncio.sleep(0.1)

    async def _fin(self) -> bool:
        await self._half(self._length())
        return False

    _changed = _fin

    async def _twice(self) -> bool:
        await self._half(self._length())
        return False

    async def _rst(self) -> bool:
        await self._half(self._length())
        sock = socket.socket(fileno=_duplicate(self._writer))
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        return False

    async def _chunked(self) -> bool:
        """An end without the last chunk."""
        half = self._body[: SIZE // 2]
        self._write(self._head(b"Transfer-Encoding: chunked"))
        self._write(b"%x\r\n" % len(half) + half + b"\r\n")
        await self._writer.drain()
        return False

    async def _extra(self) -> bool:
        self._write(self._head(self._length()) + self._body + b"x" * 300)
        await self._writer.drain()
        return False

    async def _lengths(self) -> bool:
        """Two different lengths, the first too short."""
        self._write(self._head(b"Content-Length: 1000", self._length()) + self._body)
        await self._writer.drain()
        return False

    async def _smuggled(self) -> bool:
        """A length and chunks."""
        self._write(self._head(b"Content-Length: 5", b"Transfer-Encoding: chunked"))
        self._write(b"%x\r\n" % SIZE + self._body + b"\r\n0\r\n\r\n")
        await self._writer.drain()
        return False

    async def _slow(self) -> bool:
        self._write(self._head(self._length()))
        for start in range(0, SIZE, SIZE // 10):
            self._write(self._body[start : start + SIZE // 10])
            await self._writer.drain()
            await asyncio.sleep(_SLOW_S / 10)
        return True

    async def _nobody(self) -> bool:
        return await self._status(b"404 Not Found", 0)

    async def _late(self) -> bool:
        return await self._status(b"404 Not Found")

    async def _busy(self) -> bool:
        return await self._status(b"500 Internal Server Error")

    async def _status(self, status: bytes, after_s: float = _LATE_S) -> bool:
        await asyncio.sleep(after_s)
        self._write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await self._writer.drain()
        return True

    async def _hang(self) -> bool:
        await asyncio.sleep(_HANG_S)
        return False


def _duplicate(writer: asyncio.StreamWriter) -> int:
    return os.dup(writer.get_extra_info("socket").fileno())
