"""Which encoder is found good, by really trying: NVENC is played by `tests/nvenc.py`."""

from __future__ import annotations

import logging
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from edgecache.errors import ConfigError
from origin import coders, ffmpeg, hardware
from origin.config import Encoder
from origin.ffmpeg import Ffmpeg
from tests.nvenc import Made, script

NVENC = "h264_nvenc"


@pytest.fixture(scope="module")
def real() -> Ffmpeg:
    return ffmpeg.find()


@pytest.fixture
def found_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if the device of NVENC, and no other, were there."""
    (tmp_path / "nvidia0").touch()
    devices = {name: str(tmp_path / "nothing*") for name in coders.HARDWARE}
    devices[NVENC] = str(tmp_path / "nvidia*")
    here = {name: replace(each, devices=devices[name]) for name, each in coders.HARDWARE.items()}
    monkeypatch.setattr(coders, "HARDWARE", here)


def test_this_host_is_told_what_it_has() -> None:
    """Nothing where there is no device: no encoder is tried then."""
    tool = hardware.find(Encoder())
    assert tool.h264 == "libx264" or tool.h264 in hardware.present()
    for name in set(coders.HARDWARE) - set(hardware.present()):
        assert hardware.problem(tool, name) != ""


@pytest.mark.usefixtures("found_here")
def test_what_works_is_used(tmp_path: Path, real: Ffmpeg) -> None:
    path = script(tmp_path, real.path)
    assert hardware.present() == (NVENC,)
    for wanted in ("auto", NVENC):
        tool = hardware.find(Encoder.model_validate({"ffmpeg": path, "h264": wanted}))
        assert (tool.h264, tool.path) == (NVENC, str(path))
        assert str(tool).endswith(f"({path}, from encoder.ffmpeg) with {NVENC}")


@pytest.mark.usefixtures("found_here")
def test_what_does_not_is_passed_over_or_an_error(
    tmp_path: Path, real: Ffmpeg, caplog: pytest.LogCaptureFixture
) -> None:
    """`auto` passes it over and says so; what is named is one line, and no start."""
    path = script(tmp_path, real.path, means={NVENC: "none"})
    with caplog.at_level(logging.INFO, logger="origin.hardware"):
        assert hardware.find(Encoder(ffmpeg=path)).h264 == "libx264"
    assert [record.message for record in caplog.records] == ["hardware encoder passed over"]
    with pytest.raises(ConfigError) as error:
        hardware.find(Encoder(ffmpeg=path, h264=NVENC))
    (line,) = error.value.problems
    assert line.startswith(f"encoder.h264: found {NVENC}: Unknown encoder 'none' (ffmpeg ")
    assert line.endswith('); allowed is "auto", "libx264" or one that works here')


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (Made(without=("-force_key_frames",)), "made key frames at [0, 12], not at [0, 6, 12]"),
        (Made(without=("-bf",), means={"p4": "veryfast", "ll": "film"}), "reordered pictures"),
        (Made(means={"15": "9"}), "made 9 pictures of 15"),
    ],
    ids=["keys", "reordered", "short"],
)
def test_what_it_makes_is_looked_at(made: Made, why: str, tmp_path: Path, real: Ffmpeg) -> None:
    tool = replace(real, path=str(script(tmp_path, real.path, **made)))
    assert hardware.problem(tool, NVENC) == why


def test_an_init_section_without_parameters_is_none(tmp_path: Path, real: Ffmpeg) -> None:
    """ffmpeg 5.1 writes such a one for an encoder that tells them with its first picture only."""
    tool = replace(real, path=str(script(tmp_path, real.path)))
    made = subprocess.run(hardware._command(tool, NVENC), capture_output=True, timeout=30).stdout
    at = made.index(b"avcC") + 5  # profile, constraints, level
    (tmp_path / "made").write_bytes(made[:at] + bytes(3) + made[at + 3 :])
    Path(tool.path).write_text(f"#!/bin/sh\nexec cat {tmp_path}/made\n")
    assert hardware.problem(tool, NVENC) == "made no init section that tells how to decode it"


def test_one_that_hangs_is_not_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_PROBE_S", 0.2)
    path = tmp_path / "ffmpeg"
    path.write_text("#!/bin/sh\nexec sleep 60\n")
    path.chmod(0o755)
    tool = Ffmpeg(path=str(path), version=(5, 1), found="test")
    assert hardware.problem(tool, NVENC) == "made no 15 pictures in 0.2 s"


@pytest.mark.usefixtures("found_here")
def test_each_ffmpeg_has_its_own(
    tmp_path: Path, real: Ffmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer one, for what the first is too old for, may not have what the first has."""
    good = replace(real, path=str(script(tmp_path, real.path)))
    for first, newer, found in ((good, real, [NVENC, "libx264"]), (real, good, ["libx264", NVENC])):
        both = replace(first, version=(5, 1), newer=replace(newer, version=(8, 0)))
        monkeypatch.setattr(ffmpeg, "find", lambda _configured, both=both: both)
        tool = hardware.find(Encoder())
        later = tool.since((8, 0))
        assert later is not None
        assert [tool.h264, later.h264] == found
        assert tool.software == both


def test_after_an_end_by_itself_software_goes_on_but_not_after_a_signal() -> None:
    newer = Ffmpeg(path="b", version=(8, 0), found="test", h264=NVENC)
    tool = Ffmpeg(path="a", version=(5, 1), found="test", newer=newer)
    for told, goes_on in (({"signal": 3, "slow": 1, "garbage": 1}, tool), ({}, tool)):
        assert hardware.heed(tool, Counter(told), "cam") == goes_on
    for reason in ("exit", "stall"):
        assert hardware.heed(tool, Counter({reason: 1}), "cam") == tool.software
    software = tool.software.since((8, 0))
    assert software is not None
    assert software.h264 == "libx264"
