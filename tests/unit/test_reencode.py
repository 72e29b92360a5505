"""origin/archive/chunk.py, worker.py and reencode.py: chunks in parallel, joined, and taken up
again after a crash."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from origin.archive import worker as module
from origin.archive.chunk import ChunkEncoder, EncodeError, Encoding, chunks_of, encoded
from origin.archive.movie import Movie, tracks_of
from origin.archive.objects import Objects, Place
from origin.archive.recorder import index_key, key_of
from origin.archive.recording import Recording
from origin.archive.reencode import Reencode
from origin.archive.worker import Worker
from origin.config import ArchiveRung
from origin.ffmpeg import Ffmpeg, find
from origin.jobs import RowJobs
from origin.model import digest_of
from origin.rows_sqlite import SqliteRows
from tests.encoded import SECONDS
from tests.looped import eventually, looped
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
        recording = self.recording
        key = index_key(recording.stream, recording.epoch, recording.revision)
        self.objects.create(key, recording.to_json())
        self.rows = SqliteRows(None)
        self.jobs = RowJobs(self.rows, lease_s=5.0)
        self.counters: Counter[str] = Counter()
        self._starts = home / "starts"
        self._starts.mkdir()
        script = home / "ffmpeg"  # which may not write a file
        script.write_text(f'#!/bin/sh\nmkdir {self._starts}/$$\nexec {find().path} "$@"\n')
        script.chmod(0o755)
        self.ffmpeg = Ffmpeg(path=str(script), version=find().version, found="test")

    @property
    def starts(self) -> int:
        return len(list(self._starts.iterdir()))

    def of(self, **rungs: ArchiveRung) -> Encoding:
        return Encoding(self.recording, rungs, chunk_ms=4000)

    async def run(
        self,
        encoding: Encoding,
        *,
        workers: int,
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> Recording:
        worker = Worker(self.jobs, self.objects, self.ffmpeg, counters=self.counters)
        tasks = [asyncio.create_task(worker.run()) for _ in range(workers)]
        try:
            return await Reencode(encoding, self.objects, self.jobs).run(progress)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def markers(self) -> list[str]:
        folder = f"cam/{self.recording.epoch}/encode"
        return [key for key, _ in self.objects.list(folder) if key.endswith(".json")]

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
    encoding = bench.of(keep=rung(codec, preset))
    made = await bench.run(encoding, workers=2, progress=lambda *counts: told.append(counts))
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
    made = await bench.run(bench.of(keep=rung()), workers=1)
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
    encoding = bench.of(keep=rung())
    cut = asyncio.create_task(bench.run(encoding, workers=1, progress=lambda *_: first.set()))
    await first.wait()
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    done, before = len(bench.markers()), bench.starts
    assert done in (1, 2)
    made = await bench.run(bench.of(keep=rung()), workers=2)
    assert bench.starts - before == 3 - done
    assert len(made.tracks["keep"].segments) == 6
    again = await bench.run(bench.of(keep=rung()), workers=2)  # all of it is done
    assert (again, bench.starts - before) == (made, 3 - done)


@looped
async def test_nothing_stays_but_what_the_recording_names(bench: Bench) -> None:
    """Also where a plan that was left had begun to give names away."""
    stray = bench.recording.tracks["180p"].segments[-1]
    key = f"cam/{stray.epoch}/keep/{stray.msn}.m4s"
    bench.objects.create(key, b"of another plan")
    encoding = bench.of(keep=rung())
    made = await bench.run(encoding, workers=2)
    assert bench.objects.read(key) != b"of another plan"
    Reencode(encoding, bench.objects, bench.jobs).clean()
    stored = {key for key, _ in bench.objects.list("cam")}
    named = {key_of(path) for path, _, _ in made.objects()}
    assert stored - named == {index_key("cam", made.epoch, bench.recording.revision)}


@looped
async def test_a_chunk_counts_once_however_often_it_was_encoded(bench: Bench) -> None:
    """Two workers have the same job, because the first one was silent for too long, and what they
    make differs: nobody ever sees but the first result."""
    encoding = bench.of(keep=rung())
    chunk = next(iter(encoding.chunks.values()))
    slow = ChunkEncoder(encoding, bench.objects, bench.ffmpeg)
    stored = slow._store
    late = asyncio.Event()

    def store(chunk_: object, made: list[bytes]) -> None:
        asyncio.run_coroutine_threadsafe(late.wait(), loop).result(20)
        stored(chunk, [body.replace(b"Lavc", b"Lavx") for body in made])

    loop = asyncio.get_running_loop()
    slow._store = store  # type: ignore[assignment, method-assign]
    other = asyncio.create_task(slow.run(chunk))
    await ChunkEncoder(encoding, bench.objects, bench.ffmpeg).run(chunk)
    first = encoded(bench.objects, encoding, chunk)
    late.set()
    await other
    assert bench.starts == 2
    assert encoded(bench.objects, encoding, chunk) == first
    made = await bench.run(encoding, workers=1)
    for path, size, digest in made.objects():
        body = bench.objects.read(key_of(path))
        assert (len(body), digest_of(body)) == (size, digest)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)


@pytest.mark.usefixtures("at_once")
@looped
async def test_an_encoder_that_fails_says_why_and_leaves_no_word(bench: Bench) -> None:
    with pytest.raises(EncodeError, match="ffmpeg ended with"):
        await bench.run(bench.of(keep=rung(preset="nonsense")), workers=1)
    assert bench.starts >= 3
    assert bench.counters["chunks_failed"] >= 2
    assert len(bench.markers()) <= 2  # of other chunks, for who looks for them


@pytest.mark.usefixtures("at_once")
@looped
async def test_a_damaged_source_is_not_encoded(bench: Bench) -> None:
    victim = bench.recording.tracks["180p"].segments[2]
    key = f"cam/{victim.epoch}/180p/{victim.msn}.m4s"
    whole = bench.objects.read(key)
    bench.objects.delete([key])
    bench.objects.create(key, bytes(victim.size))
    with pytest.raises(EncodeError, match="damaged"):
        await bench.run(bench.of(keep=rung()), workers=1)
    bench.objects.delete([key])
    bench.objects.create(key, whole)
    made = await bench.run(bench.of(keep=rung()), workers=1)  # what failed is tried again
    assert len(made.tracks["keep"].segments) == 6


@pytest.mark.usefixtures("at_once")
@looped
async def test_a_job_that_kills_its_workers_is_given_up(bench: Bench) -> None:
    encoding = bench.of(keep=rung())
    name, body = encoding.job(next(iter(encoding.chunks.values())))
    await bench.jobs.offer(name, body)
    for _ in range(3):
        job = await bench.jobs.take(5.0)
        assert job is not None
        await job.retry(0.0)
    with pytest.raises(EncodeError, match="begun 3 times and never finished"):
        await bench.run(encoding, workers=1)


@looped
async def test_jobs_of_a_deleted_recording_and_nonsense_are_left(bench: Bench) -> None:
    encoding = bench.of(keep=rung())
    name, body = encoding.job(next(iter(encoding.chunks.values())))
    bench.objects.delete([index_key("cam", bench.recording.epoch, 0)])
    await bench.jobs.offer(name, body)
    await bench.jobs.offer("x.1", b"{}")
    worker = Worker(bench.jobs, bench.objects, bench.ffmpeg, counters=bench.counters)
    task = asyncio.create_task(worker.run())
    await eventually(lambda: not bench.rows.below("jobs"))
    task.cancel()
    await asyncio.wait([task])
    assert bench.starts == 0
    with pytest.raises(EncodeError, match="offered 3 times, and nobody made it"):
        await bench.run(encoding, workers=1)


def test_nothing_is_scaled_up_or_made_twice(bench: Bench) -> None:
    large = ArchiveRung.model_validate({"width": 640, "height": 360, "bitrate": "1Mbps"})
    assert not bench.of(large=large).wanted
    assert not bench.of(**{"90p": rung()}).wanted
    assert bench.of(large=large, keep=rung()).wanted


def test_chunks_end_where_segments_do_not_follow(bench: Bench) -> None:
    sheet = bench.recording.tracks["180p"]
    assert [len(chunk.segments) for chunk in chunks_of(sheet, 4)] == [4, 2]
    holed = type(sheet)(sheet.inits, [sheet.segments[0], *sheet.segments[2:]])
    assert [len(chunk.segments) for chunk in chunks_of(holed, 4)] == [1, 4]
    later = [each._replace(generation=1) for each in sheet.segments[3:]]
    split = type(sheet)(sheet.inits, [*sheet.segments[:3], *later])
    assert [len(chunk.segments) for chunk in chunks_of(split, 9)] == [3, 3]
