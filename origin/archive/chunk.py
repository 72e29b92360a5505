"""What a recording is encoded into, in chunks, and how one chunk is encoded.

Laws: a chunk is a run of whole segments of one generation; it is decoded once and encoded into all
rungs, with a key frame where each of its segments begins, so that new segments have the numbers and
times of the old ones and go into the same playlists, with the same sound. Chunks depend on nothing
but their own input, so any number of them run at a time, on any host. A chunk's result is an object
named by its bytes, and a marker that says which one: the first marker stands, whatever else was
made of the chunk, by whomever. Made of bytes; does not know who asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from edgecache.errors import EdgeError

from .. import ladder
from ..cmaf import Demuxer, Frame, Init
from ..config import ArchiveRung
from ..ffmpeg import Ffmpeg
from ..model import Kept, digest_of
from ..names import init_path, segment_path
from ..packager import fragment
from ..timing import NS
from .objects import ConflictError, MissingError, Objects
from .recorder import key_of
from .recording import Recording, Sheet
from .transcode import transcode

_ENCODERS: Final = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
_X265: Final = "log-level=error:pools=none:frame-threads=1"
# One thread a rung: workers are what runs in parallel. SVT-AV1 took 1.7 cores of 2 without `lp`.
_EXTRA: Final = {
    "h264": ("-profile:v", "high", "-sc_threshold", "0", "-bf", "2"),
    "hevc": ("-tag:v", "hvc1", "-x265-params", f"{_X265}:scenecut=0:open-gop=0"),
    "av1": ("-svtav1-params", "lp=1"),
}


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


class Encoding:
    """What becomes of `recording`: the same for everybody who is told the same. `rungs`: track ->
    what it is. Those that the recording has already, or that are larger than it, are left out."""

    def __init__(
        self, recording: Recording, rungs: dict[str, ArchiveRung], *, chunk_ms: int
    ) -> None:
        self.recording = recording
        self.source = source_of(recording)
        self.sheet = recording.tracks[self.source]
        planned = self.sheet.inits[max(self.sheet.inits)].rendition
        self.frame_rate = planned.frame_rate
        self.rungs = {
            name: rung
            for name, rung in rungs.items()
            if name not in recording.tracks and rung.height <= planned.height
        }
        self._chunk_ms = chunk_ms
        found = chunks_of(self.sheet, max(1, chunk_ms // recording.segment_ms))
        self.chunks = {chunk.first.msn: chunk for chunk in found}
        said = json.dumps({name: rung.model_dump() for name, rung in self.rungs.items()})
        self.plan = digest_of(f"{chunk_ms} {self.source} {said}".encode())[:12]
        self.folder = f"{recording.stream}/{recording.epoch}/encode/{self.plan}"

    @property
    def wanted(self) -> bool:
        return bool(self.rungs)

    @property
    def gop(self) -> int:
        """Frames of a segment: where an encoder puts key frames that does not take our word."""
        return round(self.frame_rate * self.recording.segment_ms / 1000) or 60

    @property
    def jobs(self) -> str:
        """What the names of its jobs begin with."""
        return f"{self.recording.stream}.{self.recording.epoch}.{self.plan}"

    def job(self, chunk: Chunk) -> tuple[str, bytes]:
        """Name and body: all that a worker needs to know."""
        told = Task(
            stream=self.recording.stream,
            epoch=self.recording.epoch,
            revision=self.recording.revision,
            rungs={name: rung.model_dump(mode="json") for name, rung in self.rungs.items()},
            chunk_ms=self._chunk_ms,
            msn=chunk.first.msn,
        )
        return f"{self.jobs}.{chunk.first.msn}", json.dumps(asdict(told)).encode()

    def marker(self, chunk: Chunk) -> str:
        return f"{self.folder}/{chunk.first.msn}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One chunk, by the number of its first segment, as a job says it."""

    stream: str
    epoch: str
    revision: int
    rungs: dict[str, dict[str, Any]]
    chunk_ms: int
    msn: int

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Raises ValueError, TypeError."""
        return cls(**json.loads(body))

    def encoding(self, recording: Recording) -> Encoding:
        rungs = {name: ArchiveRung.model_validate(rung) for name, rung in self.rungs.items()}
        return Encoding(recording, rungs, chunk_ms=self.chunk_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What a marker says. rows: of each rung `track`, `generation`, `epoch`, `init` (hex) and
    `segments` (as Kept), whose bytes follow one another in the object `blob`. failed: why there is
    nothing."""

    blob: str = ""
    rows: list[dict[str, Any]]
    failed: str = ""

    def bodies(self, blob: bytes) -> Iterator[tuple[str, Kept, bytes]]:
        """(track, segment, its bytes)."""
        at = 0
        for row in self.rows:
            for values in row["segments"]:
                kept = Kept(*values)
                yield row["track"], kept, blob[at : at + kept.size]
                at += kept.size


