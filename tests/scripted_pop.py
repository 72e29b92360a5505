"""A POP's push door that does as it is told, checks what it gets, and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import httptools
import lz4.block
import xxhash

from edgecache.signing import Verifier

KID = "test"
SECRET = b"0123456789abcdef0123456789abcdef"
REASONS = {200: "OK", 201: "Created", 204: "No Content", 409: "Conflict"}


def unpacked(fields: Mapping[str, str], body: bytes) -> bytes:
    """As the contract says: Edge-Coding, sized by what Edge-Variants adds up to."""
    if fields.get("edge-coding") != "lz4":
        return body
    size = sum(int(item.partition("=")[2]) for item in fields["edge-variants"].split(","))
    plain: bytes = lz4.block.decompress(body, uncompressed_size=size)
    return plain


@dataclass
class Received:
    """One request. `connection` counts from 0 in the order of accepts."""

    connection: int
    method: str
    path: str
    fields: dict[str, str]
    body: bytes

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass
class Pop:
    """`answer(received)` gives the status; `reading` cleared makes it stop reading."""

    answer: Callable[[Received], int] = lambda _: 201
    requests: list[Received] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.changed = asyncio.Condition()
        self.reading = asyncio.Event()
        self.reading.set()
        self.connections = 0
        self._verifier = Verifier({KID: SECRET})
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()
        assert self.problems == []

    async def cut(self) -> None:
        """Reset every connection."""
        tasks = list(self._open)
        for task, writer in self._open.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def until(self, met: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait until `met()`, looking after each request."""
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(met)

    def paths(self, suffix: str = "") -> list[str]:
        return [got.path for got in self.requests if got.path.endswith(suffix)]

    def names(self) -> list[str]:
        return [got.name for got in self.requests if got.method == "PUT"]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        number, self.connections = self.connections, self.connections + 1
        self._open[task] = writer
        whole: list[Received] = []
        parser = httptools.HttpRequestParser(_Requests(number, whole))
        try:
            while data := await reader.read(65536):
                parser.feed_data(data)
                for received in whole:
                    await self._take(received, writer)
                whole.clear()
                await self.reading.wait()
        except httptools.HttpParserError as error:
            self.problems.append(f"malformed: {error}")
        except (ConnectionError, asyncio.CancelledError):
            pass  # the pusher went, or cut()
        finally:
            del self._open[task]
            writer.close()

    async def _take(self, received: Received, writer: asyncio.StreamWriter) -> None:
        self._check(received)
        status = self.answer(received)
        reason = REASONS.get(status, "No")
        length = "" if status == 204 else "Content-Length: 0\r\n"
        writer.write(f"HTTP/1.1 {status} {reason}\r\n{length}\r\n".encode())
        async with self.changed:
            self.requests.append(received)
            self.changed.notify_all()

    def _check(self, received: Received) -> None:
        try:
            self._verifier.verify(received.method, received.path, received.fields.items())
        except Exception as error:
            self.problems.append(f"{received.path}: {error!r}")
        digest = received.fields.get("edge-digest")
        if received.method == "PUT" and digest != xxhash.xxh3_128_hexdigest(received.body):
            self.problems.append(f"{received.path}: digest")


class _Requests:
    """httptools callbacks -> Received."""

    def __init__(self, connection: int, whole: list[Received]) -> None:
        self._connection = connection
        self._whole = whole

    def on_message_begin(self) -> None:
        self._fields: dict[str, str] = {}
        self._path = b""
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = "PUT" if "content-length" in self._fields else "DELETE"
        body = unpacked(self._fields, b"".join(self._body))
        path = self._path.decode()
        self._whole.append(Received(self._connection, method, path, self._fields, body))
