"""A recording encoded again, for keeps: chunks of it in parallel, joined into new renditions.

Laws: a chunk is a run of whole segments of one generation; it is decoded once and encoded into all
rungs, with a key frame where each of its segments begins, so that new segments have the numbers and
times of the old ones and go into the same playlists, with the same sound. Chunks depend on nothing
but their own input, so any number of them run at a time, and a chunk that is finished says so in
the store (`{stream}/{epoch}/encode/…`): who starts again does only the rest. What an unfinished one
left was never named anywhere, and is removed first. Made of bytes; does not know who asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edgecache.errors import EdgeError

from .. import ladder
from ..cmaf import Demuxer, Frame, Init
from ..config import ArchiveRung
from ..ffmpeg import Ffmpeg
from ..model import Rendition, digest_of
from ..names import init_path, segment_path
from ..packager import fragment
from ..timing import NS
from .objects import MissingError, Objects
from .recorder import key_of
from .recording import Kept, KeptInit, Recording, Sheet
from .transcode import transcode

_ENCODERS: Final = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
_X265: Final = "log-level=error:pools=none:frame-threads=1"
# One thread a rung: workers are what runs in parallel. SVT-AV1 took 1.7 cores of 2 without `lp`.
_EXTRA: Final = {
    "h264": ("-profile:v", "high", "-sc_threshold", "0", "-bf", "2"),
    "hevc": ("-tag:v", "hvc1", "-x265-params", f"{_X265}:scenecut=0:open-gop=0"),
    "av1": ("-svtav1-params", "lp=1"),
}

Progress = Callable[[int, int], None]  # chunks that are done, of how many


class EncodeError(EdgeError):
    """The encoder did not make what it should."""

    source = "internal"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Segments of the source, one after the other, of one generation."""

    segments: tuple[Kept, ...]

    @property
    def first(self) -> Kept:
        return self.segments[0]


def source_of(recording: Recording) -> str:
    """The best picture: the most bytes. Raises EncodeError."""
    sheets = recording.whole
    video = [
        name
        for name, sheet in sheets.items()
        if next(iter(sheet.inits.values())).rendition.kind == "video"
    ]
    if not video:
        raise EncodeError(f"{recording.stream}: found no picture to encode")
    return max(video, key=lambda name: sheets[name].size_bytes)


def chunks_of(sheet: Sheet, segments: int) -> list[Chunk]:
    """Of at most so many segments each."""
    found: list[list[Kept]] = []
    for kept in sheet.segments:
        last = found[-1][-1] if found else None
        follows = last and (last.msn + 1, last.generation) == (kept.msn, kept.generation)
        if follows and len(found[-1]) < segments:
            found[-1].append(kept)
        else:
            found.append([kept])
    return [Chunk(tuple(each)) for each in found]


