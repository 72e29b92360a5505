"""Nothing that the origin starts outlives it, however it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from origin import ffmpeg, testpattern

PATTERN = testpattern.Pattern(width=320, height=180, bitrate=400_000)
_HOST = """
import asyncio, sys
from origin import ffmpeg, ladder, testpattern
from origin.encoding import Settings
from origin.stream import LiveStream
from origin.receive import receive
async def main():
    tool = ffmpeg.find()
    rung = ladder.Rung(track="90p", width=160, height=90, bitrate=100_000, preset="ultrafast")
    stream = LiveStream("cam", epoch="t3d0ab", settings=Settings(plan=ladder.Plan(rungs=(rung,))),
                        ffmpeg=tool)
    stream.subscribe(lambda items: print(stream.encoder_pid, flush=True))
    async def chunks():
        while data := await asyncio.get_running_loop().run_in_executor(
            None, sys.stdin.buffer.read1, 65536):
            yield data
    await receive(stream, chunks())
asyncio.run(main())
"""


def test_no_encoder_survives_a_killed_parent() -> None:
    """Not even one that is hung and never sees the end of its input."""
    root = Path(__file__).resolve().parents[2]
    feeder = subprocess.Popen(
        testpattern.argv(ffmpeg.find(), "pipe:1", PATTERN),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    host = subprocess.Popen(
        [sys.executable, "-c", _HOST],
        stdin=feeder.stdout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        inherited = os.listdir(f"/proc/{pid}/fd")
        host.kill()
        host.wait(5)
        deadline = time.monotonic() + 5
        while _state(pid) not in ("gone", "Z"):
            assert time.monotonic() < deadline, "the encoder outlived its parent"
            time.sleep(0.01)
        assert len(inherited) <= 8  # stdin, stdout, stderr, two tracks, and what it opened itself
    finally:
        for process in (host, feeder):
            process.kill()
            process.wait(5)
            if process.stdout:
                process.stdout.close()


def _state(pid: int) -> str:
    """R, S, T, Z … or "gone"."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
