"""A recording encoded again, for keeps: its chunks as jobs for any worker, joined into new
renditions.

Laws: what is finished says so in the store (chunk.py), so who starts again, here or elsewhere, has
only the rest to wait for, and a chunk counts once, however often it was encoded. Nothing has a name
that viewers could ask for before all chunks are there: then their segments get theirs, by
conditional create. What a chunk failed with is this encoding's failure. Does not know who encodes,
nor where.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ..cmaf import Demuxer, Init
from ..jobs import Jobs
from ..model import Rendition, digest_of
from ..names import init_path, segment_path
from ..rows import AwayError
from .chunk import Chunk, Encoded, EncodeError, Encoding, encoded
from .objects import ConflictError, Objects
from .recorder import key_of
from .recording import KeptInit, Recording, Sheet

_LOOK_S: Final = 0.25
_OFFERS: Final = 3

Progress = Callable[[int, int], None]  # chunks that are done, of how many


class Reencode:
    """`encoding`, by whoever takes `jobs`."""

    def __init__(self, encoding: Encoding, objects: Objects, jobs: Jobs) -> None:
        self._of = encoding
        self._objects = objects
        self._jobs = jobs
        self._offered: Counter[int] = Counter()  # by number, how often

    async def run(self, progress: Progress = lambda *_: None) -> Recording:
        """The next revision, all of whose objects are stored. Raises EdgeError."""
        done: dict[int, Encoded] = {}
        while len(done) < len(self._of.chunks):
            waiting = [chunk for msn, chunk in self._of.chunks.items() if msn not in done]
            try:
                open_ = await self._jobs.open(self._of.jobs)
                for chunk in waiting:
                    if self._of.job(chunk)[0] in open_:
                        self._offered[chunk.first.msn] |= 1  # by an earlier run, perhaps
                    elif found := await self._look(chunk):
                        done[chunk.first.msn] = found
                        progress(len(done), len(self._of.chunks))
            except AwayError:
                pass  # said by whoever lost it; the workers may still have jobs
            if len(done) < len(self._of.chunks):
                await asyncio.sleep(_LOOK_S)
        return await asyncio.to_thread(self._joined, [done[msn] for msn in sorted(done)])

    def clean(self) -> None:
        """Not on the loop, when the recording is stored: its chunks are not needed any more. Raises
        ObjectError."""
        self._objects.delete([key for key, _ in self._objects.list(self._of.folder)])

    async def _look(self, chunk: Chunk) -> Encoded | None:
        """What has become of a chunk that nobody has to do; if nothing, somebody has to. What an
        earlier run failed with is tried again. Raises EncodeError, ObjectError, AwayError."""
        found = await asyncio.to_thread(encoded, self._objects, self._of, chunk)
        msn = chunk.first.msn
        if found and found.failed:
            await asyncio.to_thread(self._objects.delete, [self._of.marker(chunk)])
            if self._offered[msn]:
                raise EncodeError(found.failed)
            found = None
        if found is None:
            if self._offered[msn] == _OFFERS:
                raise EncodeError(f"segment {msn}: offered {_OFFERS} times, and nobody made it")
            await self._jobs.offer(*self._of.job(chunk))
            self._offered[msn] += 1
        return found

    # -- all of it

    def _joined(self, chunks: list[Encoded]) -> Recording:
        """Raises EncodeError when chunks do not go together, ObjectError."""
        stream, tracks = self._of.recording.stream, dict(self._of.recording.tracks)
        tracks |= {name: Sheet() for name in self._of.rungs}
        for chunk in chunks:
            for name, kept, body in chunk.bodies(self._objects.read(chunk.blob)):
                if digest_of(body) != kept.digest:
                    raise EncodeError(f"{chunk.blob}: the stored object is damaged")
                self._name(segment_path(stream, kept.epoch, name, kept.msn), body)
                tracks[name].segments.append(kept)
            for row in chunk.rows:
                self._join_init(tracks[row["track"]], row)
        revision = self._of.recording.revision + 1
        return replace(self._of.recording, revision=revision, tracks=tracks)

    def _name(self, path: str, body: bytes) -> None:
        """Other bytes under this name are of a plan that was left: no recording names them."""
        try:
            self._objects.create(key_of(path), body)
        except ConflictError:
            self._objects.delete([key_of(path)])
            self._objects.create(key_of(path), body)

    def _join_init(self, sheet: Sheet, row: dict[str, Any]) -> None:
        name, body, number = row["track"], bytes.fromhex(row["init"]), row["generation"]
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
            frame_rate=self._of.frame_rate,
            key_bandwidth=1,
        )
        sheet.inits[number] = KeptInit(len(body), digest_of(body), rendition, row["epoch"])
        self._name(init_path(self._of.recording.stream, row["epoch"], name, number), body)
