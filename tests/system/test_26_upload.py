"""Broadcasters over HTTP: real publishers to a real POP's viewers' door, to a real origin."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from origin.ffmpeg import find
from origin.model import PartObject, Publication
from origin.server import Origin
from origin.stream import LiveStream
from tests.looped import eventually, looped
from tests.running import KID, SECRET, Edge
from tests.serving_origin import child, config

pytestmark = pytest.mark.timeout(60)

FFMPEG = find().path
SOURCE = (
    *("-re", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=15"),
    *("-re", "-f", "lavfi", "-i", "sine=1000:r=48000"),
)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-g", "100")  # as browsers without H.264 do
CLUSTERS = ("-cluster_time_limit", "250", "-live", "1")
FORMS = {
    "video/mp2t": (*H264, "-c:a", "aac", "-f", "mpegts"),
    "video/mp4": (*H264, "-c:a", "aac", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"),
    "video/x-matroska": (*H264, "-c:a", "libopus", "-f", "matroska"),
    "video/webm": (*VP8, "-c:a", "libopus", "-f", "webm"),
}


def site_of(test: Callable[[Site], object]) -> Callable[[], None]:
    """An async test of a site."""

    async def run() -> None:
        async with site() as at:
            await test(at)  # type: ignore[misc]

    return looped(run, 50.0)


@dataclass
class Site:
    """An origin in this process, a POP's daemon in front of it."""

    origin: Origin
    edge: Edge
    key: str
    parts: list[PartObject] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.edge.http}/publish/"

    @property
    def live(self) -> LiveStream:
        found = self.origin._ingest.stream("cam")
        assert found is not None
        return found

    async def curl(
        self, *arguments: str, key: str = "", path: str = "", sends: str = ""
    ) -> tuple[int, str]:
        """(status, what the POP said) of a GET, or a PUT of what the file `sends` holds."""
        bearer = ("-H", f"Authorization: Bearer {key}") if key else ()
        body = ("-T", "-") if sends else ()
        command = ("curl", "-sS", "-m", "10", "-w", "\n%{http_code}", *bearer, *body, *arguments)
        return await asyncio.to_thread(_said, (*command, self.url + path), sends or "/dev/null")


def _said(command: Sequence[str], sends: str) -> tuple[int, str]:
    with Path(sends).open("rb") as source:
        done = subprocess.run(command, stdin=source, stdout=subprocess.PIPE, check=False)
    line, _, status = done.stdout.decode().strip().rpartition("\n")
    return int(status), line.strip()


@contextlib.asynccontextmanager
async def site(there: Sequence[str] = (), here: Sequence[str] = ()) -> AsyncIterator[Site]:
    """there, here: what the origin and the POP are told besides."""
    rung = "ladder.90p={width=160,height=90,bitrate='100kbps',preset='ultrafast'}"
    origin = Origin(config(f"keys.{KID}.secret={SECRET}", "live.segment=1s", rung, *there))
    await origin.start()
    options = (f"origin.urls=http://127.0.0.1:{origin.port}", "ingest.http=true", "log.access=true")
    edge = await asyncio.to_thread(Edge((*options, *here)).__enter__)
    at = Site(origin, edge, origin._catalog.create_key("cam"))
    publish = origin._ingest._publish

    def both(stream: str, publication: Publication) -> None:
        publish(stream, publication)
        if isinstance(publication, PartObject) and publication.track == "90p":
            at.parts.append(publication)

    origin._ingest._publish = both
    try:
        yield at
        code = await asyncio.to_thread(edge.stop)
        assert code == 0, "".join(edge.lines[-20:])
        assert at.key not in "".join(edge.lines)
    finally:
        await asyncio.to_thread(edge.__exit__)
        await origin.stop()


def more_than(parts: list[PartObject], count: int) -> bool:
    return len(parts) > count


