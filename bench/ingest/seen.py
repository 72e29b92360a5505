"""What a viewer saw of a whole broadcast: every listed segment, fetched at the POP, by ffprobe.

ffprobe is nobody of ours: it reads the playlist (its end is put to it), the init sections and the
media, and says which packets they hold. Pure but for the fetching.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from ..errors import BenchError

_FETCH_S: Final = 10
_PROBE_S: Final = 60
_HOLE: Final = 1.5  # of a packet: what follows later than this leaves a hole


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of one track. seconds: of media; holes: packets that do not begin where the one before ended,
    but at a discontinuity; backward: packets with a decode time that is not later."""

    packets: int
    seconds: float
    holes: int
    backward: int
    discontinuities: int
    gaps: int  # segments that are listed as missing, see _gaps

    @property
    def continuous(self) -> bool:
        return not (self.holes or self.backward or self.gaps)

    def __str__(self) -> str:
        told = f"{self.packets} packets, {self.seconds:.2f} s"
        for count, what in (
            (self.discontinuities, "discontinuities"),
            (self.holes, "holes"),
            (self.backward, "backward"),
            (self.gaps, "gaps"),
        ):
            told += f", {count} {what}" if count else ""
        return told


def _text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_FETCH_S) as answer:
        found: bytes = answer.read()
    return found.decode()


def tracks(master: str) -> dict[str, str]:
    """Track -> URL of its media playlist."""
    text = _text(master)
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    lines += re.findall(r'#EXT-X-MEDIA:.*URI="([^"]+)"', text)
    return {Path(line).stem: urljoin(master, line) for line in lines}


def listing(master: str) -> str:
    """Of the first track, now."""
    return _text(next(iter(tracks(master).values())))


def look(master: str) -> dict[str, Seen]:
    """Track -> what was seen of it, of everything that its playlist lists now."""
    return {track: _seen(url) for track, url in tracks(master).items()}


def _seen(url: str) -> Seen:
    text = _text(url)
    times = _packets(_finished(url, text))
    steps = [after - before for before, after in pairwise(times)]
    usual = statistics.median(steps) if steps else 0.0
    holes = sum(step > _HOLE * usual for step in steps)
    breaks = text.count("#EXT-X-DISCONTINUITY\n")
    return Seen(
        packets=len(times),
        seconds=len(times) * usual,
        holes=max(0, holes - breaks),
        backward=sum(step <= 0 for step in steps),
        discontinuities=breaks,
        gaps=_gaps(text),
    )


def _gaps(text: str) -> int:
    """But for those that a generation ends with, where one track had a few frames more."""
    runs = re.sub(r"#EXT-X-(?:PART|PRELOAD|REND).*\n", "", text).split("#EXT-X-DISCONTINUITY\n")
    last = re.compile(r"(?:#EXT-X-GAP\n(?:#.*\n)*[^#\n]+\n)+(?:#.*\n)*\Z")
    return sum(last.sub("", run).count("#EXT-X-GAP\n") for run in runs)


def _finished(url: str, text: str) -> str:
    """The playlist as if it were over, without what is listed as missing; absolute."""
    return "\n".join([*_whole_segments(url, text), "#EXT-X-ENDLIST", ""])


def _whole_segments(url: str, text: str) -> Iterator[str]:
    held: list[str] = []  # tags of the segment that comes
    for line in text.splitlines():
        if line.startswith(("#EXT-X-PART", "#EXT-X-PRELOAD", "#EXT-X-REND", "#EXT-X-SERVER",
                            "#EXT-X-ENDLIST")):  # fmt: skip
            continue
        if line.startswith("#EXT-X-MAP"):
            line = re.sub(r'URI="([^"]+)"', lambda m: f'URI="{urljoin(url, m[1])}"', line)
        if line.startswith(("#EXTINF", "#EXT-X-GAP", "#EXT-X-PROGRAM")):
            held.append(line)
        elif line and line[0] != "#":
            if "#EXT-X-GAP" not in held:
                yield from (*held, urljoin(url, line))
            held = []
        else:
            yield line


def _packets(playlist: str) -> list[float]:
    """Decode time of each, in s."""
    with tempfile.NamedTemporaryFile("w", suffix=".m3u8") as file:
        file.write(playlist)
        file.flush()
        run = subprocess.run(
            [
                *("ffprobe", "-v", "error", "-protocol_whitelist", "file,http,tcp"),
                *("-allowed_extensions", "ALL", "-show_entries", "packet=dts_time"),
                *("-of", "json", "-i", file.name),
            ],
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
    if run.returncode:
        raise BenchError(f"ffprobe: {run.stderr.strip()[-300:]}")
    return [float(row["dts_time"]) for row in json.loads(run.stdout).get("packets", [])]
