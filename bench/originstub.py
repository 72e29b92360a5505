"""A stub origin that counts: `python -m bench.originstub ADDRESS PORT`.

Serves the bodies of `bodies.py`, immediate, late or trickled, and remembers per path how often it
was asked and when (wall clock, ns: the clock of the receivers' kernel stamps) each chunk of the
first answer was written. GET /_stub/paths shows both as JSON; GET /_stub/forget clears them.
Under /show it plays one live stream by the clock, for viewers that really play (swarm/origin.py).

Bounds: bodies <= 64 MiB; the table holds as many paths as a run asks for. It is no part of any
measured path except a miss, where its write time is the zero of every lag.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sys
import time
import zlib
from dataclasses import dataclass, field
from typing import Final, cast

import httptools
import uvloop
import xxhash

from .bodies import Blob, content_type, parse
from .errors import BenchError
from .swarm.origin import Origin, Show, answer

# 3 Mb/s and separate audio of 128 kb/s, in parts of a third of a second, segments of two.
SHOW: Final = Show(
    part_s=1 / 3, parts=6, part_bytes=125_000, audio_bytes=5_333, tracks=("video", "audio"),
    window=10, history_s=30.0,
)  # fmt: skip
_PIPELINE_MAX: Final = 64  # requests waiting on one connection; past it the connection is cut


@dataclass
class Asked:
    requests: int = 0
    writes_ns: list[int] = field(default_factory=list)


@functools.lru_cache(maxsize=256)
def _body(blob: Blob) -> bytes:
    return blob.body()


class Viewer(asyncio.Protocol):
    """One kept-alive connection of a cache under test."""

    def __init__(self, asked: dict[str, Asked], show: Origin) -> None:
        self._asked = asked
        self._show = show
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._queue: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue(_PIPELINE_MAX)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        self._serving = asyncio.ensure_future(self._serve())

    def connection_lost(self, _error: Exception | None) -> None:
        self._serving.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, asyncio.QueueFull):
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        self._queue.put_nowait((self._parser.get_method(), self._url))

    async def _serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                method, url = await self._queue.get()
                path, _, query = url.decode("latin-1").partition("?")
                await self._answer(method, path, query)

    async def _answer(self, method: bytes, path: str, query: str) -> None:
        if path.startswith("/_stub/"):
            self._control(path)
            return
        if path.startswith("/show/"):
            self._asked.setdefault(path, Asked()).requests += 1
            self._play(path, await answer(self._show, path, query))
            return
        try:
            blob = parse(path)
        except BenchError:
            self._write_json(404, {})
            return
        asked = self._asked.setdefault(path, Asked())
        asked.requests += 1
        # The first answer is when the bytes were to be had; a cache that asks again waits longer.
        writes_ns = asked.writes_ns if asked.requests == 1 else []
        await self._send(blob, writes_ns, body=method != b"HEAD")

    def _play(self, path: str, body: bytes | None) -> None:
        """A playlist is over with the next part, anything else stays."""
        if body is None:
            self._write_json(404, {})
            return
        playlist = path.endswith(".m3u8")
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type(path)}\r\n"
            f'Content-Length: {len(body)}\r\nETag: "{xxhash.xxh3_128_hexdigest(body)}"\r\n'
            f"Cache-Control: public, max-age={1 if playlist else 3600}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)

    async def _send(self, blob: Blob, writes_ns: list[int], *, body: bool) -> None:
        content, head = _body(blob), self._head(blob)
        if not body:
            self._transport.write(head)
            return
        gap_s = blob.over_ms / 1000 / max(1, blob.chunks - 1)
        began, start = time.monotonic() + blob.delay_ms / 1000, 0
        for number, end in enumerate(blob.chunk_ends()):
            if blob.delay_ms or number:
                await asyncio.sleep(max(0.0, began + number * gap_s - time.monotonic()))
            writes_ns.append(time.time_ns())
            self._transport.write((b"" if number else head) + content[start:end])
            start = end

    def _head(self, blob: Blob) -> bytes:
        return (
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type(blob.path)}\r\n"
            f"Content-Length: {blob.size}\r\nCache-Control: public, max-age=3600\r\n"
            f'ETag: "{zlib.crc32(blob.path.encode()):x}"\r\n'
            "Last-Modified: Sat, 01 Nov 2025 00:00:00 GMT\r\n\r\n"
        ).encode()

    def _control(self, path: str) -> None:
        if path == "/_stub/forget":
            self._asked.clear()
        self._write_json(
            200, {p: {"requests": a.requests, "writes_ns": a.writes_ns}
                  for p, a in self._asked.items()}
        )  # fmt: skip

    def _write_json(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def serve(address: str, port: int) -> None:
    asked: dict[str, Asked] = {}
    loop = asyncio.get_running_loop()
    show = Origin(SHOW, began=loop.time())
    server = await loop.create_server(lambda: Viewer(asked, show), address, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
