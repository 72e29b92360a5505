"""The site of routes of kind `http` in front of scripted origins, without a data plane: a small
stand-in accepts, reads heads, hands over, and takes back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from edgecache.control.guests import Guests
from edgecache.control.http1 import Limits
from edgecache.control.shelf import Shelf
from edgecache.control.site import Settings, Site
from edgecache.control.upstream import Patience, Upstreams
from edgecache.sources import Chain
from tests.routed import route
from tests.running import Answer, ask

KEEP_MAX = 1 << 20
LIMITS = Limits(body_bytes=1000, connections=200, forwards=True)


class Front:
    """The site's door; requests are made by threads, so that the loop is free to answer."""

    def __init__(self, site: Site, door: str) -> None:
        self.site = site
        self.door = door

    async def get(self, path: str, fields: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("GET", path, fields)

    async def ask(
        self, method: str, path: str, fields: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        given = dict(fields or {})
        return await asyncio.to_thread(ask, self.door, method, path, given, body or None)

    async def raw(self, *pieces: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self.door.split(":"))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer


class Plane:
    """Stands in for the data plane: accepts, reads heads, hands over, takes back."""

    def __init__(self, site: Site) -> None:
        self.guests = Guests(site.handle, self._again, LIMITS)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.door = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._tasks = {asyncio.create_task(self._accept())}

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            self._again(sock, b"", b"127.0.0.1")

    def _again(self, sock: socket.socket, data: bytes, client: bytes) -> None:
        self._tasks.add(asyncio.create_task(self._head(sock, data, client)))

    async def _head(self, sock: socket.socket, data: bytes, client: bytes) -> None:
        try:
            while b"\r\n\r\n" not in data:
                more = await asyncio.get_running_loop().sock_recv(sock, 65536)
                if not more:
                    sock.close()
                    return
                data += more
        except BaseException:
            sock.close()
            raise
        end = data.index(b"\r\n\r\n") + 4
        self.guests.take(sock, data[:end], data[end:], client)

    async def close(self) -> None:
        await self.guests.close(0.2)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()


@asynccontextmanager
async def front(*urls: str, chain: Chain | None = None) -> AsyncIterator[Front]:
    upstreams = Upstreams(urls, Patience(min_rate=0, status_fails=False))
    asked = route(upstreams, chain)
    settings = Settings(name="edge", id="edgecache-edge-00000000", object_max=KEEP_MAX)
    site = Site(lambda _: asked, Shelf(8 << 20), settings)
    plane = Plane(site)
    try:
        yield Front(site, plane.door)
    finally:
        await plane.close()
        await site.close()
        await asked.chain.close()
        await upstreams.close()
