"""Rungs of a live stream on worker hosts: one is killed, one hangs, one's hardware gives up."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import re
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.ledger import ORIGIN_LAWS, broken, read
from origin import ffmpeg, hardware, testpattern
from origin.config import Encoder
from origin.livework import LiveWorker
from origin.model import MediaObject, PartObject
from origin.remote import Limits
from origin.stream import LiveStream
from tests.looped import eventually, looped
from tests.nvenc import script
from tests.scripted_pop import KID, SECRET
from tests.serving_origin import ROOT, SIGN, child, operators, serving, upload
from tests.system.test_21_encoder import Output, assert_whole_boxes, source

pytestmark = pytest.mark.timeout(90)

patiently = functools.partial(looped, limit_s=80.0)
soon = functools.partial(eventually, timeout_s=30.0)
LADDER = (
    *("ladder.180p.width=320", "ladder.180p.height=180", "ladder.180p.bitrate=250kbps"),
    *("ladder.180p.preset=ultrafast", "ladder.180p.on=workers"),
    *("ladder.90p.width=160", "ladder.90p.height=90", "ladder.90p.bitrate=100kbps"),
    *("ladder.90p.preset=ultrafast", "live.segment=500ms", "live.parts=2"),
)
PATTERN = testpattern.Pattern(width=320, height=180, bitrate=400_000)


class Seen(Output):
    """What one stream published, by track and generation."""

    def inits(self, since: int = 0) -> list[tuple[int, int]]:
        """Of the worker's rung, one a generation: its place among all items, and how wide it is."""
        return [
            (place, item.rendition.width)
            for place, item in enumerate(self.items)
            if place >= since and isinstance(item, MediaObject) and "/180p/init" in item.path
            if item.rendition
        ]

    def made(self, width: int, times: int) -> bool:
        """Has 180p been that wide so often, with a whole segment of it since?"""
        inits = self.inits()
        if [wide for _, wide in inits].count(width) < times or inits[-1][1] != width:
            return False
        return len({part.msn for part in self._rung(inits[-1][0])}) > 1

    def shown_s(self, width: int, since: int) -> float:
        """When the first part of that width came, of those since that many items."""
        place = next(place for place, wide in self.inits(since) if wide == width)
        first = self._rung(place)[0]
        return next(at_s for at_s, part in self.parts if part is first)

    def _rung(self, since: int) -> list[PartObject]:
        items = self.items[since:]
        return [item for item in items if isinstance(item, PartObject) and item.track == "180p"]


def began(part: PartObject) -> int:
    """Decode time of its first frame, in ticks of the pictures' 90 kHz."""
    at = part.body.index(b"tfdt") + 8
    return int(struct.unpack_from(">Q", part.body, at)[0])