def encoded(objects: Objects, encoding: Encoding, chunk: Chunk) -> Encoded | None:
    """What has become of a chunk; None: nothing yet. Raises ObjectError."""
    try:
        return Encoded(**json.loads(objects.read(encoding.marker(chunk))))
    except MissingError:
        return None


def conclude(objects: Objects, encoding: Encoding, chunk: Chunk, made: Encoded) -> None:
    """Unless another one was first. Raises ObjectError."""
    with contextlib.suppress(ConflictError):
        objects.create(encoding.marker(chunk), json.dumps(asdict(made)).encode())


class ChunkEncoder:
    """Of `encoding`, with what there is on this host."""

    def __init__(
        self,
        encoding: Encoding,
        objects: Objects,
        ffmpeg: Ffmpeg,
        *,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._of = encoding
        self._objects = objects
        self._ffmpeg = ffmpeg
        self._busy = busy

    async def run(self, chunk: Chunk) -> None:
        """Until its marker stands. Raises EdgeError."""
        if await asyncio.to_thread(encoded, self._objects, self._of, chunk) is not None:
            return
        made = await transcode(
            lambda fds: self._argv(chunk, fds),
            self._input(chunk),
            outputs=len(self._of.rungs),
            busy=self._busy,
        )
        await asyncio.to_thread(self._store, chunk, made)

    async def _input(self, chunk: Chunk) -> AsyncIterator[bytes]:
        stream, first = self._of.recording.stream, chunk.first
        init = self._of.sheet.inits[first.generation]
        path = init_path(stream, init.epoch, self._of.source, first.generation)
        yield await self._objects.read_async(key_of(path), 0, init.size)
        for kept in chunk.segments:
            path = segment_path(stream, kept.epoch, self._of.source, kept.msn)
            body = await self._objects.read_async(key_of(path), 0, kept.size)
            if digest_of(body) != kept.digest:
                raise EncodeError(f"{path}: the stored object is damaged")
            yield body

    def _argv(self, chunk: Chunk, fds: Sequence[int]) -> list[str]:
        begin_ns = chunk.first.start_ns
        keys = ",".join(f"{(kept.start_ns - begin_ns) / NS:.6f}" for kept in chunk.segments)
        outs = "".join(f"[s{index}]" for index in range(len(self._of.rungs)))
        chains = [f"[0:v:0]split={len(self._of.rungs)}{outs}"]
        command: list[str] = []
        for index, (rung, fd) in enumerate(zip(self._of.rungs.values(), fds, strict=True)):
            size = f"{rung.width}:{rung.height}"
            chains.append(f"[s{index}]scale={size}:flags=lanczos,setsar=1[v{index}]")
            rate = rung.bitrate * 8
            command += [
                *("-map", f"[v{index}]", "-c:v", _ENCODERS[rung.codec], "-preset", rung.preset),
                *("-threads:v", "1", "-pix_fmt", "yuv420p", "-b:v", str(rate)),
                *("-maxrate", str(2 * rate), "-bufsize", str(2 * rate)) * (rung.codec != "av1"),
                *("-g", str(self._of.gop), "-force_key_frames", keys, *_EXTRA[rung.codec]),
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

    def _store(self, chunk: Chunk, made: list[bytes]) -> None:
        """Segments and init sections, then the word that all of them are there."""
        blob = bytearray()
        rows = []
        for name, data in zip(self._of.rungs, made, strict=True):
            init, bodies = _cut(name, chunk, data)
            kept = []
            for source, (front, rest) in zip(chunk.segments, bodies, strict=True):
                body = front + rest
                blob += body
                digest = digest_of(body)
                kept.append(source._replace(size=len(body), digest=digest, key_bytes=len(front)))
            row = {"track": name, "generation": chunk.first.generation, "epoch": chunk.first.epoch}
            rows.append({**row, "init": init.body.hex(), "segments": kept})
        key = f"{self._of.folder}/{chunk.first.msn}-{digest_of(bytes(blob))}"
        self._objects.create(key, bytes(blob))
        conclude(self._objects, self._of, chunk, Encoded(blob=key, rows=rows))


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
