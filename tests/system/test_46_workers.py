"""Recordings are encoded by whatever hosts there are, over a catalogue that data centres share."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from pathlib import Path

import m3u8
import pytest

from origin.ffmpeg import find
from tests.looped import eventually, looped
from tests.nats_server import Nats
from tests.serving_origin import ROOT, child, serving
from tests.system.test_43_recording import broadcast, keeper_of, text

pytestmark = pytest.mark.timeout(90)

# Four programs begin one after the other, a second lease runs out, chunks are encoded.
patiently = functools.partial(looped, limit_s=80.0)
soon = functools.partial(eventually, timeout_s=30.0)
RUNG = ("width=160", "height=90", "bitrate=60kbps", "preset=ultrafast")


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """An ffmpeg that begins, says so by a folder, and never ends."""
    script = tmp_path / "ffmpeg"
    begun = tmp_path / "begun"
    real = find().path
    hang = f'case "$*" in *pipe:0*) mkdir {begun}; exec sleep 600;; esac'
    script.write_text(f'#!/bin/sh\n{hang}\nexec {real} "$@"\n')
    script.chmod(0o755)
    return script


@patiently
async def test_a_chunk_of_a_killed_worker_is_made_by_another(
    nats: Nats, tmp_path: Path, hanging: Path
) -> None:
    """kill -9 in mid-chunk; a second data centre shows what came of it, too."""
    store = f"archive.store={tmp_path}/store"
    shared = [*nats.options(tmp_path.name), store, "archive.lease=1s", "live.window=6s"]
    rungs = [f"archive.ladder.keep.{each}" for each in RUNG]
    east = [*shared, f"data.dir={tmp_path}/east", "catalog.home=east", "archive.workers=0"]
    west = [*shared, f"data.dir={tmp_path}/west", "catalog.home=west", "archive.workers=0"]
    host = [part for each in (*shared, "catalog.home=host") for part in ("-o", each)]
    command = (sys.executable, "-m", "origin", "worker", *host)
    stalled = {**os.environ, "EDGECACHE_FFMPEG": str(hanging)}
    async with (
        serving(*east, *rungs, "archive.chunk=4s") as (origin, http),
        serving(*west, *rungs) as (other, there),
    ):
        keeper = keeper_of(origin)
        keeper._linger_s = keeper_of(other)._linger_s = 0.0
        await broadcast(origin)
        async with child(*command, cwd=ROOT, env=stalled) as doomed:
            await soon((tmp_path / "begun").exists)
            doomed.send_signal(signal.SIGKILL)
            await doomed.wait()
        assert not list((tmp_path / "store").glob("cam/*/encode/*/*.json"))
        async with child(*command, cwd=ROOT) as worker:
            await soon(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 2)
            worker.terminate()
            assert await worker.wait() == 0
        await soon(lambda: not list((tmp_path / "store").glob("cam/*/encode/*/*")))
        await soon(lambda: (shown := keeper_of(other).library.shown("cam")) and shown.revision == 2)
        media = m3u8.loads(await text(there, "keep.m3u8"))
        assert len(media.segments) == 6
        assert await text(http, "keep.m3u8") == await text(there, "keep.m3u8")
        assert await asyncio.to_thread(keeper.objects.read, f"cam/{media.segments[0].uri}")
        (row,) = keeper.rows()
        await keeper.delete("cam", str(row["epoch"]))
        await soon(lambda: not keeper_of(other).shows("cam"))
