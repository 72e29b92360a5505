"""`python -m bench.ladder`: what encoding costs on this machine.

python -m bench.ladder             all rows, about two minutes
python -m bench.ladder --record    also writes bench/LADDER.md

Each row encodes the same seconds of moving noise as fast as it goes, by the command that the origin
runs, and counts CPU from the kernel's books (wait4): *cores* is CPU seconds a second of media, what
a live stream takes; *speed* is seconds of media a second, below 1 it cannot be live. The source is
decoded, too. Laws: every process is waited for; output goes nowhere.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from origin import ladder
from origin.config import load_config
from origin.ffmpeg import Ffmpeg, find
from origin.ladder import Plan, Rung
from origin.sharing import given_away, kept

from .errors import BenchError
from .facts import taken

_PAGE: Final = Path(__file__).with_name("LADDER.md")
SECONDS: Final = 5.0
_LIMIT_S: Final = 120.0
SMALL: Final = Plan(rungs=ladder.SMALL)
_EXAMPLE: Final = Path(__file__).parent.parent / "examples" / "production.toml"
PRODUCTION: Final = ladder.plan_of(load_config(_EXAMPLE, environ={}).value)
_AT_30: Final = replace(PRODUCTION, fps=30)
_SPREAD: Final = replace(  # the top rung on a worker
    _AT_30, rungs=(replace(_AT_30.rungs[0], away=True), *_AT_30.rungs[1:])
)
_720P: Final = Rung(track="720p", width=1280, height=720, bitrate=2_500_000)


@dataclass(frozen=True, kw_only=True)
class Row:
    """streams: at once; apart: a process for each rung, each of which decodes."""

    what: str
    source: str
    plan: Plan
    streams: int = 1
    apart: bool = False
    newer: bool = False  # by the newer ffmpeg of the two


@dataclass(frozen=True)
class Cost:
    speed: float
    cores: float  # of all streams


ROWS: Final = (
    Row(what="default ladder", source="1280x720@30", plan=SMALL),
    Row(what="default ladder", source="1280x720@30", plan=SMALL, streams=2),
    Row(what="default ladder", source="1280x720@30", plan=SMALL, streams=4),
    Row(what="default ladder", source="1280x720@30", plan=SMALL, apart=True),
    Row(what="production at 30", source="1920x1080@30", plan=_AT_30),
    Row(what="the same, 1080p on a worker", source="1920x1080@30", plan=kept(_SPREAD)),
    Row(what="what that worker makes", source="1920x1080@30", plan=given_away(_SPREAD)),
    Row(what="production at 30", source="1920x1080@30", plan=_AT_30, apart=True),
    Row(what="production at 30", source="1920x1080@30", plan=_AT_30, newer=True),
    Row(what="production", source="1920x1080@60", plan=PRODUCTION),
    Row(what="production", source="1920x1080@60", plan=PRODUCTION, apart=True),
    Row(what="one 720p rung", source="1280x720@30", plan=Plan(rungs=(_720P,))),
    Row(what="one 720p rung, HEVC", source="1280x720@30",
        plan=Plan(rungs=(replace(_720P, codec="hevc", preset="ultrafast"),))),
    Row(what="one 720p rung, AV1", source="1280x720@30",
        plan=Plan(rungs=(replace(_720P, codec="av1", preset="12"),)), newer=True),
)  # fmt: skip


def clip(source: str, folder: Path) -> Path:
    """FLV of `SECONDS` of moving noise, which is as hard as real pictures. source: WxH@fps."""
    path = folder / f"{source}.flv"
    if path.exists():
        return path
    size, _, fps = source.partition("@")
    inputs = [f"testsrc2=s={size}:r={fps},noise=alls=12:allf=t", "sine=sample_rate=48000"]
    command = [find().path, "-v", "error", "-nostdin"]
    for each in inputs:
        command += ["-f", "lavfi", "-i", each]
    command += ["-t", f"{SECONDS:g}", *["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "8M"]]
    command += ["-pix_fmt", "yuv420p", "-g", fps, "-c:a", "aac", str(path)]
    subprocess.run(command, check=True, timeout=_LIMIT_S)
    return path


def _alone(plan: Plan) -> list[Plan]:
    """A plan for each rung, the sound with the first."""
    return [
        replace(plan, rungs=(rung,), sounds=plan.sounds if not n else ())
        for n, rung in enumerate(plan.rungs)
    ]


def measure(row: Row, tool: Ffmpeg, folder: Path) -> Cost:
    """Encode it. Raises BenchError when an encoder fails."""
    path = clip(row.source, folder)
    plans = [*(_alone(row.plan) if row.apart else [row.plan])] * row.streams
    began, cpu_s, pids = time.monotonic(), 0.0, []
    with Path(os.devnull).open("wb") as nowhere:
        for plan in plans:
            fds = [nowhere.fileno()] * len(plan.tracks)
            command = ladder.argv(plan, tool, fds=fds, offset_s=0.0)
            with path.open("rb") as sent:
                pids.append(subprocess.Popen(
                    command, stdin=sent, stderr=subprocess.DEVNULL, pass_fds=[fds[0]]
                ).pid)  # fmt: skip
        for pid in pids:
            _, status, used = os.wait4(pid, 0)
            if status:
                raise BenchError(f"{row.what}: an encoder ended with {status}")
            cpu_s += used.ru_utime + used.ru_stime
    return Cost(SECONDS / (time.monotonic() - began), cpu_s / SECONDS)


def table(found: Sequence[tuple[Row, Ffmpeg, Cost]]) -> Iterator[str]:
    yield "| ladder | source | streams | processes | ffmpeg | cores | a stream | speed |"
    yield "|---|---|---|---|---|---|---|---|"
    for row, tool, cost in found:
        processes = "one a rung" if row.apart else "one a stream"
        yield (
            f"| {row.what} | {row.source} | {row.streams} | {processes} | {tool.version[0]}."
            f"{tool.version[1]} | {cost.cores:.2f} | {cost.cores / row.streams:.2f} | "
            f"{cost.speed:.2f} |"
        )


def main() -> None:
    """Measure every row once, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write bench/LADDER.md")
    given = parser.parse_args()
    tool, found = find(), []
    with tempfile.TemporaryDirectory() as folder:
        for row in ROWS:
            by = (tool.newer or tool) if row.newer else tool
            found.append((row, by, measure(row, by, Path(folder))))
            sys.stdout.write(f"{row.what}: {found[-1][2]}\n")
    lines = "\n".join(table(found))
    sys.stdout.write(f"\n{lines}\n")
    if given.record:
        _PAGE.write_text(
            "# What encoding costs\n\n"
            f"One run of `python -m bench.ladder --record`: {taken()},"
            f" so cores are to be believed and speed is not more than a lower bound.\n\n{lines}\n"
        )


if __name__ == "__main__":
    main()
