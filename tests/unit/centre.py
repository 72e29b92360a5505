"""A scripted data centre that takes a body of a publisher, refuses, hangs or dies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from edgecache.signing import Fields, Verifier, sign

SECRET = b"0123456789abcdef"


def signed(method: str, target: str, fields: Fields, /) -> str:
    return sign(method, target, fields, kid="k", secret=SECRET)


class Centre:
    """Says 100 or `refusal` to a head, then reads while `reads`; answers `last` at the end."""

    def __init__(self) -> None:
        self._verifier = Verifier({"k": SECRET})
        self.refusal = b""
        self.last = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        self.reads = True
        self.body = b""
        self.titles: list[str] = []
        self.writer: asyncio.StreamWriter | None = None
        self.server: asyncio.Server | None = None
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = [(name, value) for name, _, value in (x.partition(": ") for x in lines[1:])]
            self._verifier.verify("PUT", lines[0].split()[1], fields)
            assert dict(fields)["Content-Type"] == "video/mp2t"
            self.titles.append(dict(fields)["Edge-Title"])
            writer.write(self.refusal or b"HTTP/1.1 100 Continue\r\n\r\n")
            while self.reads and not self.body.endswith(b"0\r\n\r\n"):
                data = await reader.read(65536)
                if not data:
                    return
                self.body += data
            if self.reads:
                writer.write(self.last)


@contextlib.asynccontextmanager
async def centre(listener: socket.socket | None = None) -> AsyncIterator[Centre]:
    """On `listener`, else on loopback."""
    found = Centre()
    listener = listener or socket.create_server(("127.0.0.1", 0))
    server = found.server = await asyncio.start_server(found.serve, sock=listener)
    host, port = listener.getsockname()
    found.url = f"http://{host}:{port}/ingest/cam"
    try:
        yield found
    finally:
        server.close()
        if found.writer:
            found.writer.transport.abort()
