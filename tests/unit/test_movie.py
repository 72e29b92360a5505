"""origin/archive/movie.py: segments of our packager, as one file that ffmpeg reads whole."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from origin.archive.movie import Movie, tracks_of
from origin.archive.recording import KeptInit, Recording, Sheet
from origin.model import MediaObject, PartObject
from origin.names import epoch_of
from origin.presentation import Presentation
from tests.encoded import SECONDS, encode
from tests.system.test_37_dvr import PLAN, UNIX_S

pytestmark = pytest.mark.timeout(60)


@cache
def kept() -> tuple[Recording, dict[str, bytes]]:
    """10.5 seconds in three tracks, and every object by its path."""
    show = Presentation("cam", epoch=epoch_of(UNIX_S), renditions=PLAN)
    start = show.begin_generation(wall_ns=UNIX_S * 10**9)
    recording = Recording(
        stream="cam",
        epoch=epoch_of(UNIX_S),
        segment_ms=2000,
        parts=6,
        part_target_ns=show.timing.part_target_ns,
    )
    objects: dict[str, bytes] = {}
    made = [
        item
        for track, data in encode(shutil.which("ffmpeg") or "ffmpeg", start.offset_s)
        for item in show.feed(track, data, 0)
    ]
    for item in [*made, *show.end_generation()]:
        if isinstance(item, PartObject):
            objects[item.segment_path] = objects.get(item.segment_path, b"") + item.body
            if item.kept is not None:
                recording.tracks.setdefault(item.track, Sheet()).segments.append(item.kept)
        elif isinstance(item, MediaObject) and item.rendition:
            objects[item.path] = item.body
            init = KeptInit(len(item.body), item.digest, item.rendition, epoch_of(UNIX_S))
            sheet = recording.tracks.setdefault(item.rendition.track, Sheet())
            sheet.inits[0] = init
    return recording, objects


def movie(track: str = "") -> Movie:
    recording, objects = kept()
    chosen = tracks_of(recording, track)
    return Movie(recording, {name: objects[path] for name, path in chosen.items()})


def read(made: Movie, start: int, stop: int) -> bytes:
    async def body(path: str) -> bytes:
        return kept()[1][path]

    async def gather() -> bytes:
        return b"".join([chunk async for chunk in made.read(start, stop, body)])

    return asyncio.run(gather())


def probe(file: Path) -> dict[str, Any]:
    asked = "format=start_time,duration:stream=codec_name,start_time,nb_read_packets,height"
    command = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", asked, "-of", "json"]
    done = subprocess.run([*command, str(file)], capture_output=True, timeout=30, check=True)
    assert done.stderr == b""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_is_one_file_with_the_best_picture_and_sound(tmp_path: Path) -> None:
    made = movie()
    body = read(made, 0, made.size)
    assert len(body) == made.size
    (tmp_path / "a.mp4").write_bytes(body)
    found = probe(tmp_path / "a.mp4")
    video, audio = found["streams"]
    assert (video["codec_name"], video["height"]) == ("h264", 180)
    assert int(video["nb_read_packets"]) == round(SECONDS * 30)
    assert audio["codec_name"] == "aac"
    assert 490 <= int(audio["nb_read_packets"]) <= 494
    assert abs(float(video["start_time"]) - float(audio["start_time"])) < 0.025
    assert float(found["format"]["start_time"]) < 0.1
    assert float(found["format"]["duration"]) == pytest.approx(SECONDS, abs=0.1)


def test_it_can_be_sought_in(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(read(movie(), 0, movie().size))
    command = ["ffmpeg", "-v", "error", "-ss", "7", "-i", str(tmp_path / "a.mp4"), "-map", "0:v"]
    done = subprocess.run([*command, "-f", "framecrc", "-"], capture_output=True, timeout=30)
    frames = [row for row in done.stdout.splitlines() if not row.startswith(b"#")]
    assert (len(frames), done.stderr) == (round(3.5 * 30), b"")


def test_another_picture_can_be_wished(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(read(movie("90p"), 0, movie("90p").size))
    assert probe(tmp_path / "a.mp4")["streams"][0]["height"] == 90
    with pytest.raises(KeyError):
        movie("1080p")


def test_any_range_is_the_same_bytes() -> None:
    made = movie()
    whole = read(made, 0, made.size)
    edges = [0, 1, len(made.head) - 1, len(made.head), len(made.head) + 1, 99_999, made.size - 1]
    for start in edges:
        for stop in (start + 1, start + 70_000, made.size):
            assert read(made, start, min(stop, made.size)) == whole[start:stop]


def test_encodings_that_differ_are_no_file() -> None:
    recording, objects = kept()
    sheet = recording.tracks["180p"]
    init = sheet.inits[0]
    other = Sheet({0: init, 1: init._replace(digest="f" * 32)}, sheet.segments)
    changed = Recording(
        stream="cam",
        epoch=recording.epoch,
        segment_ms=2000,
        parts=6,
        part_target_ns=1,
        tracks={"180p": other},
    )
    with pytest.raises(ValueError, match="not encoded alike"):
        Movie(changed, {"180p": objects[tracks_of(recording)["180p"]]})