class Reencode:
    """`rungs`: track -> what it is. Those that the recording has already are left out."""

    def __init__(
        self,
        recording: Recording,
        rungs: dict[str, ArchiveRung],
        *,
        objects: Objects,
        ffmpeg: Ffmpeg,
        chunk_ms: int,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._recording = recording
        self._source = source_of(recording)
        self._sheet = recording.tracks[self._source]
        planned = self._sheet.inits[max(self._sheet.inits)].rendition
        self._frame_rate = planned.frame_rate
        self._rungs = {
            name: rung
            for name, rung in rungs.items()
            if name not in recording.tracks and rung.height <= planned.height
        }
        self._objects = objects
        self._ffmpeg = ffmpeg
        self._busy = busy
        self._chunks = chunks_of(self._sheet, max(1, chunk_ms // recording.segment_ms))
        said = json.dumps({name: rung.model_dump() for name, rung in self._rungs.items()})
        plan = digest_of(f"{chunk_ms} {self._source} {said}".encode())[:12]
        self._folder = f"{recording.stream}/{recording.epoch}/encode/{plan}"

    @property
    def wanted(self) -> bool:
        return bool(self._rungs)

    async def run(self, *, workers: int, progress: Progress = lambda *_: None) -> Recording:
        """The next revision, all of whose objects are stored. Raises EdgeError."""
        rows: list[list[dict[str, Any]]] = []
        room = asyncio.Semaphore(workers)

        async def work(chunk: Chunk) -> None:
            async with room:
                rows.append(await self._done(chunk) or await self._encode(chunk))
                progress(len(rows), len(self._chunks))

        async with asyncio.TaskGroup() as group:
            for chunk in self._chunks:
                group.create_task(work(chunk))
        return self._joined([row for found in rows for row in found])

    # -- one chunk

    def _marker(self, chunk: Chunk) -> str:
        return f"{self._folder}/{chunk.first.msn}.json"

    async def _done(self, chunk: Chunk) -> list[dict[str, Any]] | None:
        """What an earlier run made of it."""
        try:
            text = await asyncio.to_thread(self._objects.read, self._marker(chunk))
        except MissingError:
            return None
        found: list[dict[str, Any]] = json.loads(text)
        return found

    async def _encode(self, chunk: Chunk) -> list[dict[str, Any]]:
        """Raises EdgeError."""
        made = await transcode(
            lambda fds: self._argv(chunk, fds),
            self._input(chunk),
            outputs=len(self._rungs),
            busy=self._busy,
        )
        return await asyncio.to_thread(self._store, chunk, made)

    async def _input(self, chunk: Chunk) -> AsyncIterator[bytes]:
        stream, first = self._recording.stream, chunk.first
        init = self._sheet.inits[first.generation]
        path = init_path(stream, init.epoch, self._source, first.generation)
        yield await self._objects.read_async(key_of(path), 0, init.size)
        for kept in chunk.segments:
            path = segment_path(stream, kept.epoch, self._source, kept.msn)
            body = await self._objects.read_async(key_of(path), 0, kept.size)
            if digest_of(body) != kept.digest:
                raise EncodeError(f"{path}: the stored object is damaged")
            yield body

    def _argv(self, chunk: Chunk, fds: Sequence[int]) -> list[str]:
        begin_ns = chunk.first.start_ns
        keys = ",".join(f"{(kept.start_ns - begin_ns) / NS:.6f}" for kept in chunk.segments)
        outs = "".join(f"[s{index}]" for index in range(len(self._rungs)))
        chains = [f"[0:v:0]split={len(self._rungs)}{outs}"]
        command: list[str] = []
        for index, (rung, fd) in enumerate(zip(self._rungs.values(), fds, strict=True)):
            size = f"{rung.width}:{rung.height}"
            chains.append(f"[s{index}]scale={size}:flags=lanczos,setsar=1[v{index}]")
            rate = rung.bitrate * 8
            command += [
                *("-map", f"[v{index}]", "-c:v", _ENCODERS[rung.codec], "-preset", rung.preset),
                *("-threads:v", "1", "-pix_fmt", "yuv420p", "-b:v", str(rate)),
                *("-maxrate", str(2 * rate), "-bufsize", str(2 * rate)) * (rung.codec != "av1"),
                *("-g", str(self._gop), "-force_key_frames", keys, *_EXTRA[rung.codec]),
                *("-fps_mode", "passthrough", "-video_track_timescale", "90000"),
                *ladder.cmaf_output(fd, begin_ns / NS),
            ]
        return [
            self._ffmpeg.path,
            *("-hide_banner", "-loglevel", "error", "-nostats", "-nostdin"),
            *("-protocol_whitelist", "pipe", "-threads", "1", "-f", "mp4", "-i", "pipe:0"),
            *("-filter_complex", ";".join(chains)),
            *command,
        ]

    @property
    def _gop(self) -> int:
        """Frames of a segment: where an encoder puts key frames that does not take our word."""
        return round(self._frame_rate * self._recording.segment_ms / 1000) or 60

    def _store(self, chunk: Chunk, made: list[bytes]) -> list[dict[str, Any]]:
        """Segments and init sections, then the word that all of them are there."""
        objects: dict[str, bytes] = {}
        rows = []
        for name, data in zip(self._rungs, made, strict=True):
            init, bodies = _cut(name, chunk, data)
            number, epoch = chunk.first.generation, chunk.first.epoch
            kept = []
            for source, (front, rest) in zip(chunk.segments, bodies, strict=True):
                body = front + rest
                path = segment_path(self._recording.stream, source.epoch, name, source.msn)
                objects[key_of(path)] = body
                digest = digest_of(body)
                kept.append(source._replace(size=len(body), digest=digest, key_bytes=len(front)))
            rows.append(
                {
                    "track": name,
                    "generation": number,
                    "epoch": epoch,
                    "init": init.body.hex(),
                    "segments": kept,
                }
            )
        self._objects.delete(list(objects))
        for key, body in objects.items():
            self._objects.create(key, body)
        text = json.dumps(rows)
        self._objects.create(self._marker(chunk), text.encode())
        found: list[dict[str, Any]] = json.loads(text)
        return found

    # -- all of it

    def _joined(self, rows: list[dict[str, Any]]) -> Recording:
        """Raises EncodeError when chunks do not go together."""
        tracks = dict(self._recording.tracks)
        for name in self._rungs:
            sheet = Sheet()
            ours = [row for row in rows if row["track"] == name]
            for row in sorted(ours, key=lambda row: row["segments"][0][0]):
                sheet.segments += [Kept(*kept) for kept in row["segments"]]
                self._join_init(name, sheet, row)
            tracks[name] = sheet
        revision = self._recording.revision + 1
        return replace(self._recording, revision=revision, tracks=tracks)

    def _join_init(self, name: str, sheet: Sheet, row: dict[str, Any]) -> None:
        body, number = bytes.fromhex(row["init"]), row["generation"]
        known = sheet.inits.get(number)
        if known is not None:
            if known.digest != digest_of(body):
                raise EncodeError(f"{name}: its chunks were not encoded alike")
            return
        (init,) = (item for item in Demuxer().feed(body) if isinstance(item, Init))
        rendition = Rendition(
            track=name,
            kind="video",
            bandwidth=0,  # what was made is told: see recording.py
            average_bandwidth=0,
            codecs=init.codec,
            width=init.width,
            height=init.height,
            frame_rate=self._frame_rate,
            key_bandwidth=1,
        )
        sheet.inits[number] = KeptInit(len(body), digest_of(body), rendition, row["epoch"])
        path = init_path(self._recording.stream, row["epoch"], name, number)
        self._objects.create(key_of(path), body)


def _cut(name: str, chunk: Chunk, data: bytes) -> tuple[Init, list[tuple[bytes, bytes]]]:
    """The init section, and of each segment its key frame and the rest. Raises EncodeError."""
    demuxer = Demuxer()
    init: Init | None = None
    groups: list[list[Frame]] = []
    for item in demuxer.feed(data):
        if isinstance(item, Init):
            init = item
        elif init is not None:
            begun = len(groups)
            due = begun < len(chunk.segments) and _due(chunk.segments[begun], item, init)
            if item.sync and due:
                groups.append([])
            if groups:
                groups[-1].append(item)
    if init is None or demuxer.dropped or len(groups) != len(chunk.segments):
        found = f"{len(groups)} segments of {len(chunk.segments)}"
        reason = demuxer.broken or dict(demuxer.dropped) or found
        raise EncodeError(f"{name} from segment {chunk.first.msn}: {reason}")
    bodies = []
    for number, frames in enumerate(groups):
        rest = fragment(init, frames[1:], 2 * number + 2) if len(frames) > 1 else b""
        bodies.append((fragment(init, frames[:1], 2 * number + 1), rest))
    return init, bodies


def _due(segment: Kept, frame: Frame, init: Init) -> bool:
    """Is this where it begins, give or take half a frame?"""
    return (2 * frame.dts + frame.duration) * NS >= 2 * segment.start_ns * init.timescale
