"""origin/remux.py: real containers through real processes, into the broker that reads FLV."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgecache.flv import AUDIO, CODED, VIDEO, FlvReader, Tag
from origin.broker import Broker
from origin.child import Child
from origin.ffmpeg import Ffmpeg, find
from origin.remux import CONTAINERS, Limits, RemuxError, flv
from tests.looped import looped

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "15")
SAMPLES = {
    "mpegts": (*H264, "-c:a", "aac", "-f", "mpegts"),
    "mov": (*H264, "-c:a", "aac", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"),
    "opus": (*H264, "-c:a", "libopus", "-f", "matroska"),
    "vp8": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-f", "webm"),
    "long": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-f", "webm"),
    "mjpeg": ("-c:v", "mjpeg", "-c:a", "aac", "-f", "matroska"),
    "hevc": ("-c:v", "libx265", "-preset", "ultrafast", "-c:a", "aac", "-f", "mpegts"),
}
FFMPEG = find()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A second of 15 pictures, and its sound, in each form; `long` is two."""
    folder = tmp_path_factory.mktemp("samples")
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=15", "-f", "lavfi", "-i", "sine")
    outputs = [
        part
        for name, options in SAMPLES.items()
        for part in (
            *("-map", "0", "-map", "1", "-t", "2" if name == "long" else "1"),
            *(*options, str(folder / name)),
        )
    ]
    command = [FFMPEG.path, "-loglevel", "error", *inputs, *outputs]
    subprocess.run(command, check=True, timeout=30, stdin=subprocess.DEVNULL)
    return {name: (folder / name).read_bytes() for name in SAMPLES}


