"""A real encoder under a live stream: what comes out, and what happens when it dies or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path

import pytest
import uvloop

from origin import encoder, ffmpeg, ladder, testpattern
from origin.encoding import Settings
from origin.ingest import Ingest
from origin.model import PartObject, PlaylistVersion, Publication
from origin.receive import RefusedError, Result, receive
from origin.stream import LiveStream

SMALL = ladder.Plan(
    rungs=(
        ladder.Rung(track="180p", width=320, height=180, bitrate=250_000, preset="ultrafast"),
        ladder.Rung(track="90p", width=160, height=90, bitrate=100_000, preset="ultrafast"),
    )
)
PATTERN = testpattern.Pattern(width=320, height=180, bitrate=400_000)
EPOCH = "t3d0ab"
SETTINGS = Settings(plan=SMALL, reconnect_s=20.0)


def on_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run an async test on uvloop, bounded in time."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(**fixtures), 30))

    return run


@pytest.fixture(scope="module")
def tool() -> ffmpeg.Ffmpeg:
    return ffmpeg.find()


class Output:
    """Everything that was published, with arrival times."""

    def __init__(self) -> None:
        self.items: list[Publication] = []
        self.parts: list[tuple[float, PartObject]] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, publications: Sequence[Publication]) -> None:
        self.items += publications
        now = time.monotonic()
        self.parts += [(now, item) for item in publications if isinstance(item, PartObject)]
        task = asyncio.get_running_loop().create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, met: Callable[[], object], timeout_s: float = 12.0) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(met)

    def of(self, track: str) -> list[PartObject]:
        return [part for _, part in self.parts if part.track == track]

    def sizes(self) -> list[str]:
        """Of the pictures that the newest multivariant playlist offers."""
        return re.findall(r"EXT-X-STREAM-INF.*RESOLUTION=(\w+)", self.playlist("master"))

    def playlist(self, track: str) -> str:
        name = f"/{track}.m3u8"
        found = [i for i in self.items if isinstance(i, PlaylistVersion) and i.path.endswith(name)]
        return found[-1].full.decode() if found else ""


@contextlib.asynccontextmanager
async def source(command: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        async for _ in chunks(process):  # uvloop's wait() needs its pipe read to the end
            pass
        await process.wait()


async def chunks(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    assert process.stdout is not None
    while data := await process.stdout.read(1 << 16):
        yield data


@contextlib.asynccontextmanager
async def publishing(stream: LiveStream, command: list[str]) -> AsyncIterator[asyncio.Task[Result]]:
    async with source(command) as process:
        task = asyncio.create_task(receive(stream, chunks(process)))
        try:
            yield task
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await task


def make(tool: ffmpeg.Ffmpeg, settings: Settings = SETTINGS) -> tuple[LiveStream, Output]:
    stream = LiveStream("cam", epoch=EPOCH, settings=settings, ffmpeg=tool)
    output = Output()
    stream.subscribe(output)
    return stream, output


def assert_continuous(parts: list[PartObject]) -> None:
    """Every part follows the one before: next of its segment, or first of the next segment."""
    for before, after in itertools.pairwise(parts):
        expected = (before.msn + 1, 0) if before.final else (before.msn, before.index + 1)
        assert (after.msn, after.index) == expected
        assert after.offset == (0 if before.final else before.offset + len(before.body))


def pattern(
    tool: ffmpeg.Ffmpeg, seconds: float | None = None, size: tuple[int, int] = (320, 180)
) -> list[str]:
    width, height = size
    chosen = testpattern.Pattern(width=width, height=height, bitrate=400_000, seconds=seconds)
    return testpattern.argv(tool, "pipe:1", chosen)


@on_loop
async def test_all_tracks_on_one_grid(tool: ffmpeg.Ffmpeg) -> None:
    stream, output = make(tool)
    async with publishing(stream, pattern(tool, 5)) as task:
        assert (await task).status == 200
    assert stream.presentation is not None
    assert stream.presentation.drops.keys() <= {"early"}
    for track in ("180p", "90p", "audio"):
        parts = output.of(track)
        assert_continuous(parts)
        assert sum(part.duration_s for part in parts) == pytest.approx(5.0, abs=0.1)
        whole = [part for part in parts if part.final]
        assert [part.index for part in whole[:2]] == [SETTINGS.parts - 1] * 2
        assert "#EXT-X-DISCONTINUITY\n" not in output.playlist(track)
    first = [p.independent for p in output.of("180p")[: SETTINGS.parts + 1]]
    assert first == [True, *[False] * (SETTINGS.parts - 1), True]
    await stream.end()
    assert output.playlist("180p").rstrip().endswith("#EXT-X-ENDLIST")


@on_loop
async def test_killed_encoder_is_back_at_once(
    tool: ffmpeg.Ffmpeg, record_property: Callable[[str, object], None]
) -> None:
    stream, output = make(tool)
    async with publishing(stream, pattern(tool)):
        await output.until(lambda: len(output.of("180p")) > 8)
        pid = stream.encoder_pid
        assert pid is not None
        before = output.of("180p")[-1]
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await output.until(lambda: output.of("180p")[-1].msn > before.msn)
        at = next(at for at, p in output.parts if p.track == "180p" and p.msn > before.msn)
        record_property("first_part_after_kill_s", round(at - killed, 3))
        assert at - killed < 1.5  # 0.15 s on an idle machine
        await output.until(lambda: len([p for p in output.of("180p") if p.msn > before.msn]) > 7)
        assert stream.encoder_pid != pid
        assert _state(pid) == "gone"
        told = stream.describe()
    assert (told["restarts"], told["generation"]) == ({"signal": 1}, 1)
    listed = output.playlist("180p")
    assert listed.count("#EXT-X-DISCONTINUITY\n") == 1
    assert listed.count("#EXT-X-MAP") == 2
    msns = sorted({part.msn for part in output.of("180p")})
    assert msns == list(range(msns[0], msns[-1] + 1))
    # The one that was open closed short; nothing half-written: every part is whole boxes.
    for part in output.of("180p"):
        assert_whole_boxes(part.body)


def assert_whole_boxes(body: bytes) -> None:
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        assert body[at + 4 : at + 8] in (b"moof", b"mdat", b"free")
        at += size
    assert at == len(body)


@on_loop
async def test_hung_encoder_is_replaced(tool: ffmpeg.Ffmpeg) -> None:
    limits = encoder.Limits(stall_s=0.8)
    stream, output = make(tool, Settings(plan=SMALL, encoder=limits))
    async with publishing(stream, pattern(tool)):
        await output.until(lambda: len(output.of("180p")) > 3)
        pid = stream.encoder_pid
        assert pid is not None
        count = len(output.parts)
        stopped = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        await output.until(lambda: stream.encoder_pid not in (pid, None))
        await output.until(lambda: len(output.parts) > count + 6)
        assert time.monotonic() - stopped < 6
        assert stream.describe()["restarts"] == {"stall": 1}
        assert _state(pid) == "gone"


@on_loop
async def test_publisher_that_returns_keeps_the_names(tool: ffmpeg.Ffmpeg) -> None:
    stream, output = make(tool)
    async with publishing(stream, pattern(tool)):
        await output.until(lambda: len(output.of("180p")) > 4)
    assert stream.describe()["state"] == "reconnecting"
    async with publishing(stream, pattern(tool, size=(240, 180))):
        first = len(output.of("180p"))
        await output.until(lambda: len(output.of("180p")) > first + 4)
        assert stream.describe()["state"] == "live"
        assert output.sizes() == ["240x180", "120x90"]  # proportions are the source's
        async with source(pattern(tool)) as second:
            refused = await receive(stream, chunks(second))
        assert refused.status == 409
    listed = output.playlist("180p")
    assert listed.count("#EXT-X-DISCONTINUITY\n") == 1
    assert all(f"/{EPOCH}/" in part.path for part in output.of("180p"))
    await stream.end()


@on_loop
async def test_publisher_that_stays_away_ends_the_stream(tool: ffmpeg.Ffmpeg) -> None:
    stream, output = make(tool, Settings(plan=SMALL, reconnect_s=0.2))
    async with publishing(stream, pattern(tool, 1)) as task:
        await task
    await output.until(lambda: stream.state == "ended" and "ENDLIST" in output.playlist("audio"))
    async with source(pattern(tool)) as late:
        assert (await receive(stream, chunks(late))).status == 503


@on_loop
async def test_video_without_sound_gets_silence(tool: ffmpeg.Ffmpeg) -> None:
    stream, output = make(tool)
    command = pattern(tool, 3)
    command[command.index("-map") : command.index("-map") + 4] = ["-map", "0:v"]
    async with publishing(stream, command) as task:
        assert (await task).status == 200
    sound = sum(part.duration_s for part in output.of("audio"))
    assert sound == pytest.approx(sum(p.duration_s for p in output.of("180p")), abs=0.2)
    await stream.end()


@on_loop
async def test_sound_alone_is_a_stream(tool: ffmpeg.Ffmpeg) -> None:
    stream, output = make(tool)
    command = [tool.path, *("-v", "error", "-re", "-f", "lavfi", "-i", "sine=r=44100", "-t", "4")]
    async with publishing(stream, [*command, "-c:a", "aac", "-f", "flv", "pipe:1"]) as task:
        assert (await task).status == 200
    assert {part.track for _, part in output.parts} == {"audio"}
    assert sum(part.duration_s for part in output.of("audio")) == pytest.approx(4, abs=0.2)
    await stream.end()


@on_loop
async def test_faster_than_real_time_is_slowed_down(tool: ffmpeg.Ffmpeg) -> None:
    stream, _ = make(tool, Settings(plan=SMALL, lead_s=0.5))
    command = [word for word in pattern(tool, 3) if word != "-re"]
    begin = time.monotonic()
    async with publishing(stream, command) as task:
        assert (await task).status == 200
    assert time.monotonic() - begin > 2.0
    await stream.end()


@on_loop
async def test_bytes_that_are_no_flv_are_refused(tool: ffmpeg.Ffmpeg) -> None:
    async def playlist() -> AsyncIterator[bytes]:
        yield b"#EXTM3U\n#EXT-X-VERSION:3\nfile:///etc/passwd\n"

    stream, output = make(tool)
    result = await receive(stream, playlist())
    assert result.status == 400
    assert "not an FLV stream" in result.reason
    assert stream.encoder_pid is None
    assert output.items == []
    await stream.end()


@on_loop
async def test_encoder_that_cannot_live_tells_the_publisher(tmp_path: Path) -> None:
    """Garbage on its outputs, a flood on stderr, early exit: restarts have a ceiling."""
    script = tmp_path / "ffmpeg"
    script.write_text(
        "#!/bin/sh\n"
        "head -c 1000000 /dev/zero | tr '\\0' 'x' >&2\n"
        "for last; do :; done\n"
        "fd=${last#pipe:}\n"
        "head -c 100000 /dev/zero >/proc/self/fd/$fd\n"
    )
    script.chmod(0o755)
    real = ffmpeg.find()
    broken = ffmpeg.Ffmpeg(path=str(script), version=(5, 1), found="test")
    limits = encoder.Limits(attempts=3, backoff_s=0.05)
    stream, output = make(broken, Settings(plan=SMALL, encoder=limits))
    async with publishing(stream, pattern(real)) as task:
        result = await task
    assert result.status == 400
    assert "encoder failed" in result.reason
    assert output.parts == []
    await stream.end()


@on_loop
async def test_streams_are_bounded_and_epochs_follow(tool: ffmpeg.Ffmpeg) -> None:
    seen: list[tuple[str, Publication]] = []
    states: list[tuple[str, str]] = []
    ingest = Ingest(
        settings=Settings(plan=SMALL, reconnect_s=0.1),
        ffmpeg=tool,
        publish=lambda stream, item: seen.append((stream, item)),
        on_state=lambda stream, state: states.append((stream, state)),
        pushed=functools.partial(asyncio.sleep, 0),
        streams=1,
    )

    class Pipe:
        def __init__(self, process: asyncio.subprocess.Process) -> None:
            self._process = process

        def iter_any(self) -> AsyncIterator[bytes]:
            return chunks(self._process)

    for _ in range(2):
        async with source(pattern(tool, 1)) as process:
            task = asyncio.create_task(ingest.serve("cam", Pipe(process), publisher="here"))
            await asyncio.sleep(0)
            with pytest.raises(RefusedError, match="live") as refused:
                ingest.check("other")
            assert refused.value.status == 503
            assert (await task).status == 200
        live = ingest.stream("cam")
        assert live is not None
        await live.end()
    assert states == [("cam", "live"), ("cam", "ended")] * 2
    parts = [item for _, item in seen if isinstance(item, PartObject) and item.track == "audio"]
    assert len({part.path.split("/")[3] for part in parts}) == 2  # epochs
    assert len({part.path for part in parts}) == len(parts)
    versions = [
        item.version
        for _, item in seen
        if isinstance(item, PlaylistVersion) and item.path == "/live/cam/audio.m3u8"
    ]
    assert versions == sorted(set(versions))
    assert ingest.counts["results.200"] == 2
    await ingest.stop()


def _state(pid: int) -> str:
    """R, S, T, Z … or "gone"."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
