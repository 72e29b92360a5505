"""What each encoder of H.264 is told, and that both ffmpegs know the words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from origin import coders, hardware, ladder
from origin.ffmpeg import Ffmpeg, find

SMALL = ladder.Plan(rungs=ladder.SMALL)
OWN = {
    "h264_nvenc": (
        "-preset p4 -tune ll -profile:v main -pix_fmt yuv420p -rc cbr -forced-idr 1"
        " -no-scenecut 1 -zerolatency 1 -delay 0"
    ),
    "h264_qsv": (
        "-preset veryfast -profile:v main -pix_fmt nv12 -forced_idr 1 -adaptive_i 0 -async_depth 1"
    ),
    "h264_vaapi": "-profile:v main -async_depth 1",
    "h264_v4l2m2m": "-pix_fmt yuv420p -movflags +delay_moov",
}


def line(h264: str, plan: ladder.Plan = SMALL) -> str:
    tool = Ffmpeg(path="ffmpeg", version=(5, 1), found="test", h264=h264)
    return " ".join(ladder.argv(plan, tool, fds=range(7, 7 + len(plan.tracks)), offset_s=20.0))


@pytest.mark.parametrize("name", coders.HARDWARE)
def test_hardware_is_told_what_libx264_is(name: str) -> None:
    """The rate and a second of it as buffer, no picture that waits for later ones, key frames on
    the grid and closed groups, for each rung; and nothing that only libx264 knows."""
    told = line(name)
    for rung in SMALL.rungs:
        rate = rung.bitrate
        assert (
            f" -c:v {name} {OWN[name]} -b:v {rate} -maxrate {rate} -bufsize {rate}"
            " -g 120 -bf 0 -flags:v +cgop -force_key_frames expr:gte(t,n_forced*2)"
            " -video_track_timescale 90000 -f mp4"
        ) in told
    for word in ("libx264", "zerolatency ", "-sc_threshold", "-keyint_min", "-threads:v"):
        assert word not in told.replace("-zerolatency ", "")


def test_libx264_is_told_what_it_was() -> None:
    assert (
        " -c:v libx264 -tune zerolatency -profile:v main -preset veryfast -threads:v 1"
        " -pix_fmt yuv420p -b:v 700000 -maxrate 700000 -bufsize 700000 -g 120 -keyint_min 1"
        " -sc_threshold 0 -force_key_frames expr:gte(t,n_forced*2) -video_track_timescale 90000"
    ) in line("libx264")


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("libx264", ""),
        ("h264_nvenc", "-init_hw_device cuda=hw "),
        ("h264_qsv", "-init_hw_device qsv=hw "),
        ("h264_vaapi", "-init_hw_device vaapi=hw -filter_hw_device hw "),
        ("h264_v4l2m2m", ""),
    ],
)
def test_one_device_is_opened_for_all_rungs(name: str, opening: str) -> None:
    assert line(name).startswith(f"ffmpeg {opening}-hide_banner")
    uploads = re.findall(r"setsar=1,format=nv12,hwupload\[v\d\]", line(name))
    assert len(uploads) == (len(SMALL.rungs) if name == "h264_vaapi" else 0)


def test_other_codecs_stay_in_software() -> None:
    hevc = replace(SMALL.rungs[1], track="hevc", codec="hevc")
    mixed = line("h264_vaapi", replace(SMALL, rungs=(SMALL.rungs[0], hevc)))
    assert "setsar=1,format=nv12,hwupload[v0]" in mixed
    assert "setsar=1[v1]" in mixed
    assert "-c:v libx265" in mixed
    alone = line("h264_vaapi", replace(SMALL, rungs=(hevc,)))
    assert "vaapi" not in alone
    assert "vaapi" not in line("h264_vaapi", ladder.fit(SMALL, None))


@pytest.mark.parametrize("environ", [None, {"PATH": "/nowhere"}], ids=["first", "wheel"])
@pytest.mark.parametrize("name", coders.HARDWARE)
def test_ffmpeg_knows_the_words(
    name: str, environ: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hardware is not there, that is what it says; not that an option or its value is
    wrong, which it finds out before, if the device is opened by the encoder. (ffmpeg 5.1 does not
    get as far as the values for VA-API.)"""
    bare = replace(coders.HARDWARE[name], opening=(), upload="")
    monkeypatch.setattr(coders, "HARDWARE", {name: bare})
    why = hardware.problem(find(environ=environ), name)
    assert not re.search("Unrecognized|Undefined|Unknown (?!encoder)|Unable to parse", why), why
