"""A real ffmpeg publishes over RTMP through the router; a data centre records what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field

import pytest
import uvloop

from edgecache import amf, flv
from edgecache.control import relay
from edgecache.control.admission import Admission
from edgecache.control.ingest import IngestRouter, Limits
from edgecache.signing import Fields, Verifier, sign

pytestmark = pytest.mark.timeout(30)

KEY = "hunter2-secret-key"
SECRET = b"0123456789abcdef0123456789abcdef"
FFMPEG = shutil.which("ffmpeg") or "ffmpeg"


def _sign(method: str, target: str, fields: Fields = ()) -> str:
    return sign(method, target, fields, kid="k1", secret=SECRET)


@dataclass
class Upload:
    """One PUT as the data centre saw it."""

    target: str
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    writer: asyncio.StreamWriter | None = None

    def tags(self) -> list[flv.Tag]:
        return flv.FlvReader().feed(bytes(self.body))


class DataCentre:
    """Scripted: answers /api/publish for KEY, records chunked PUTs."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.asked = 0
        self.put_status = 100
        self.reads = asyncio.Event()
        self.reads.set()
        self.verifier = Verifier({"k1": SECRET})
        self.changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, met: Callable[[], object], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(met)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._request(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        fields = [tuple(line.split(": ", 1)) for line in lines[1:] if line]
        self.verifier.verify(method, target, fields)  # type: ignore[arg-type]
        if method == "POST":
            length = next(int(value) for name, value in fields if name == "Content-Length")
            asked = json.loads(await reader.readexactly(length))
            self.asked += 1
            told = {"stream": "cam", "ingest": [f"http://127.0.0.1:{self.port}/ingest/cam"]}
            answer = b"200 OK", json.dumps(told).encode()
            status, body = answer if asked["key"] == KEY else (b"403 Forbidden", b"bad stream key")
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
            return
        if self.put_status != 100:
            writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self.put_status)
            return
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        upload = Upload(target, writer=writer)
        self.uploads.append(upload)
        await self._body(reader, upload)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def _body(self, reader: asyncio.StreamReader, upload: Upload) -> None:
        while size := int(await reader.readline(), 16):
            await self.reads.wait()
            upload.body += (await reader.readexactly(size + 2))[:-2]
            async with self.changed:
                self.changed.notify_all()
        await reader.readline()
        upload.whole = True
        async with self.changed:
            self.changed.notify_all()


@pytest.fixture
def centre() -> DataCentre:
    return DataCentre()


def on_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run an async test on uvloop, as the daemon does."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(**fixtures), 20))

    return run


@dataclass
class Door:
    router: IngestRouter
    port: int

    def url(self, key: str = KEY) -> str:
        return f"rtmp://127.0.0.1:{self.port}/live/{key}"


@contextlib.asynccontextmanager
async def door(centre: DataCentre, limits: Limits | None = None) -> AsyncIterator[Door]:
    await centre.start()
    base = f"http://127.0.0.1:{centre.port}"
    admission = Admission(data_centres=[base], sign=_sign)
    router = IngestRouter(admission=admission, sign=_sign, limits=limits)
    listener = socket.create_server(("127.0.0.1", 0))
    await router.start(listener)
    try:
        yield Door(router, listener.getsockname()[1])
    finally:
        await router.stop()
        await centre.stop()
    counts = router.counts
    closed = sum(count for name, count in counts.items() if name.startswith("closed."))
    assert router.publishers == 0
    assert counts["accepted"] == closed


