"""The test pattern's clock survives the smallest rung, and tells the time at which it was made."""

from __future__ import annotations

import subprocess
import time
from itertools import pairwise
from typing import Final

import pytest

from origin.ffmpeg import find
from origin.testpattern import Pattern, argv
from tests.barcode import stamps_of

FPS: Final = 30
SECONDS: Final = 2

pytestmark = pytest.mark.timeout(60)


def rung(flv: bytes) -> bytes:
    """Grey pictures of the pattern as the smallest rung shows it: at a third of its usual rate."""
    tool = find().path
    small = "-f flv -i pipe:0 -vf scale=320:180:flags=bilinear -c:v libx264 -preset veryfast"
    coded = "-tune zerolatency -b:v 80k -maxrate 80k -bufsize 80k -an -f h264 pipe:1"
    raw = "-f h264 -i pipe:0 -f rawvideo -pix_fmt gray pipe:1"
    for options in (f"{small} {coded}", raw):
        command = [tool, "-loglevel", "error", *options.split()]
        flv = subprocess.run(command, input=flv, capture_output=True, check=True, timeout=30).stdout
    return flv


def test_the_barcode_says_when_each_frame_was_made() -> None:
    began = time.time()
    made = subprocess.run(
        argv(find(), "pipe:1", Pattern(seconds=SECONDS)),
        capture_output=True,
        timeout=30,
        check=True,
    )
    took_ms = 1000 * (time.time() - began)
    pictures = rung(made.stdout)
    stamps = stamps_of(pictures)
    assert len(stamps) >= FPS * SECONDS
    assert None not in stamps
    since = [((each or 0) - int(1000 * began)) % 2**32 for each in stamps]
    assert since == sorted(since)
    assert since[-1] <= took_ms
    # paced from the first frame on: media and clock go at one speed
    assert since[-1] - since[0] == pytest.approx(1000 * (len(stamps) - 1) / FPS, abs=100)
    assert max(b - a for a, b in pairwise(since)) < 500
