"""What is done to recordings after their broadcast: pictures for the seek bar, then the ladder that
they are kept in.

Laws: one recording at a time, in the background, behind every live stream: ffmpeg gets idle time
only and stands still while a live encoder lags. Of all data centres one does it (turns.py), and its
chunks are encoded by the workers of all hosts, of which some run here. A result is a new revision
of the recording: its objects first, then its index, then `on_revised`. What fails is counted,
logged and left; the next process tries again, from where this one was. Bounds: recordings that wait
(`_WAITING`, the oldest is left). Owner: the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from edgecache.errors import EdgeError

from ..catalog import Catalog, RecordingRow
from ..config import ArchiveRung
from ..ffmpeg import Ffmpeg
from ..jobs import Jobs
from ..model import PartObject, Publication
from ..names import sheet_path
from .chunk import Encoding
from .objects import Objects
from .recorder import index_key, key_of
from .recording import Recording
from .reencode import Reencode
from .storyboard import draw
from .turns import LEASE_S, turn
from .worker import Worker

log = logging.getLogger(__name__)

_WAITING: Final = 1024
_LAG_S: Final = 0.5  # in an encoder, from a part's bytes to the part; 0.05 is usual
_FRESH_S: Final = 5.0


class Pressure:
    """Whether a live encoder lags, by the parts it makes."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._lagged_s = float("-inf")  # when one did

    def add(self, publication: Publication) -> None:
        hops = publication.hops if isinstance(publication, PartObject) else None
        if hops is not None and hops.encode_s > _LAG_S:
            self._lagged_s = self._monotonic_s()

    @property
    def high(self) -> bool:
        return self._monotonic_s() - self._lagged_s < _FRESH_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How recordings are encoded again: see config.Archive."""

    rungs: dict[str, ArchiveRung]
    chunk_ms: int
    workers: int


class Workshop:
    """`on_revised(recording)` is called on another thread when a revision is stored, and may raise
    ObjectError."""

    def __init__(
        self,
        objects: Objects,
        ffmpeg: Ffmpeg,
        *,
        catalog: Catalog,
        jobs: Jobs,
        plan: Plan,
        pressure: Pressure,
        on_revised: Callable[[Recording], None],
    ) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._plan = plan
        self._objects = objects
        self._ffmpeg = ffmpeg
        self._pressure = pressure
        self._on_revised = on_revised
        self._waiting: deque[RecordingRow] = deque(maxlen=_WAITING)
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._workers: list[asyncio.Task[None]] = []
        self._at: RecordingRow | None = None  # what is worked on
        self.counters: Counter[str] = Counter()
        self.progress: dict[str, int] = {}  # stream -> percent of its encoding that is done

    @property
    def revisions(self) -> int:
        """How many a recording with pictures gets here."""
        return 1 + bool(self._plan.rungs)

    def start(self) -> None:
        """Needs a running loop."""
        self._begin()
        worker = Worker(
            self._jobs, self._objects, self._ffmpeg, counters=self.counters, busy=self._busy
        )
        self._workers = [
            asyncio.create_task(worker.run(), name=f"worker-{number}")
            for number in range(self._plan.workers)
        ]

    async def stop(self) -> None:
        tasks = [task for task in (self._task, *self._workers) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._work(), name="workshop")

    def _busy(self) -> bool:
        return self._pressure.high

    def add(self, row: RecordingRow) -> None:
        """A recording as its broadcast left it."""
        self._waiting.append(row)
        self._wanted.set()

    async def leave(self, stream: str, epoch: str) -> None:
        """Nothing more is done to this recording."""
        kept = [row for row in self._waiting if (row.stream, row.epoch) != (stream, epoch)]
        self._waiting.clear()
        self._waiting += kept
        if self._task and self._at and (self._at.stream, self._at.epoch) == (stream, epoch):
            self._task.cancel()
            await asyncio.wait([self._task])
            self._begin()

    async def _work(self) -> None:
        while True:
            await self._wanted.wait()
            if not self._waiting:
                self._wanted.clear()
                continue
            row = self._at = self._waiting.popleft()
            told = {"stream": row.stream, "epoch": row.epoch}
            try:
                async with turn(self._catalog, row) as ours:
                    if ours:
                        await self._improve(row)
                    else:
                        asyncio.get_running_loop().call_later(LEASE_S, self.add, row)
            except* (EdgeError, OSError, ValueError) as errors:
                self.counters["failed"] += 1
                log.error("recording left as it is: %s", errors.exceptions[0], extra=told)
            finally:
                self._at = None
                self.progress.pop(row.stream, None)

    async def _improve(self, row: RecordingRow) -> None:
        """From where it is now. Raises EdgeError, OSError, ValueError, or a group of those."""
        now = self._catalog.recording(row.stream, row.epoch)
        if now is None or now.revision >= self.revisions:
            return  # deleted, or done by another one
        key = index_key(now.stream, now.epoch, now.revision)
        recording = Recording.from_json(await asyncio.to_thread(self._objects.read, key))
        if recording.storyboard is None:
            recording = await self._draw(recording)
        if recording.storyboard is None:
            return  # only sound: there is nothing to encode
        encoding = Encoding(recording, self._plan.rungs, chunk_ms=self._plan.chunk_ms)
        if encoding.wanted:
            job = Reencode(encoding, self._objects, self._jobs)
            revised = await job.run(
                progress=lambda done, total: self._progress(row.stream, done, total)
            )
            await asyncio.to_thread(self._store, revised, [])
            await asyncio.to_thread(job.clean)
            self.counters["encoded"] += 1

    def _progress(self, stream: str, done: int, total: int) -> None:
        self.progress[stream] = 100 * done // total

    async def _draw(self, recording: Recording) -> Recording:
        """With pictures, if it has any to make them of. Raises EdgeError, OSError."""
        drawn = await draw(recording, self._read, self._ffmpeg, busy=self._busy)
        if drawn is None:
            return recording
        revision = recording.revision + 1
        revised = replace(recording, revision=revision, storyboard=drawn.storyboard)
        await asyncio.to_thread(self._store, revised, drawn.sheets)
        self.counters["drawn"] += 1
        return revised

    async def _read(self, path: str, start: int, stop: int) -> bytes:
        return await self._objects.read_async(key_of(path), start, stop)

    def _store(self, revised: Recording, sheets: list[bytes]) -> None:
        """On another thread. Raises ObjectError."""
        stream, epoch = revised.stream, revised.epoch
        for number, sheet in enumerate(sheets):
            self._objects.create(key_of(sheet_path(stream, epoch, number)), sheet)
        self._objects.create(index_key(stream, epoch, revised.revision), revised.to_json())
        self._on_revised(revised)