def encoders(pid: int) -> list[int]:
    """Of a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(each) for each in children if b"pipe:0" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


class Listed(NamedTuple):
    """What a media playlist says of its segments."""

    msns: list[int]
    dates: list[str]  # with the discontinuities between them


def listed(text: str) -> Listed:
    return Listed(
        [int(msn) for msn in re.findall(r"^\w+/\w+/(\d+)\.m4s$", text, re.M)],
        re.findall(r"^#EXT-X-(?:PROGRAM-DATE-TIME:.*|DISCONTINUITY)$", text, re.M),
    )


@patiently
async def test_a_worker_is_killed_and_another_goes_on(
    tmp_path: Path, measured: Callable[..., None]
) -> None:
    """Its rung begins and ends with the others, is shown without it, and comes back."""
    place = f"data.dir={tmp_path}"
    options = [
        part for each in (place, f"keys.{KID}.secret={SECRET.decode()}") for part in ("-o", each)
    ]
    command = (sys.executable, "-m", "origin", "worker", "--workers=0", "--live=1", *options)
    tool = ffmpeg.find()
    async with (
        serving(place, *LADDER, "archive.enabled=false") as (origin, http),
        child(*command, cwd=ROOT) as one,
        child(*command, cwd=ROOT) as two,
        source(testpattern.argv(tool, "pipe:1", PATTERN)) as camera,
    ):
        seen, publishing = Seen(), asyncio.create_task(upload(http, camera))
        await soon(lambda: origin._ingest.stream("cam"))
        stream = origin._ingest.stream("cam")
        assert isinstance(stream, LiveStream)
        stream.subscribe(seen)
        await soon(lambda: seen.made(320, 1))
        ours = stream._encoder
        assert ours is not None
        assert ours.pid is not None
        os.kill(ours.pid, signal.SIGKILL)  # the worker begins with the next one
        await soon(lambda: seen.made(320, 2))
        assert origin._hiring.counters == {"offered": 1, "came": 1}
        (doomed,) = (each for each in (one, two) if encoders(each.pid))
        killed_s, before = time.monotonic(), len(seen.items)
        doomed.send_signal(signal.SIGKILL)
        await soon(lambda: seen.made(320, 3))
        camera.kill()
        assert (await publishing).status == 200
        origin._ingest.let_go("cam", stream.epoch)  # another data centre goes on with it
        async with operators(origin) as ops, ops.get("/metrics") as page:
            counts = read(await page.text())
        assert broken(counts, ORIGIN_LAWS) == {}
        told = {f"worker_events{{{event}}}": n for event, n in origin._hiring.counters.items()}
        assert told.items() <= counts.items()
        assert origin._hiring.counters == {"offered": 2, "came": 2, "lost.gone": 1, "left": 1}
        (left,) = (each for each in (one, two) if each is not doomed)
        await soon(lambda: not encoders(left.pid))
    # Came, lost, came: a generation each, but the one between, the copy, may end before it is seen
    # or even begins. Any other is of an encoder of ours that was lost: the one that was killed, and
    # on a machine that is slow enough those that hung or did not keep up.
    lost = Counter(ours.restarts)
    assert lost.pop("worker") in (2, 3)
    assert lost["signal"] == 1
    assert 3 <= [wide for _, wide in seen.inits()].count(320) <= 2 + lost.total(), lost
    away, here = (
        {(part.msn, part.index): began(part) for part in seen.of(track) if part.duration_s}
        for track in ("180p", "90p")
    )
    both = away.keys() & here.keys()
    assert {place: away[place] for place in both} == {place: here[place] for place in both}
    assert len(both) > len(away) / 2
    waits = [at_s for at_s, part in seen.parts if part.track == "180p" and at_s > killed_s]
    measured(
        second_workers_after_ms=round(1000 * (seen.shown_s(320, before) - killed_s)),
        longest_wait_ms=round(1000 * max(b - a for a, b in itertools.pairwise(waits))),
    )


@patiently
async def test_a_worker_that_hangs_is_left_and_one_goes_on_without_hardware(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its ffmpeg is stopped; the next one exits after a little, as at a limit of sessions. NVENC is
    played by a script, as in test_21_hardware."""
    tool, limit_s = ffmpeg.find(), 0.6
    told = Encoder(ffmpeg=script(tmp_path, tool.path), h264="h264_nvenc")
    equipped = await asyncio.to_thread(hardware.find, told)
    caplog.set_level(logging.WARNING, logger="origin.hardware")
    async with (
        serving(f"data.dir={tmp_path}", *LADDER, "archive.enabled=false") as (origin, http),
        source(testpattern.argv(tool, "pipe:1", PATTERN)) as camera,
    ):
        quick = Limits(stall_s=1.0, again_s=0.05)
        origin._ingest._settings = replace(origin._ingest._settings, remote=quick)
        worker = asyncio.create_task(LiveWorker(origin._hiring._jobs, equipped, SIGN).run())
        seen, publishing = Seen(), asyncio.create_task(upload(http, camera))
        await soon(lambda: origin._ingest.stream("cam"))
        stream = origin._ingest.stream("cam")
        assert isinstance(stream, LiveStream)
        stream.subscribe(seen)
        await soon(lambda: seen.made(320, 1))
        (tmp_path / "seconds").write_text(str(limit_s))
        (theirs,) = (pid for pid in encoders(os.getpid()) if pid != stream.encoder_pid)
        os.kill(theirs, signal.SIGSTOP)
        stopped = len(seen.items)
        lost = origin._hiring.counters
        await soon(lambda: lost["lost.stall"] and lost["lost.gone"] and seen.made(320, 3))
        assert theirs not in encoders(os.getpid())
        camera.kill()
        assert (await publishing).status == 200
        worker.cancel()
        await asyncio.wait([worker])
    assert {"hardware encoder failed, libx264 goes on"} == {
        record.message for record in caplog.records if record.name == "origin.hardware"
    }
    away, here = (listed(seen.playlist(track)) for track in ("180p", "90p"))
    assert away.msns == here.msns == list(range(here.msns[0], here.msns[-1] + 1))
    assert away.dates == here.dates
    until, _ = seen.inits(stopped)[0]
    beside = Counter(i.track for i in seen.items[stopped:until] if isinstance(i, PartObject))
    assert beside["90p"] > beside["180p"]
    for part in seen.of("180p"):
        assert_whole_boxes(part.body)