class Publisher:
    """A running ffmpeg; its stderr is always read, so that it cannot block."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        self._process = process
        self._errors = asyncio.create_task(process.stderr.read())
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def finish(self) -> bytes:
        """What it complained of; returns when it is gone."""
        errors = await asyncio.shield(self._errors)
        await self._process.wait()
        return errors

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.finish()


@contextlib.asynccontextmanager
async def publisher(
    url: str, *, seconds: float = 60.0, video: tuple[str, ...] = (), audio: bool = True
) -> AsyncIterator[Publisher]:
    sound = ("-f", "lavfi", "-i", "sine=1000:r=44100") if audio else ()
    codec = ("-c:a", "aac", "-b:a", "64k") if audio else ()
    process = await asyncio.create_subprocess_exec(
        *(FFMPEG, "-hide_banner", "-loglevel", "error", "-re"),
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25", *sound, "-t", str(seconds)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-b:v", "300k", *video),
        *(*codec, "-f", "flv", "-flush_packets", "1", url),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Publisher(process)
    try:
        yield running
    finally:
        await running.kill()


def _message(body: bytes, *, kind: int) -> bytes:
    """An RTMP message in one chunk, for a chunk size that is large enough."""
    return b"\x03\0\0\0" + len(body).to_bytes(3, "big") + bytes((kind, 0, 0, 0, 0)) + body


async def flood(port: int) -> None:
    """A publisher that sends as fast as it may."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    commands: list[tuple[amf.Value, ...]] = [
        ("connect", 1, {"app": "live"}),
        ("createStream", 2, None),
        ("publish", 3, None, KEY, "live"),
    ]
    writer.write(b"\x03" + bytes(2 * 1536))
    writer.write(_message((1 << 20).to_bytes(4, "big"), kind=1))
    for values in commands:
        writer.write(_message(amf.encode(*values), kind=20))
    try:
        await reader.readuntil(b"NetStream.Publish.Start")
        frame = _message(b"\x17\x01" + bytes(1 << 16), kind=flv.VIDEO)
        while True:
            writer.write(frame)
            await writer.drain()
    finally:
        writer.transport.abort()


@on_loop
async def test_h264_and_aac_with_b_frames_arrive_whole(centre: DataCentre) -> None:
    async with door(centre) as at:
        b_frames = ("-bf", "2", "-tune", "film")
        async with publisher(at.url(), seconds=2, video=b_frames) as ffmpeg:
            assert await ffmpeg.finish() == b""
            assert ffmpeg.returncode == 0
        await centre.until(lambda: centre.uploads and centre.uploads[0].whole)
    tags = centre.uploads[0].tags()
    video = [tag for tag in tags if tag.kind == flv.VIDEO and tag.packet == flv.CODED]
    audio = [tag for tag in tags if tag.kind == flv.AUDIO and tag.packet == flv.CODED]
    assert centre.uploads[0].target.partition("?")[0] == "/ingest/cam"
    assert len(video) == 50
    assert 85 <= len(audio) <= 89
    assert [tag.kind for tag in tags[:3]] == [flv.SCRIPT, flv.VIDEO, flv.AUDIO]
    assert tags[0].body.startswith(b"\x02\x00\x0aonMetaData")
    assert [tag.timestamp for tag in video] == sorted(tag.timestamp for tag in video)
    assert any(int.from_bytes(tag.body[2:5], "big") for tag in video)  # composition times survive
    assert at.router.counts["bytes_out"] == len(centre.uploads[0].body) - len(flv.HEADER)
    assert at.router.counts["tags"] == len(tags)


@on_loop
async def test_video_only_arrives(centre: DataCentre) -> None:
    async with door(centre) as at:
        async with publisher(at.url(), seconds=1, audio=False) as ffmpeg:
            await ffmpeg.finish()
            assert ffmpeg.returncode == 0
        await centre.until(lambda: centre.uploads and centre.uploads[0].whole)
    assert {tag.kind for tag in centre.uploads[0].tags()} == {flv.SCRIPT, flv.VIDEO}


