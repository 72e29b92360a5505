"""What happens around a viewer: a publisher of its own, and what the state says and can be killed.

`door` is a POP's, as the state page asks, or the origin's for operators: only they see processes.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from origin.ffmpeg import find

SECONDS: Final = 12
_PICTURE: Final = "testsrc2=size=320x180:rate=30"
_SOUND: Final = "sine=frequency=440:r=48000"
_CODECS: Final = "-c:v libx264 -preset ultrafast -tune zerolatency -g 60 -pix_fmt yuv420p -c:a aac"


@contextmanager
def publisher(url: str, sound_after_s: float) -> Iterator[None]:
    """A small broadcast over RTMP of SECONDS; its sound ends `sound_after_s` after
    its picture."""
    ends = (f":duration={SECONDS}", f":duration={SECONDS + sound_after_s}")
    inputs = f"-re -f lavfi -i {_PICTURE}{ends[0]} -re -f lavfi -i {_SOUND}{ends[1]}"
    command = [str(find().path), "-hide_banner", "-loglevel", "error", *inputs.split()]
    process = subprocess.Popen(
        [*command, *_CODECS.split(), "-f", "flv", url],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
        assert process.wait(SECONDS + 10) == 0
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        finally:
            process.kill()


def state_of(door: str, stream: str) -> dict[str, Any]:
    """The row of `stream` in /api/streams."""
    with urllib.request.urlopen(f"{door}/api/streams", timeout=5) as answer:
        rows: list[dict[str, Any]] = json.load(answer)["streams"]
    return next(row for row in rows if row["name"] == stream)


def until_listed(door: str, stream: str, segments: int) -> None:
    """Wait, by blocking reloads of the sound's playlist, until it lists so many whole segments."""
    url, text, want = f"{door}/live/{stream}/audio.m3u8", "", ""
    while (listed := text.count("#EXTINF")) < segments:
        if text:
            first = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)
            assert first, text
            want = f"?_HLS_msn={int(first[1]) + listed}"
        with urllib.request.urlopen(url + want, timeout=10) as answer:
            text = answer.read().decode()


def origin_answers(door: str) -> dict[str, float]:
    """How often the origin answered for what viewers play, by route and status."""
    with urllib.request.urlopen(f"{door}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counts = (line.rsplit(" ", 1) for line in lines if 'responses_total{route="/live' in line)
    return {name: float(count) for name, count in counts}


def encoder_pid(door: str, stream: str) -> int | None:
    found: int | None = state_of(door, stream)["encoder_pid"]
    return found


def kill_encoder(door: str, stream: str) -> int:
    """Kill -9 the ffmpeg of `stream`; returns its number."""
    pid = encoder_pid(door, stream)
    assert pid
    os.kill(pid, signal.SIGKILL)
    return pid
