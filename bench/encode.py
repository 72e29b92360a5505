"""`python -m bench.encode`: what encoding a recording again takes, with 1 worker and with 2.

python -m bench.encode                 a minute of test pattern; a few minutes in all
python -m bench.encode --seconds 10    does it work? Not to be quoted
python -m bench.encode --record        also writes bench/ENCODE.md

The demo takes a broadcast of the test pattern in 720p. When it is recorded and the demo has ended,
`edgecache-origin archive encode` works on a copy of what is left, once for each number of workers.
*CPU* is the command's with all its encoders, from the kernel's books (wait4); *speed* is seconds of
media a second. Laws: everything that was started is ended; what was recorded goes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from origin import ffmpeg, testpattern

from .demo import demo
from .errors import BenchError
from .facts import taken
from .process import spawned, tail

_PAGE: Final = Path(__file__).with_name("ENCODE.md")
_ORIGIN: Final = str(Path(sys.executable).with_name("edgecache-origin"))
_WORKERS: Final = (1, 2)
_PATTERN: Final = testpattern.Pattern(width=1280, height=720, bitrate=2_500_000)
_LIVE: Final = {
    "LADDER": "{720p={width=1280,height=720,bitrate='2500kbps'}}",
    "LIVE__RECONNECT": "1s",
}
_KEEP: Final = {
    "ARCHIVE__LADDER": "{keep={width=1280,height=720,bitrate='1500kbps'}}",
    "ARCHIVE__CHUNK": "6s",
}
_RECORDED_S: Final = 120.0  # from the end of the broadcast to its pictures


@dataclass(frozen=True)
class Cost:
    workers: int
    media_s: float
    wall_s: float
    cpu_s: float


def settings(data: Path) -> dict[str, str]:
    given = {"DATA__DIR": str(data), **_KEEP}
    return {f"ORIGIN__{name}": value for name, value in given.items()}


def recorded(data: Path) -> dict[str, Any]:
    """The recording, when it has its pictures: nobody works on it any more. Raises BenchError."""
    deadline = time.monotonic() + _RECORDED_S
    while time.monotonic() < deadline:
        env = {**os.environ, **settings(data)}
        said = subprocess.run(
            [_ORIGIN, "vod", "list", "--json"], env=env, stdout=subprocess.PIPE, check=True
        )
        for row in json.loads(said.stdout):
            if row["revision"]:
                found: dict[str, Any] = row
                return found
        time.sleep(0.5)
    raise BenchError(f"nothing was recorded in {_RECORDED_S:g} s")


def broadcast(data: Path, seconds: float) -> dict[str, Any]:
    """Its recording."""
    with demo({**_LIVE, "DATA__DIR": str(data)}, ("--no-publish",)) as facts:
        pattern = replace(_PATTERN, seconds=seconds)
        command = testpattern.argv(ffmpeg.find(), facts["publish"], pattern)
        subprocess.run(command, check=True, timeout=2 * seconds + 30)
        return recorded(data)


def encode(data: Path, recording: dict[str, Any], workers: int) -> Cost:
    """On a copy. Raises BenchError."""
    copy = data.with_name(f"copy-{workers}")
    shutil.copytree(data, copy)
    log = data.with_name("encode.log")
    command = [_ORIGIN, "archive", "encode", recording["stream"], "--workers", str(workers)]
    began = time.monotonic()
    with spawned(command, log=log, env=settings(copy)) as process:
        _, status, used = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began
    if status:
        raise BenchError(f"archive encode failed: {tail(log)}")
    return Cost(workers, recording["duration_ms"] / 1000, wall_s, used.ru_utime + used.ru_stime)


def table(costs: Sequence[Cost]) -> Iterator[str]:
    yield "| workers | media, s | wall, s | CPU, s | speed | against 1 worker |"
    yield "|---|---|---|---|---|---|"
    for cost in costs:
        yield (
            f"| {cost.workers} | {cost.media_s:.1f} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} |"
            f" {cost.media_s / cost.wall_s:.2f} | {costs[0].wall_s / cost.wall_s:.2f} |"
        )


def main() -> None:
    """Record, encode, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--record", action="store_true", help="write bench/ENCODE.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        recording = broadcast(data, given.seconds)
        lines = "\n".join(table([encode(data, recording, each) for each in _WORKERS]))
    sys.stdout.write(f"{lines}\n")
    if given.record:
        _PAGE.write_text(
            "# What encoding a recording again takes\n\n"
            f"One run of `python -m bench.encode --record`: {taken()}."
            " Test pattern in 720p at 30 frames a second, into H.264 720p by preset slow,"
            " in chunks of 6 s.\n\n"
            f"{lines}\n"
        )


if __name__ == "__main__":
    main()
