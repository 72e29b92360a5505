"""edgecache/control/trackdoor.py: requests of a track each, on their way to scripted data
centres."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

import aiohttp
from aiohttp import web

from edgecache.control.admission import Admission
from edgecache.control.upload import Uploads
from tests.looped import eventually, looped

INIT = struct.pack(">I4s4x", 12, b"ftyp") + struct.pack(">I4s4x", 12, b"moov")
SEGMENT = struct.pack(">I4s4x", 12, b"styp") + struct.pack(">I4s4x", 12, b"moof")


@dataclass
class Centre:
    """A data centre. got: (track, address, body) of each request that it took."""

    got: list[tuple[str, str, bytes]] = field(default_factory=list)
    asked: int = 0
    refuses: int = 0
    runner: web.AppRunner | None = None
    url: str = ""

    async def publish(self, request: web.Request) -> web.Response:
        self.asked += 1
        if (await request.json())["key"] != "cam.key":
            return web.Response(status=403, text="bad stream key")
        return web.json_response({"stream": "cam", "ingest": [f"{self.url}/ingest/cam/id"]})

    async def ingest(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.refuses:
            return web.Response(status=self.refuses, text="no, for a reason")
        told = request.headers
        self.got.append((unquote(told["Edge-Track"]), told["Edge-Publisher"], body))
        return web.Response()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.post("/api/publish", self.publish)])
        app.add_routes([web.put("/ingest/cam/id", self.ingest)])
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        sock = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self.runner, sock).start()
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.runner is not None
        await self.runner.cleanup()


@dataclass
class Door:
    port: int
    http: aiohttp.ClientSession
    url: str
    centres: tuple[Centre, Centre]
    uploads: Uploads

    async def send(
        self, path: str, body: bytes = SEGMENT, method: str = "PUT", **fields: str
    ) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        pieces = _pieces(body) if method != "DELETE" else None
        async with self.http.request(method, self.url + path, data=pieces, headers=named) as said:
            return said.status, (await said.text()).strip()


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """In a cut that no box has, chunked."""
    for at in range(0, len(body), 5):
        yield body[at : at + 5]


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Door]:
    async with Centre() as near, Centre() as far, aiohttp.ClientSession() as http:
        admission = Admission(data_centres=[near.url, far.url], sign=lambda *_: "")
        uploads = Uploads(admission=admission, sign=lambda *_: "")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            accepting = asyncio.create_task(_accept(listener, uploads))
            port = listener.getsockname()[1]
            url = f"http://127.0.0.1:{port}/publish/"
            yield Door(port, http, url, (near, far), uploads)
            accepting.cancel()
            await asyncio.wait([accepting])
        await uploads.stop()
        assert uploads.publishers == 0


async def _accept(listener: socket.socket, uploads: Uploads) -> None:
    loop = asyncio.get_running_loop()
    while True:
        sock, _ = await loop.sock_accept(listener)
        uploads.take(sock, await loop.sock_recv(sock, 65536))


@looped
async def test_each_segment_comes_with_its_init_section_wherever_it_comes_to() -> None:
    async with door() as at:
        near, far = at.centres
        assert await at.send("cam.key/init-stream0.m4s", INIT) == (200, "taken")
        await at.send("cam.key/chunk-stream0-00001.m4s")
        await at.send("cam.key/chunk-stream1-00001.m4s")
        await at.send("cam.key/live.mpd", b"<MPD/>")
        assert near.got == [
            ("stream-0", "127.0.0.1", INIT),
            ("stream-0", "127.0.0.1", INIT + SEGMENT),
            ("chunk-stream1-00001.m4s", "127.0.0.1", SEGMENT),
            ("live.mpd", "127.0.0.1", b"<MPD/>"),
        ]
        assert (near.asked, far.asked) == (1, 1), "who is admitted is so while he sends"
        assert near.runner is not None
        await near.runner.cleanup()  # it is lost
        assert await at.send("cam.key/chunk-stream0-00002.m4s") == (200, "taken")
        await at.send("cam.key/chunk-stream0-00003.m4s")
        assert far.got == 2 * [("stream-0", "127.0.0.1", INIT + SEGMENT)]


@looped
async def test_a_request_of_all_of_a_track_is_passed_on_as_it_is() -> None:
    async with door() as at:
        bearer = {"Authorization": "Bearer cam.key"}
        whole = INIT + SEGMENT
        for path in ("Streams(video.cmfv)", "cam.key/Streams(video.cmfv)"):
            assert await at.send(path, whole, "POST", **bearer) == (200, "taken")
        assert at.centres[0].got == 2 * [("video", "127.0.0.1", whole)]
        assert at.uploads.counts["bytes_in"] == at.uploads.counts["bytes_out"] == 2 * len(whole)
        await at.send("cam.key/video.cmfv", SEGMENT)
        assert at.centres[0].got[-1][2] == SEGMENT, "only what came by itself is held"


@looped
async def test_who_may_not_is_told_why() -> None:
    async with door() as at:
        assert await at.send("cam.other/video.cmfv") == (403, "bad stream key")
        assert (await at.send("cam.key/video.cmfv", Content_Type="video/mp2t"))[0] == 415
        assert (await at.send("cam.key/video.cmfv", method="PATCH"))[0] == 405
        assert (await at.send("cam.key/" + 300 * "v"))[0] == 400
        # what an encoder has no more use for was never kept, but who asks has to have the key
        assert await at.send("cam.key/chunk-stream0-00001.m4s", method="DELETE") == (200, "taken")
        assert (await at.send("cam.other/1.m4s", method="DELETE"))[0] == 403
        for status in (400, 403, 409, 410, 412, 415, 503):
            at.centres[0].refuses = status
            assert await at.send("cam.key/1.m4s") == (status, "no, for a reason")
        assert at.centres[1].got == at.centres[0].got == []


@looped
async def test_one_request_that_is_refused_is_nothing_to_another() -> None:
    """A track of text is refused while one of pictures is on its way."""
    async with door() as at:
        await at.send("cam.key/v.mp4", INIT)
        go_on = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield SEGMENT[:4]
            await go_on.wait()
            yield SEGMENT[4:]

        async def picture() -> int:
            url = f"{at.url}cam.key/v-1.mp4"
            async with at.http.put(url, data=slowly()) as said:
                return said.status

        sending = asyncio.create_task(picture())
        await eventually(lambda: at.uploads.publishers == 1)
        at.centres[0].refuses = 415
        assert (await at.send("cam.key/text.mp4", INIT))[0] == 415
        at.centres[0].refuses = 0
        go_on.set()
        assert await sending == 200
        assert at.centres[0].got[-1][2] == INIT + SEGMENT


@looped
async def test_a_sender_may_close_behind_the_last_byte() -> None:
    """ffmpeg does, and its segments were lost now and then: a body that has come is whole."""
    async with door() as at:
        body = INIT + 40 * SEGMENT
        fields = "Host: pop\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        for number in range(8):
            _, writer = await asyncio.open_connection("127.0.0.1", at.port)
            head = f"PUT /publish/cam.key/v{number}.mp4 HTTP/1.1\r\n{fields}"
            writer.write(head.encode() + chunk[:-5])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(chunk[-5:])
            writer.close()
        near = at.centres[0]
        await eventually(lambda: len(near.got) == 8)
        assert {got[2] for got in near.got} == {body}
        assert not {name for name in at.uploads.counts if name.startswith("rejected")}
