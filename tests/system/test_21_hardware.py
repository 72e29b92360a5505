"""A broadcast whose hardware encoder is killed, then gives up: viewers have it whole.

There is no hardware here. NVENC is played by a script around the real ffmpeg (`tests/nvenc.py`),
which makes libx264 of it: the try at the start, the pipeline and the way back are real, the
hardware's own faults are not seen.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest

from origin import ffmpeg, hardware
from origin.config import Encoder
from tests.nvenc import script
from tests.system.test_21_encoder import make, on_loop, pattern, publishing

LIMIT_S = 0.6  # of media


@on_loop
async def test_software_goes_on_when_hardware_gives_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a kill -9 hardware is used again. It exits a little later, as at a limit of sessions,
    and would do so each time; libx264 takes over, which outlives that."""
    real = ffmpeg.find()
    path = script(tmp_path, real.path)
    stream, output = make(hardware.find(Encoder(ffmpeg=path, h264="h264_nvenc")))
    caplog.set_level(logging.WARNING, logger="origin.hardware")
    async with publishing(stream, pattern(real)):
        await output.until(lambda: output.of("180p"))
        (tmp_path / "seconds").write_text(str(LIMIT_S))
        assert stream.encoder_pid is not None
        os.kill(stream.encoder_pid, signal.SIGKILL)
        await output.until(lambda: stream.describe()["generation"] == 2, 20.0)
        before = len(output.of("180p"))
        await output.until(
            lambda: sum(p.duration_s for p in output.of("180p")[before:]) > 1.5 * LIMIT_S, 20.0
        )
        told = stream.describe()
    assert told["restarts"] == {"signal": 1, "exit": 1}
    assert [record.message for record in caplog.records if record.name == "origin.hardware"] == [
        "hardware encoder failed, libx264 goes on"
    ]
    msns = sorted({part.msn for part in output.of("180p")})
    assert msns == list(range(msns[0], msns[-1] + 1))
    assert output.playlist("180p").count("#EXT-X-DISCONTINUITY\n") == 2
    await stream.end()
