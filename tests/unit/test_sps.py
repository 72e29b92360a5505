"""Picture sizes read from what a real x264 writes; anything else is None, never an error."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.flv import CONFIG, VIDEO, FlvReader
from origin.ffmpeg import find
from origin.sps import picture_size


def record(size: str, *options: str) -> bytes:
    made = subprocess.run(
        [
            *(find().path, "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s={size}:r=30"),
            *("-frames:v", "1", "-c:v", "libx264", *options, "-f", "flv", "pipe:1"),
        ],
        capture_output=True,
        check=True,
        timeout=20,
    )
    tags = FlvReader().feed(made.stdout)
    return next(t.body[5:] for t in tags if t.kind == VIDEO and t.packet == CONFIG)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ("640x360", ("-pix_fmt", "yuv420p", "-profile:v", "baseline")),
        ("1920x1080", ("-pix_fmt", "yuv420p", "-profile:v", "high")),
        ("854x480", ("-pix_fmt", "yuv444p")),
        ("426x240", ("-pix_fmt", "yuv420p", "-flags", "+ildct+ilme")),
    ],
)
def test_sizes_of_real_streams(size: str, options: tuple[str, ...]) -> None:
    found = record(size, *options)
    assert picture_size(found) == tuple(map(int, size.split("x")))
    for cut in range(9, len(found) - 8):
        picture_size(found[:cut])


@pytest.mark.parametrize(
    ("size", "ratio", "shown"),
    [("720x576", "64/45", (1024, 576)), ("720x480", "10/11", (655, 480)), ("96x54", "1", (96, 54))],
)
def test_a_picture_of_oblong_samples_is_as_wide_as_it_is_shown(
    size: str, ratio: str, shown: tuple[int, int]
) -> None:
    """DV and old cameras: encoded as 720x576, such a picture would be shown too narrow."""
    found = record(size, "-vf", f"setsar={ratio}", "-pix_fmt", "yuv420p")
    assert picture_size(found) == shown
    for cut in range(9, len(found)):
        picture_size(found[:cut])


@given(st.binary(max_size=80))
def test_random_bytes(data: bytes) -> None:
    size = picture_size(b"\x01\x64\x00\x1f\xff\xe1\x00" + data)
    assert size is None or all(0 < side <= 16384 for side in size)