@on_loop
async def test_wrong_key_is_told_so_at_once(
    centre: DataCentre, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with door(centre) as at:
        async with asyncio.timeout(2.0), publisher(at.url("wrong-but-private")) as ffmpeg:
            errors = await ffmpeg.finish()
        assert ffmpeg.returncode not in (0, None)
        assert b"bad stream key" in errors
        assert at.router.counts["rejected.bad_key"] == 1
    assert centre.uploads == []
    assert "wrong-but-private" not in caplog.text


@on_loop
async def test_busy_stream_is_told_so(centre: DataCentre) -> None:
    centre.put_status = 409
    async with door(centre) as at, publisher(at.url()) as ffmpeg:
        assert b"being published already" in await ffmpeg.finish()
        assert at.router.counts["rejected.busy"] == 1


@on_loop
async def test_data_centre_lost_for_a_moment_gets_the_gop_again(centre: DataCentre) -> None:
    async with door(centre) as at, publisher(at.url()) as ffmpeg:
        await centre.until(lambda: centre.uploads and len(centre.uploads[0].body) > 50_000)
        writer = centre.uploads[0].writer
        assert writer is not None
        writer.transport.abort()
        await centre.until(
            lambda: len(centre.uploads) == 2 and len(centre.uploads[1].body) > 50_000
        )
        assert ffmpeg.returncode is None
        assert at.router.counts["reconnects"] == 1
        tags = centre.uploads[1].tags()
    assert [tag.kind for tag in tags[:3]] == [flv.SCRIPT, flv.VIDEO, flv.AUDIO]
    first = next(tag for tag in tags if tag.kind == flv.VIDEO and tag.packet == flv.CODED)
    assert first.is_keyframe
    # No hole: what was on its way when the connection broke is held and sent again.
    seen = {tag.timestamp for tag in centre.uploads[0].tags() if tag.kind == flv.VIDEO}
    assert first.timestamp <= max(seen) + 40


@on_loop
async def test_data_centre_that_stays_away_ends_the_publisher(centre: DataCentre) -> None:
    limits = Limits(relay=relay.Limits(away_s=0.5, connect_s=0.2))
    async with door(centre, limits) as at:
        async with publisher(at.url()) as ffmpeg:
            await centre.until(lambda: centre.uploads and len(centre.uploads[0].body) > 20_000)
            await centre.stop()
            async with asyncio.timeout(8):
                await ffmpeg.finish()
            assert ffmpeg.returncode not in (0, None)
        assert at.router.counts["rejected.away"] == 1


@on_loop
async def test_known_key_works_while_the_catalogue_is_away(centre: DataCentre) -> None:
    async with door(centre) as at:
        async with publisher(at.url(), seconds=0.5) as ffmpeg:
            await ffmpeg.finish()
        admission = at.router.admission
        admission._data_centres.clear()
        async with publisher(at.url(), seconds=0.5) as ffmpeg:
            await ffmpeg.finish()
            assert ffmpeg.returncode == 0
        async with publisher(at.url("another")) as ffmpeg:
            errors = await ffmpeg.finish()
        assert b"no data centre answers" in errors
        assert admission.counts["remembered"] == 1
    assert len(centre.uploads) == 2


@on_loop
async def test_slow_data_centre_slows_the_publisher(centre: DataCentre) -> None:
    """Nothing is buffered past the bounds: reading from the publisher stops."""
    async with door(centre) as at:
        centre.reads.clear()
        flooding = asyncio.create_task(flood(at.port))
        await _until(lambda: at.router.publishers == 1)
        (session,) = at.router._publishers
        stopped = 0
        while not stopped or at.router.counts["bytes_in"] > stopped:  # sockets hold some, in turns
            stopped = at.router.counts["bytes_in"]
            await asyncio.sleep(0.3)  # time in which hundreds of MB would come
        assert not session._transport.is_reading()
        centre.reads.set()
        await _until(lambda: at.router.counts["bytes_in"] > stopped + (32 << 20))
        flooding.cancel()


@on_loop
async def test_hung_publisher_is_let_go_and_handshake_has_a_deadline(centre: DataCentre) -> None:
    """Each after more time than an ffmpeg on a busy machine takes to begin, or to go on."""
    async with door(centre, Limits(publish_s=1.5, idle_s=1.5)) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        async with publisher(at.url()) as ffmpeg:
            await centre.until(lambda: centre.uploads and len(centre.uploads[0].body) > 20_000)
            os.kill(ffmpeg.pid, signal.SIGSTOP)
            await centre.until(lambda: centre.uploads[0].whole)
            os.kill(ffmpeg.pid, signal.SIGCONT)
        async with asyncio.timeout(2):
            assert await reader.read() == b""
        writer.close()
        assert at.router.counts["rejected.deadline"] == 1
        assert at.router.counts["rejected.silent"] == 1


@on_loop
async def test_stop_finishes_the_upload(centre: DataCentre) -> None:
    async with door(centre) as at, publisher(at.url()) as ffmpeg:
        await centre.until(lambda: centre.uploads and len(centre.uploads[0].body) > 20_000)
        await at.router.stop()
        assert centre.uploads[0].whole
        await ffmpeg.finish()
        assert ffmpeg.returncode not in (0, None)


async def _until(met: Callable[[], object], timeout_s: float = 8.0) -> None:
    """For states without an event of their own."""
    async with asyncio.timeout(timeout_s):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