async def cut(data: bytes, size: int = 5000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def tags(
    body: AsyncIterator[bytes],
    container: str,
    ffmpeg: Ffmpeg = FFMPEG,
    limits: Limits | None = None,
) -> list[Tag]:
    reader = FlvReader()
    found: list[Tag] = []
    async for data in flv(body, container, ffmpeg, limits):
        found += reader.feed(data)
    assert reader.pending_bytes == 0
    return found


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """The processes that were started and are still there."""
    pids: list[int] = []
    watch = Child._confine

    def noted(child: Child) -> None:
        pids.append(child.pid)
        watch(child)

    monkeypatch.setattr(Child, "_confine", noted)
    return lambda: [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize(
    ("name", "container"),
    [("mpegts", "mpegts"), ("mov", "mov"), ("opus", "matroska"), ("vp8", "matroska")],
)
@looped
async def test_all_pictures_and_the_sound_arrive(
    name: str, container: str, samples: dict[str, bytes], alive: Callable[[], list[int]]
) -> None:
    found = await tags(cut(samples[name]), container)
    broker = Broker()
    broker.feed(b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + b"".join(tag.encode() for tag in found))
    assert str(broker.source) == "avc1 160x90, aac"
    coded = [tag for tag in found if tag.packet == CODED]
    assert sum(tag.kind == VIDEO for tag in coded) == 15
    assert 42 <= sum(tag.kind == AUDIO for tag in coded) <= 50  # 44.1 or 48 kHz, and priming
    assert alive() == []


@looped
async def test_vp8_has_a_key_frame_a_second_and_keeps_its_times(samples: dict[str, bytes]) -> None:
    """MediaRecorder writes one in a hundred frames as such; times are milliseconds."""
    found = [tag for tag in await tags(cut(samples["long"]), "matroska") if tag.kind == VIDEO]
    assert {tag.codec for tag in found} == {"avc1"}
    times = [(tag.timestamp, tag.is_keyframe) for tag in found if tag.packet == CODED]
    first = times[0][0]
    assert [round((at - first) / 1000 * 15) for at, _ in times] == list(range(30))
    assert [at - first for at, key in times if key] == [0, 1000]


@looped
async def test_what_came_while_it_looked_for_codecs_is_one_piece_a_gop_long(
    samples: dict[str, bytes],
) -> None:
    """So that the broker sees how late it is, and loses no GOP before it knows the source."""

    async def twice() -> AsyncIterator[bytes]:
        yield samples["mpegts"] * 2
        await asyncio.Event().wait()

    async with contextlib.aclosing(flv(twice(), "mpegts", FFMPEG)) as shown:
        found = FlvReader().feed(await anext(shown))
    coded = [tag for tag in found if tag.packet == CODED]
    assert sum(tag.kind == VIDEO for tag in coded) == 15
    assert sum(tag.is_keyframe for tag in coded) == 1
    assert sum(tag.kind == AUDIO for tag in coded) > 20


@looped
async def test_a_picture_that_flv_does_not_carry_is_named(samples: dict[str, bytes]) -> None:
    with pytest.raises(RemuxError, match="mjpeg cannot be taken on; send H"):
        await tags(cut(samples["mjpeg"]), "matroska")
    with pytest.raises(RemuxError, match="hevc cannot be taken on"):
        await tags(cut(samples["hevc"]), "mpegts", replace(FFMPEG, newer=None))


@looped
async def test_a_newer_ffmpeg_takes_what_it_can(samples: dict[str, bytes]) -> None:
    found = await tags(cut(samples["hevc"]), "mpegts")
    assert {tag.codec for tag in found if tag.kind == VIDEO} == {"hvc1"}
    assert sum(tag.kind == VIDEO and tag.packet == CODED for tag in found) == 15


@pytest.mark.parametrize("container", sorted(set(CONTAINERS.values())))
@looped
async def test_what_is_no_such_container_is_said_once(
    container: str, alive: Callable[[], list[int]]
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(range(256)) * 64
            await asyncio.sleep(0)

    with pytest.raises(RemuxError, match="not readable as "):
        await tags(endless(), container, limits=Limits(stall_s=0.5))
    assert alive() == []


@looped
async def test_input_without_output_has_a_deadline(samples: dict[str, bytes]) -> None:
    async def beginning() -> AsyncIterator[bytes]:
        yield samples["mov"][:600]  # not even the whole header
        await asyncio.Event().wait()

    with pytest.raises(RemuxError, match="not readable as fragmented MP4"):
        async for _ in flv(beginning(), "mov", FFMPEG, Limits(stall_s=0.3)):
            pass


@looped
async def test_silence_is_not_ours_to_judge() -> None:
    silent = asyncio.Event()

    async def nothing() -> AsyncIterator[bytes]:
        await silent.wait()
        for _ in ():
            yield b""

    shown = flv(nothing(), "mpegts", FFMPEG, Limits(stall_s=0.05))
    waiting = asyncio.create_task(anext(shown))
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done()
    silent.set()
    with pytest.raises(RemuxError):
        await waiting


@looped
async def test_a_body_that_breaks_off_is_put_out_first(samples: dict[str, bytes]) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield samples["mpegts"]
        raise ConnectionResetError

    reader, found, ended = FlvReader(), 0, ""
    try:
        async for data in flv(broken(), "mpegts", FFMPEG):
            found += sum(t.kind == VIDEO and t.packet == CODED for t in reader.feed(data))
    except ConnectionResetError:
        ended = "as it came"
    assert (found, ended) == (15, "as it came")


@looped
async def test_a_reader_that_waits_slows_the_body_down(
    samples: dict[str, bytes], alive: Callable[[], list[int]]
) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += len(samples["mpegts"])
            yield samples["mpegts"]
            await asyncio.sleep(0)

    limits = Limits(input_bytes=64 << 10, output_bytes=64 << 10)
    async with contextlib.aclosing(flv(endless(), "mpegts", FFMPEG, limits)) as shown:
        await anext(shown)
        before = -1
        while given != before:  # until nothing moves
            before = given
            await asyncio.sleep(0.5)
        assert given < 8 << 20  # two pipes of 1 MiB, the bounds, and what ffmpeg holds
        async for _ in shown:
            if given > 2 * before:
                break
    assert alive() == []


@looped
async def test_an_ffmpeg_that_is_killed_ends_the_body(
    samples: dict[str, bytes], alive: Callable[[], list[int]]
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield samples["mpegts"]
            await asyncio.sleep(0.01)

    shown = flv(endless(), "mpegts", FFMPEG)
    await anext(shown)
    for pid in alive():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(RemuxError, match="killed by signal 9") as caught:
        async for _ in shown:
            pass
    assert caught.value.status == 503  # the publisher did nothing wrong
    assert alive() == []
