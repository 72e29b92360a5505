"""The end of an encoder, when who waited for it has gone first."""

from __future__ import annotations

import asyncio

import pytest

from origin import ffmpeg
from origin.encoder import Encoder, Launch
from tests.looped import eventually, looped


@looped
async def test_who_stops_it_may_be_cancelled() -> None:
    """So is it, then, and nobody is given its rest: a stream that had let go of it asserted that
    it had one, and its process stayed."""
    seen: list[bytes] = []
    endless = [str(ffmpeg.find().path), "-re", "-f", "lavfi", "-i", "testsrc2", "-f", "mpegts"]
    encoder = Encoder(
        name="cam",
        launch=lambda _restarts: Launch(
            argv=lambda fds: [*endless, f"pipe:{fds[0]}"], tracks=1, replay=b""
        ),
        on_output=lambda _track, data: seen.append(data),
        on_failed=pytest.fail,
    )
    encoder.start()
    await eventually(lambda: seen)
    stop = asyncio.create_task(encoder.stop())
    await asyncio.sleep(0)
    stop.cancel()
    await asyncio.gather(stop, return_exceptions=True)
    seen.clear()
    await eventually(lambda: encoder.pid is None)
    assert seen == []