def publisher(*output: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    command = (FFMPEG, "-hide_banner", "-loglevel", "error", "-nostdin", *SOURCE, *output)
    return child(*command, stderr=asyncio.subprocess.DEVNULL)


@site_of
async def test_who_may_not_is_told_why_before_it_sends(at: Site) -> None:
    endless, media = "/dev/zero", ("-H", "Content-Type: video/mp2t")
    needed = "a stream key is needed: Authorization: Bearer KEY"
    assert await at.curl(*media, sends=endless) == (401, needed)
    assert await at.curl(*media, sends=endless, key="cam.wrong") == (403, "bad stream key")
    assert await at.curl(*media, sends=endless, path="cam.wrong") == (403, "bad stream key")
    status, line = await at.curl(sends=endless, key=at.key)
    assert (status, line.partition(" found")[0]) == (415, "Content-Type:")
    assert (await at.curl(key=at.key))[0] == 405
    garbage = await at.curl(*media, sends=__file__, key=at.key)
    assert garbage == (400, "not readable as MPEG-TS")
    counts = at.edge.metrics()
    assert counts['edge_upload_rejected_total{reason="bad_key"}'] == 2
    assert counts["edge_upload_accepted_total"] == 6
    assert counts["edge_publishers"] == 0


@site_of
async def test_each_form_is_a_publisher_like_any_other(at: Site) -> None:
    """One after the other, each goes on with the stream of the one before."""
    for number, (kind, output) in enumerate(FORMS.items()):
        method, target = ("PUT", at.url) if number % 2 else ("POST", at.url + at.key)
        bearer = f"Authorization: Bearer {at.key}\r\nContent-Type: {kind}\r\n"
        fields = bearer if number % 2 else f"Content-Type: {kind}\r\n"
        sent = (*output, "-method", method, "-headers", fields, target)
        enough = len(at.parts) + 8
        async with publisher(*sent):
            await eventually(functools.partial(more_than, at.parts, enough), 20)
            assert at.live.describe()["source"] == "avc1 160x90, aac"
            if not number:
                media = ("-H", f"Content-Type: {kind}")
                second = await at.curl(*media, sends="/dev/zero", key=at.key)
                assert second == (409, "this stream is being published already")
        await eventually(lambda: at.live.state == "reconnecting")
    restarts = sorted({part.path.split("/")[3] for part in at.parts})
    assert restarts == [at.live.epoch]
    assert at.live.presentation is not None
    assert len(at.live.presentation.timeline.generations) == len(FORMS)
    numbers = sorted({part.msn for part in at.parts})
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Three seconds as browsers record them, by type: clusters a quarter second long."""
    folder = tmp_path_factory.mktemp("recorded")
    source = [part for part in SOURCE if part != "-re"]
    files = {kind: folder / kind.replace("/", ".") for kind in ("video/x-matroska", "video/webm")}
    outputs = [
        part
        for kind, path in files.items()
        for part in ("-map", "0", "-map", "1", "-t", "3", *FORMS[kind], *CLUSTERS, str(path))
    ]
    command = [FFMPEG, "-loglevel", "error", *source, *outputs]
    subprocess.run(command, check=True, timeout=30, stdin=subprocess.DEVNULL)
    return {kind: path.read_bytes() for kind, path in files.items()}


def test_a_page_says_who_it_is_and_sends_messages(recorded: dict[str, bytes]) -> None:
    matroska = recorded["video/x-matroska"]

    async def said(ws: aiohttp.ClientWebSocketResponse) -> dict[str, object]:
        return dict(json.loads((await ws.receive(10)).data))

    @site_of
    async def run(at: Site) -> None:
        hello = {"key": at.key, "type": "video/x-matroska;codecs=avc1,opus", "title": "Über uns"}
        async with aiohttp.ClientSession() as http:
            async with http.ws_connect(at.url) as ws:
                await ws.send_json({**hello, "key": "cam.wrong"})
                assert await said(ws) == {"error": "bad stream key", "again": False}
            async with http.ws_connect(at.url) as ws:
                await ws.send_str("nonsense")
                assert (await said(ws))["again"] is False
            async with http.ws_connect(at.url) as ws:
                await ws.send_json({**hello, "type": "video/webm;codecs=vp8,opus"})
                assert await said(ws) == {"stream": "cam"}
                await ws.send_bytes(recorded["video/webm"])
                await eventually(lambda: len(at.parts) > 4)
                assert at.live.describe()["source"] == "avc1 160x90, aac"
            await eventually(lambda: at.live.state == "reconnecting")
            before = len(at.parts)
            async with http.ws_connect(at.url) as ws:
                await ws.send_json(hello)
                assert await said(ws) == {"stream": "cam"}
                for begin in range(0, len(matroska), 5000):
                    await ws.send_bytes(matroska[begin : begin + 5000])
                await ws.send_str("17")
                assert await said(ws) == {"t": "17", "received": len(matroska)}
                await eventually(lambda: len(at.parts) > before + 8)
                async with http.get(f"http://{at.edge.http}/api/streams") as answer:
                    assert (await answer.json())["streams"][0]["title"] == "Über uns"
                async with http.ws_connect(at.url) as second:
                    await second.send_json(hello)
                    refused = await said(second)
                    assert refused["again"] is True
                    assert "published already" in str(refused["error"])
                # the POP goes away, and says so
                stopping = asyncio.create_task(asyncio.to_thread(at.edge.stop))
                assert await said(ws) == {"error": "this server is going away", "again": True}
                await stopping
            await eventually(lambda: at.live.state == "reconnecting")

    run()
