"""edgecache/control/upload.py: its bounds, with connections that are handed over as by a worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from edgecache.control.admission import Admission
from edgecache.control.upload import Limits, Uploads
from tests.looped import eventually, looped

HEAD = "PUT /publish/cam.key HTTP/1.1\r\nHost: pop\r\nContent-Type: video/mp2t\r\n"
CHUNKED = HEAD + "Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Door:
    uploads: Uploads
    url: str
    heard: bytearray  # by the data centre

    async def ask(self, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = int(self.url.rpartition(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        return reader, writer


@contextlib.asynccontextmanager
async def door(limits: Limits) -> AsyncIterator[Door]:
    """Uploads behind a listener that reads a head first; a data centre that takes everything."""
    heard = bytearray()

    async def centre(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                told = json.dumps({"stream": "cam", "ingest": [f"{base}/ingest/cam"]})
                writer.write(
                    f"HTTP/1.1 200 OK\r\nContent-Length: {len(told)}\r\n\r\n{told}".encode()
                )
            else:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                while not heard.endswith(b"0\r\n\r\n"):
                    heard.extend(await reader.read(65536) or b"cut0\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(centre, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    admission = Admission(data_centres=[base], sign=lambda *_: "")
    uploads = Uploads(admission=admission, sign=lambda *_: "", limits=limits)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def accept() -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            uploads.take(sock, await loop.sock_recv(sock, 65536))

    accepting = asyncio.create_task(accept())
    try:
        yield Door(uploads, f"http://127.0.0.1:{listener.getsockname()[1]}/publish/", heard)
    finally:
        accepting.cancel()
        await asyncio.wait([accepting])
        listener.close()
        await uploads.stop()
        server.close()
    counts = uploads.counts
    closed = sum(count for name, count in counts.items() if name.startswith("closed."))
    assert uploads.publishers == 0
    assert counts["accepted"] == closed


@looped
async def test_silence_ends_a_body_and_what_came_is_kept() -> None:
    async with door(Limits(idle_s=0.1)) as at:
        reader, writer = await at.ask(CHUNKED + "3\r\nabc\r\n")
        said = (await reader.read()).decode()
        writer.close()
        assert said.startswith("HTTP/1.1 408")
        assert said.endswith("nothing was sent for 0.1 s\n")
        assert at.heard == b"3\r\nabc\r\n0\r\n\r\n"
        assert at.uploads.counts["rejected.silent"] == 1


@looped
async def test_one_more_than_there_may_be() -> None:
    async with door(Limits(publishers=1)) as at:
        _, first = await at.ask(CHUNKED + "3\r\nabc\r\n")
        await eventually(lambda: at.heard)
        reader, second = await at.ask(CHUNKED)
        assert (await reader.read()).startswith(b"HTTP/1.1 503")
        second.close()
        first.write(b"0\r\n\r\n")
        await eventually(lambda: at.uploads.publishers == 0)
        first.close()


@looped
async def test_a_body_that_is_cut_has_ended_for_the_data_centre() -> None:
    async with door(Limits()) as at:
        _, writer = await at.ask(CHUNKED + "3\r\nabc\r\n")
        await eventually(lambda: at.heard)
        writer.transport.abort()
        await eventually(lambda: at.heard == b"3\r\nabc\r\n0\r\n\r\n")
        await eventually(lambda: at.uploads.publishers == 0)


@looped
async def test_a_server_that_stops_says_so_and_finishes_the_body() -> None:
    async with door(Limits()) as at:
        reader, writer = await at.ask(CHUNKED + "3\r\nabc\r\n")
        await eventually(lambda: at.heard)
        await at.uploads.stop()
        said = await reader.read()
        writer.close()
        assert said.startswith(b"HTTP/1.1 503")
        assert said.endswith(b"this server is going away\n")
        assert at.heard == b"3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize("hello", ["", '["key"]', '{"key": 5}', "{"])
@looped
async def test_a_page_that_does_not_say_who_it_is(hello: str) -> None:
    async with (
        door(Limits(key_s=10.0 if hello else 0.2)) as at,
        aiohttp.ClientSession() as http,
        http.ws_connect(at.url) as ws,
    ):
        if hello:
            await ws.send_str(hello)
        told = json.loads((await ws.receive(5)).data)
        assert told["again"] is (not hello)  # nothing was wrong with what was not said
        assert (await ws.receive(5)).type == aiohttp.WSMsgType.CLOSE
