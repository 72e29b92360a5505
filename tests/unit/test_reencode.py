"""origin/archive/reencode.py: chunks in parallel, joined, and taken up again after a crash."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from origin.archive.movie import Movie, tracks_of
from origin.archive.objects import Objects, Place
from origin.archive.recorder import key_of
from origin.archive.recording import Recording
from origin.archive.reencode import EncodeError, Reencode, chunks_of
from origin.config import ArchiveRung
from origin.ffmpeg import Ffmpeg, find
from origin.model import digest_of
from tests.encoded import SECONDS
from tests.looped import looped
from tests.unit.test_movie import kept

pytestmark = pytest.mark.timeout(60)


def rung(codec: str = "h264", preset: str = "veryfast") -> ArchiveRung:
    return ArchiveRung.model_validate(
        {"width": 160, "height": 90, "bitrate": "60kbps", "codec": codec, "preset": preset}
    )


class Bench:
    """A store with the recording in it, and an ffmpeg that says how often it was started."""

    def __init__(self, home: Path) -> None:
        self.recording, objects = kept()
        self.objects = Objects(Place(url=str(home / "store")))
        for path, body in objects.items():
            self.objects.create(key_of(path), body)
        self._starts = home / "starts"
        self._starts.mkdir()
        script = home / "ffmpeg"  # which may not write a file
        script.write_text(f'#!/bin/sh\nmkdir {self._starts}/$$\nexec {find().path} "$@"\n')
        script.chmod(0o755)
        self.ffmpeg = Ffmpeg(path=str(script), version=find().version, found="test")

    @property
    def starts(self) -> int:
        return len(list(self._starts.iterdir()))

    def job(self, **rungs: ArchiveRung) -> Reencode:
        return Reencode(
            self.recording, rungs, objects=self.objects, ffmpeg=self.ffmpeg, chunk_ms=4000
        )

    async def file(self, recording: Recording, track: str, path: Path) -> Path:
        """The track and its sound, as one file."""

        async def read(name: str) -> bytes:
            return self.objects.read(key_of(name))

        inits = {name: await read(at) for name, at in tracks_of(recording, track).items()}
        movie = Movie(recording, inits)
        body = b"".join([part async for part in movie.read(0, movie.size, read)])
        await asyncio.to_thread(path.write_bytes, body)
        return path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def video_of(file: Path) -> tuple[str, int, int]:
    """Codec, height, decoded frames; no complaint of the decoder is allowed."""
    command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-of", "json"]
    asked = ["-show_entries", "stream=codec_name,height,nb_read_frames", str(file)]
    done = subprocess.run([*command, *asked], capture_output=True, timeout=30, check=True)
    assert done.stderr == b""
    (stream,) = json.loads(done.stdout)["streams"]
    return stream["codec_name"], stream["height"], int(stream["nb_read_frames"])


@pytest.mark.parametrize(
    ("codec", "preset", "name"),
    [("h264", "veryfast", "h264"), ("hevc", "ultrafast", "hevc"), ("av1", "12", "av1")],
)
@looped
async def test_new_renditions_have_the_numbers_of_the_old_ones(
    bench: Bench, tmp_path: Path, codec: str, preset: str, name: str
) -> None:
    told: list[tuple[int, int]] = []
    job = bench.job(keep=rung(codec, preset))
    made = await job.run(workers=2, progress=lambda *counts: told.append(counts))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert bench.starts == 3
    assert made.revision == bench.recording.revision + 1
    old, new = made.tracks["180p"].segments, made.tracks["keep"].segments
    assert [(k.msn, k.start_ns, k.end_ns) for k in new] == [
        (k.msn, k.start_ns, k.end_ns) for k in old
    ]
    for path, size, digest in made.objects():
        body = bench.objects.read(key_of(path))
        assert (len(body), digest_of(body)) == (size, digest)
    file = await bench.file(made, "keep", tmp_path / "keep.mp4")
    assert video_of(file) == (name, 90, round(SECONDS * 30))


@looped
async def test_each_segment_begins_with_its_key_frame(bench: Bench, tmp_path: Path) -> None:
    made = await bench.job(keep=rung()).run(workers=1)
    init = made.tracks["keep"].inits[0]
    stream = made.stream
    body = bench.objects.read(f"{stream}/{init.epoch}/keep/init0.mp4")
    for each in made.tracks["keep"].segments:
        data = bench.objects.read(f"{stream}/{each.epoch}/keep/{each.msn}.m4s")
        body += data[: each.key_bytes]
    (tmp_path / "keys.mp4").write_bytes(body)
    assert video_of(tmp_path / "keys.mp4") == ("h264", 90, 6)


@looped
async def test_a_crash_costs_the_chunks_that_were_not_finished(bench: Bench) -> None:
    first = asyncio.Event()
    job = bench.job(keep=rung())
    cut = asyncio.create_task(job.run(workers=1, progress=lambda *_: first.set()))
    await first.wait()
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    markers = [key for key, _ in bench.objects.list(f"cam/{bench.recording.epoch}/encode")]
    done, before = len(markers), bench.starts
    assert done in (1, 2)
    # what a crash between two segments of a chunk leaves
    stray = bench.recording.tracks["180p"].segments[-1]
    key = f"cam/{stray.epoch}/keep/{stray.msn}.m4s"
    bench.objects.delete([key])
    bench.objects.create(key, b"half of it")
    made = await bench.job(keep=rung()).run(workers=2)
    assert bench.starts - before == 3 - done
    assert len(made.tracks["keep"].segments) == 6
    again = await bench.job(keep=rung()).run(workers=2)  # all of it is done
    assert (again, bench.starts - before) == (made, 3 - done)


@looped
async def test_an_encoder_that_fails_says_why_and_stores_no_word(bench: Bench) -> None:
    job = bench.job(keep=rung(preset="nonsense"))
    with pytest.raises(ExceptionGroup) as error:
        await job.run(workers=1)
    assert "ffmpeg ended with" in str(error.value.exceptions[0])
    assert list(bench.objects.list(f"cam/{bench.recording.epoch}/encode")) == []


@looped
async def test_a_damaged_source_is_not_encoded(bench: Bench) -> None:
    victim = bench.recording.tracks["180p"].segments[2]
    key = f"cam/{victim.epoch}/180p/{victim.msn}.m4s"
    bench.objects.delete([key])
    bench.objects.create(key, bytes(victim.size))
    with pytest.raises(ExceptionGroup) as error:
        await bench.job(keep=rung()).run(workers=1)
    assert isinstance(error.value.exceptions[0], EncodeError)


def test_nothing_is_scaled_up_or_made_twice(bench: Bench) -> None:
    large = ArchiveRung.model_validate({"width": 640, "height": 360, "bitrate": "1Mbps"})
    assert not bench.job(large=large).wanted
    assert not bench.job(**{"90p": rung()}).wanted
    assert bench.job(large=large, keep=rung()).wanted


def test_chunks_end_where_segments_do_not_follow(bench: Bench) -> None:
    sheet = bench.recording.tracks["180p"]
    assert [len(chunk.segments) for chunk in chunks_of(sheet, 4)] == [4, 2]
    holed = type(sheet)(sheet.inits, [sheet.segments[0], *sheet.segments[2:]])
    assert [len(chunk.segments) for chunk in chunks_of(holed, 4)] == [1, 4]
    later = [each._replace(generation=1) for each in sheet.segments[3:]]
    split = type(sheet)(sheet.inits, [*sheet.segments[:3], *later])
    assert [len(chunk.segments) for chunk in chunks_of(split, 9)] == [3, 3]
