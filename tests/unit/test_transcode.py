"""origin/archive/transcode.py and workshop.Pressure: what is done in the background stays there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from origin.archive.transcode import TranscodeError, transcode
from origin.archive.workshop import Pressure
from origin.ffmpeg import find
from origin.model import Hops
from tests.hand_made import HandMade
from tests.looped import eventually, looped

pytestmark = pytest.mark.timeout(30)


def argv(fds: Sequence[int]) -> list[str]:
    """Raw sound in, the same out."""
    raw = ["-f", "s16le", "-ar", "48000", "-ac", "1"]
    quiet = ["-hide_banner", "-loglevel", "error", "-nostats", "-nostdin"]
    return [find().path, *quiet, *raw, "-i", "pipe:0", *raw, f"pipe:{fds[0]}"]


def ffmpegs() -> list[int]:
    """Process ids of ours."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        if int(rest.split()[1]) == os.getpid() and name == Path(find().path).name[:15]:
            found.append(int(entry.name))
    return found


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@looped
async def test_it_idles_and_stands_still_while_a_live_stream_lags() -> None:
    lagging, end = [True], asyncio.Event()

    async def sound() -> AsyncIterator[bytes]:
        yield bytes(9600)
        await end.wait()

    run = asyncio.create_task(transcode(argv, sound(), outputs=1, busy=lambda: lagging[0]))
    await eventually(ffmpegs)
    (pid,) = ffmpegs()
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE
    await eventually(lambda: stopped(pid))
    lagging[0] = False
    await eventually(lambda: not stopped(pid))
    end.set()
    assert await run == [bytes(9600)]


@looped
async def test_who_is_cancelled_leaves_no_process() -> None:
    async def sound() -> AsyncIterator[bytes]:
        yield bytes(9600)
        await asyncio.Event().wait()

    run = asyncio.create_task(transcode(argv, sound(), outputs=1, busy=lambda: True))
    await eventually(ffmpegs)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ffmpegs() == []


@looped
async def test_silence_has_an_end() -> None:
    async def sound() -> AsyncIterator[bytes]:
        yield b""
        await asyncio.sleep(3)

    with pytest.raises(TranscodeError, match="did nothing"):
        await transcode(argv, sound(), outputs=1, silence_s=0.1)


def test_pressure_is_high_for_some_seconds_after_a_part_was_late() -> None:
    now = [100.0]
    pressure = Pressure(lambda: now[0])
    part = HandMade().part("v")

    def high_after(encode_s: float) -> bool:
        hops = Hops(capture_s=0.0, encode_s=encode_s, package_s=0.0, ready_s=0.0)
        pressure.add(replace(part, hops=hops))
        return pressure.high

    assert [high_after(0.1), high_after(0.6), high_after(0.1)] == [False, True, True]
    now[0] += 6
    assert not high_after(0.1)
