"""The plan and the command: what is encoded for which source, and that nothing else can be
opened."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bench.ingest import clips
from edgecache.flv import HEADER
from origin import ladder
from origin.cmaf import Demuxer, Frame, Init
from origin.config import Config, load_config
from origin.ffmpeg import Ffmpeg, find
from origin.source import Source

TOOL = Ffmpeg(path="/usr/bin/ffmpeg", version=(5, 1), found="test")
SMALL = ladder.Plan(rungs=ladder.SMALL)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "production.toml"
FULL = ladder.plan_of(load_config(EXAMPLE, environ={}).value)


@pytest.mark.parametrize(
    ("height", "kept"),
    [
        (2160, ["1080p", "720p", "480p", "360p", "240p", "144p"]),
        (1080, ["1080p", "720p", "480p", "360p", "240p", "144p"]),
        (719, ["480p", "360p", "240p", "144p"]),
        (240, ["240p", "144p"]),
        (100, ["144p"]),
    ],
)
def test_no_rung_above_the_source(height: int, kept: list[str]) -> None:
    for size in ((height * 16 // 9, height), (height, height * 16 // 9)):
        assert [rung.track for rung in ladder.fit(FULL, size).rungs] == kept


def test_without_a_picture_there_is_no_rung_and_of_unknown_size_all() -> None:
    assert ladder.fit(FULL, None).rungs == ()
    assert ladder.fit(FULL, (0, 0)) == ladder.shape(FULL, (0, 0)) == FULL


@pytest.mark.parametrize(
    ("size", "shaped"),
    [
        ((1920, 1080), [(1920, 1080), (1280, 720), (854, 480), (640, 360), (426, 240)]),
        ((1440, 1080), [(1440, 1080), (960, 720), (640, 480), (480, 360), (320, 240)]),
        ((1080, 1920), [(1080, 1920), (720, 1280), (480, 854), (360, 640), (240, 426)]),
        ((1920, 800), [(1920, 800), (1280, 534), (854, 356), (640, 266), (426, 178)]),
        ((640, 360), [(640, 360), (640, 360), (640, 360), (640, 360), (426, 240)]),
        ((1365, 767), [(1364, 766), (1280, 720), (854, 480), (640, 360), (426, 240)]),
        ((175, 143), [(174, 142)] * 5),
    ],
)
def test_proportions_are_the_sources_and_nothing_is_enlarged(
    size: tuple[int, int], shaped: list[tuple[int, int]]
) -> None:
    found = [(rung.width, rung.height) for rung in ladder.shape(FULL, size).rungs]
    assert found[:5] == shaped
    assert min(found[5]) <= 144


def test_first_the_best_rung_is_left_out_then_every_other_picture() -> None:
    assert [ladder.steps(plan) for plan in (FULL, ladder.fit(FULL, None))] == [2, 0]
    assert ladder.shed(FULL, 0) == (FULL, {})
    one, copies = ladder.shed(FULL, 1)
    assert (one.rungs, one.fps, copies) == (FULL.rungs[1:], 60, {"720p": "1080p"})
    two, copies = ladder.shed(FULL, 2)
    assert (two.rungs, two.fps, copies) == (FULL.rungs[1:], 30, {"720p": "1080p"})
    assert {two.step(rung) for rung in two.rungs} == {1}  # those of 30 have all that is left
    single = ladder.fit(FULL, (256, 144))
    assert ladder.steps(single) == 1
    assert ladder.shed(single, 1) == (replace(single, fps=30), {})


def test_a_rung_is_never_replaced_by_one_of_another_codec() -> None:
    """Who watches the best one in H.264 may not be able to play HEVC."""
    hevc = replace(SMALL.rungs[1], track="hevc", codec="hevc", preset="ultrafast")
    plan = replace(SMALL, rungs=(SMALL.rungs[0], hevc))
    assert ladder.steps(plan) == 1
    assert ladder.shed(plan, 1) == (replace(plan, fps=15), {})
    assert ladder.fit(plan, (64, 36)).rungs == SMALL.rungs[:1]


@pytest.mark.parametrize(
    ("told", "rates"),
    [(0.0, [60, 30]), (60.0, [60, 30]), (50.0, [60, 30]), (30.0, [30, 30]), (25.0, [30, 30])],
)
def test_pictures_are_not_repeated_for_a_slow_source(told: float, rates: list[int]) -> None:
    plan = ladder.fit(FULL, (1920, 1080), told)
    found = {each.track: each.frame_rate for each in ladder.renditions(plan)}
    assert [found["1080p"], found["480p"]] == rates
    assert ladder.fit(SMALL, (640, 360), told) == SMALL
    # a later process goes on with what was planned, whatever its source says
    assert ladder.only(FULL, ladder.renditions(plan)) == plan


def test_threads_are_pinned() -> None:
    assert [rung.threads for rung in FULL.rungs] == [4, 2, 1, 1, 1, 1]


def test_default_configuration_is_the_small_ladder() -> None:
    plan = ladder.plan_of(Config())
    assert plan == SMALL
    assert plan.tracks == ("360p", "180p", "audio")


def test_renditions_follow_the_tracks() -> None:
    found = ladder.renditions(SMALL)
    assert [one.track for one in found] == list(SMALL.tracks)
    assert [one.kind for one in found] == ["video", "video", "audio"]
    assert found[0].bandwidth > found[0].average_bandwidth >= 700_000


def test_a_language_is_a_pair_of_the_sources_channels() -> None:
    tracks = {
        "audio": {"language": "en", "name": "English", "channels": (0, 1)},
        "audio-de": {"language": "de", "channels": (2, 3)},
    }
    plan = ladder.plan_of(Config.model_validate({"audio": {"tracks": tracks}}))
    assert plan.tracks == ("360p", "180p", "audio", "audio-de")
    sound = ladder.renditions(plan)[2:]
    assert [(one.track, one.language, one.name) for one in sound] == [
        ("audio", "en", "English"),
        ("audio-de", "de", ""),
    ]
    line = " ".join(ladder.argv(plan, TOOL, fds=[7, 8, 9, 10], offset_s=0.0))
    assert "pan=stereo|c0=c0|c1=c1,aresample=async=1000" in line
    assert "pan=stereo|c0=c2|c1=c3,aresample=async=1000" in line
    assert line.endswith("pipe:10")


def test_a_sound_is_one_of_the_sources_tracks() -> None:
    """By the order in which they are sent; what is not there is the first one made silent."""
    tracks = {name: {"source": n} for n, name in enumerate(("audio", "audio-b", "audio-c"))}
    plan = ladder.plan_of(Config.model_validate({"audio": {"tracks": tracks}}))
    assert plan.sides == {1, 2}
    source = Source(video="avc1", audio="aac", width=640, height=360, sides=((2, "Opus"),))
    newer = replace(TOOL, path="/usr/bin/newer", version=(8, 0))
    tool = replace(TOOL, newer=newer)
    command = ladder.argv(plan, tool, fds=[6, 7, 8, 9, 10], offset_s=0.0, source=source)
    assert command[0] == "/usr/bin/newer"  # the other one reads one sound only
    maps = [command[at + 1] for at, word in enumerate(command) if word == "-map"]
    assert maps[2:] == ["0:a:0", "0:a:0", "0:a:1"]
    filters = [command[at + 1] for at, word in enumerate(command) if word == "-af"]
    assert [each.startswith("volume=0,") for each in filters] == [False, True, False]


def test_command_of_the_small_ladder() -> None:
    command = ladder.argv(SMALL, TOOL, fds=[7, 8, 9], offset_s=20.0)
    assert command[0] == "/usr/bin/ffmpeg"
    line = " ".join(command)
    assert "-protocol_whitelist pipe" in line
    assert "-f flv -i pipe:0" in line
    assert "[0:v:0]fps=30:start_time=0,split=2[s0][s1]" in line
    assert line.count("-output_ts_offset 20.000000") == 3
    assert line.count("-force_key_frames expr:gte(t,n_forced*2) ") == 2
    assert [word for word in command if word.startswith("pipe:")] == [
        "pipe:0",
        "pipe:7",
        "pipe:8",
        "pipe:9",
    ]


def test_command_without_a_picture() -> None:
    command = ladder.argv(ladder.fit(SMALL, None), TOOL, fds=[7], offset_s=0.0)
    assert "-filter_complex" not in command
    assert "libx264" not in command


def test_pipes_must_match_the_tracks() -> None:
    with pytest.raises(ValueError, match="2 pipes"):
        ladder.argv(SMALL, TOOL, fds=[7, 8], offset_s=0.0)


@pytest.mark.parametrize("environ", [None, {"PATH": ""}], ids=["system", "wheel"])
def test_hostile_input_opens_nothing(environ: dict[str, str] | None) -> None:
    """An HLS playlist that names a file is not read as one: the demuxer is forced."""
    tool = find(environ=environ)
    read, write = os.pipe()
    plan = ladder.fit(SMALL, None)
    text = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    done = subprocess.run(
        ladder.argv(plan, tool, fds=[write], offset_s=0.0),
        input=text,
        pass_fds=[write],
        capture_output=True,
        check=False,
        timeout=20,
    )
    os.close(write)
    with os.fdopen(read, "rb") as output:
        assert output.read() == b""
    assert done.returncode != 0
    assert b"passwd" not in done.stderr


def _sound(how: str) -> bytes:
    """FLV of a tone whose publisher loses frames, or has another idea of a second."""
    found = clips.tags(clips.Clip(seconds=6, video=""))
    if how == "lost":
        found = tuple(tag for n, tag in enumerate(found) if n % 40 != 39)
    elif how == "fast":
        found = tuple(replace(tag, timestamp=tag.timestamp * 1002 // 1000) for tag in found)
    return HEADER + b"".join(tag.encode() for tag in found)


@pytest.mark.parametrize("environ", [None, {"PATH": "/nowhere"}], ids=["first", "wheel"])
@pytest.mark.parametrize("how", ["whole", "lost", "fast"])
def test_sound_has_no_hole(how: str, environ: dict[str, str] | None, tmp_path: Path) -> None:
    """The first time stamp that was a little off started the resampler anew: sound of 48 kHz then
    had a hole there, which players fall into."""
    sent = _sound(how)
    with (tmp_path / "sound.mp4").open("wb") as file:
        fd = file.fileno()
        tool = find(environ=environ)
        command = ladder.argv(ladder.fit(SMALL, None), tool, fds=[fd], offset_s=20.0)
        run = subprocess.run(command, input=sent, pass_fds=[fd], capture_output=True, timeout=30)
    assert run.returncode == 0, run.stderr
    found = Demuxer().feed((tmp_path / "sound.mp4").read_bytes())
    frames = [item for item in found if isinstance(item, Frame)]
    assert frames[0].dts == 20 * 48_000 - 1024  # the encoder's delay
    assert {b.dts - a.dts for a, b in pairwise(frames)} == {1024}
    assert frames[-1].dts / 48_000 == pytest.approx(26.0, abs=0.1)


@pytest.mark.parametrize("environ", [None, {"PATH": "/nowhere"}], ids=["first", "wheel"])
def test_codecs_and_rates_share_one_grid(environ: dict[str, str] | None, tmp_path: Path) -> None:
    """60 and 30 pictures a second of H.264, HEVC and AV1: key frames at every segment in all of
    them, and what the playlist will call them."""
    size = {"width": 160, "height": 90, "bitrate": "100kbps"}
    rungs = {
        "av1": {**size, "codec": "av1", "preset": "12", "fps": 30},
        "hevc": {**size, "codec": "hevc", "preset": "ultrafast", "fps": 30},
        "fast": {**size, "preset": "ultrafast"},
        "slow": {**size, "preset": "ultrafast", "fps": 30},
    }
    told = {"ladder": rungs, "encoder": {"fps": 60}, "live": {"segment": "1s"}}
    plan = replace(ladder.plan_of(Config.model_validate(told)), sounds=())
    assert plan.tracks == ("fast", "slow", "hevc", "av1")
    found = clips.tags(clips.Clip(seconds=3, audio="", rate=60))
    files = [(tmp_path / track).open("wb") for track in plan.tracks]
    fds = [file.fileno() for file in files]
    tool = find(environ=environ)
    run = subprocess.run(
        ladder.argv(plan, tool, fds=fds, offset_s=20.0),
        input=HEADER + b"".join(tag.encode() for tag in found),
        pass_fds=fds,
        capture_output=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    codecs = []
    for file, frames in zip(files, (180, 90, 90, 90), strict=True):
        file.close()
        init, *made = Demuxer().feed(Path(file.name).read_bytes())
        assert isinstance(init, Init)
        codecs.append(init.codec.split(".")[0])
        times = [(f.dts / init.timescale, f.sync) for f in made if isinstance(f, Frame)]
        assert [at for at, sync in times if sync][:3] == [20.0, 21.0, 22.0]
        assert abs(len(times) - frames) <= 1
    assert codecs == ["avc1", "avc1", "hvc1", "av01"]
