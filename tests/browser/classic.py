"""Classic clients at POP B: ffmpeg and GStreamer, each by HLS and by DASH.

They copy or drop what they get, so a tenth of a core is enough for all four; what they get has no
hole and no repetition.

ffmpeg's DASH has its own idea of what is next: of numbers as large as ours it holds every one for
too old (its least number is startNumber + seconds since availabilityStartTime - the window), so it
asks for the one that its clock says, in whole seconds, whenever it has read a segment. On a busy
host that is one too far now and then: with an availabilityStartTime that ends in .983 s a segment
that comes 1.02 s late is enough. So its hole is where it did not ask, and nowhere else.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from origin.ffmpeg import find

CLIENT_S: Final = 66  # a minute, and what a clock may pass over at the beginning
AHEAD_S: Final = 20  # to find the stream and its live edge
SEGMENT_S: Final = 2.0  # live.segment
FRAME_S: Final = {"video": 1 / 30, "audio": 1024 / 48_000}
GST_SINK: Final = "fakesink silent=false sync=false"
GST_BUFFER: Final = re.compile(r"pts: (\d+):(\d\d):(\d\d\.\d+), duration: ")


def ffmpeg(url: str) -> list[str]:
    """Prints every packet's timestamp, as they come, and says what it asks for."""
    given = f"-v verbose -nostdin -i {url} -t {CLIENT_S} -map 0:v:0 -map 0:a:0 -c copy"
    return [str(find().path), *given.split(), "-f", "framecrc", "-"]


def gstreamer(source: str) -> list[str]:
    return ["gst-launch-1.0", "-v", *f"{source} ! queue ! {GST_SINK}".split()]


def clients(base: str) -> dict[str, list[str]]:
    """What runs, by its name. GStreamer's older DASH element: the newer one buffers 30 s first."""
    hls, mpd = f"{base}/live/demo/master.m3u8", f"{base}/live/demo/manifest.mpd"
    dash = f"souphttpsrc location={mpd} ! dashdemux name=demux demux.audio_00 ! queue ! qtdemux"
    return {
        "ffmpeg hls": ffmpeg(hls),
        "ffmpeg dash": ffmpeg(mpd),
        "gstreamer hls": gstreamer(f"urisourcebin uri={hls} parse-streams=true"),
        "gstreamer dash": gstreamer(dash),
    }


def packets(name: str, text: str) -> dict[str, list[float]]:
    """Timestamps in seconds by kind, in the order they came."""
    if name.startswith("gstreamer"):
        found = [int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in GST_BUFFER.findall(text)]
        return {"audio": found}
    bases = dict(re.findall(r"#tb (\d): 1/(\d+)", text))
    rows = [row.split(",") for row in text.splitlines() if row and not row.startswith("#")]
    return {
        kind: [int(row[1]) / int(bases[index]) for row in rows if row[0].strip() == index]
        for kind, index in (("video", "0"), ("audio", "1"))
    }


@dataclass
class Client:
    """A process, what it puts out and what it says."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def text(self) -> str:
        return self.out.read_text(errors="replace")

    def said(self) -> str:
        return self.err.read_text(errors="replace")


def unasked(said: str, kind: str) -> list[int]:
    """Each time that ffmpeg, by its clock, passed over segments: how many."""
    track = "audio" if kind == "audio" else "360p"
    asked = [int(n) for n in re.findall(rf"DASH request for url '\S+/{track}/(\d+)\.m4s'", said)]
    return [after - before - 1 for before, after in pairwise(asked) if after != before + 1]


@contextmanager
def watching(base: str, folder: Path) -> Iterator[dict[str, Client]]:
    """All of them, from now on."""
    with ExitStack() as running:
        started: dict[str, Client] = {}
        for name, command in clients(base).items():
            paths = [folder / f"{name.replace(' ', '-')}.{kind}" for kind in ("out", "err")]
            out, err = (running.enter_context(path.open("wb")) for path in paths)
            process = subprocess.Popen(command, stdout=out, stderr=err)
            running.callback(process.wait, 10)
            running.callback(process.kill)
            started[name] = Client(process, *paths)
        yield started


def assert_continuous(classic: dict[str, Client], measured: Callable[..., None]) -> None:
    for name, client in classic.items():
        if name.startswith("ffmpeg"):
            client.process.wait(CLIENT_S + AHEAD_S)
        said = client.said()
        assert "Failed to open" not in said, (name, said[-2000:])
        for kind, times in packets(name, client.text()).items():
            frame_s = FRAME_S[kind]
            lasts = times[-1] - times[0] if times else 0
            measured(**{f"{name} {kind}": f"{lasts:.1f} s, {len(times)} packets"})
            assert lasts >= 60, (name, kind, said[-2000:])
            steps = [after - before for before, after in pairwise(times)]
            assert min(steps) == pytest.approx(frame_s, abs=0.002), (name, kind)
            holes = [(step - frame_s) / SEGMENT_S for step in steps if step > frame_s + 0.002]
            missing = unasked(said, kind)[: len(holes)]
            assert holes == pytest.approx(missing, abs=frame_s), (name, kind)
