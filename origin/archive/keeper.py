"""Everything of the permanent store in one origin: recorder, spool, library, and who is told.

Laws: the live path only calls `add`, which queues. A recording is entered in the catalogue when all
that it names is stored; then it is what the stream shows as soon as its live window is over: those
who watched to the end have seen ENDLIST `linger_s` later, and then the window (memory, local files)
is released and POPs are told to forget its playlists. A broadcast that an earlier process did not
live to end may go on: nothing of its stream is shown before `reconnect_s` are over, or players
would take the recording's end for the broadcast's. Does not know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from edgecache import logs
from edgecache.wall import earlier_s

from ..catalog import Catalog, RecordingRow
from ..config import Config
from ..ffmpeg import Ffmpeg
from ..jobs import Jobs
from ..model import Publication
from ..names import epoch_seconds, vod_path
from ..secretfiles import archive_secret
from ..timeline import Timeline
from ..timing import Timing
from ..window import Window
from .library import Library, Shown
from .objects import MissingError, ObjectError, Objects, Place
from .recorder import Recorder, index_key
from .recording import Recording, playlists_of
from .spool import Spool
from .workshop import Plan, Pressure, Workshop

log = logging.getLogger(__name__)

_DRAIN_S: Final = 3.0

_SWEEP_S: Final = 60.0

Release = Callable[[RecordingRow], None]
Purge = Callable[[str, list[str]], None]
Ready = Callable[[RecordingRow], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bytes in memory and in the spool that wait for the store; uploads at a time; seconds."""

    queue_bytes: int
    spool_bytes: int
    uploads: int


def row_of(recording: Recording) -> RecordingRow:
    return RecordingRow(
        stream=recording.stream,
        epoch=recording.epoch,
        revision=recording.revision,
        began_s=epoch_seconds(recording.epoch),
        duration_ms=recording.duration_ms,
        size_bytes=recording.size_bytes,
        lost=sum(recording.lost.values()),
        kept_s=int(time.time()),
    )


class Keeper:
    """`home`: local folder of spool and journals. `release(row)`: the recording takes over.
    `ready(row)`: it was made here, and can be watched when its stream has ended. Raises
    ObjectError, OSError when store or folder cannot be used."""

    def __init__(
        self,
        place: Place,
        *,
        home: Path,
        limits: Limits,
        timing: Timing,
        reconnect_s: float,
        ffmpeg: Ffmpeg,
        plan: Plan,
        retention_s: float,
        catalog: Catalog,
        jobs: Jobs,
        release: Release,
        purge: Purge,
        ready: Ready,
    ) -> None:
        self._retention_s = retention_s
        self._purge = purge
        self._ready = ready
        self._expiry: asyncio.Task[None] | None = None
        self.objects = Objects(place)
        self.library = Library(self.objects, catalog.recording)
        self._catalog = catalog
        self._release = release
        self._linger_s = 3.0 * timing.target_duration
        self._reconnect_s = reconnect_s
        self._awaited: set[str] = set()  # streams that may come back
        self._known: dict[tuple[str, str], RecordingRow] = {}  # what of the catalogue was heard of
        self._pressure = Pressure()
        self._workshop = Workshop(
            self.objects,
            ffmpeg,
            catalog=catalog,
            jobs=jobs,
            plan=plan,
            pressure=self._pressure,
            on_revised=self._enter,
        )
        self._spool = Spool(
            home / "spool",
            self.objects,
            limit_bytes=limits.spool_bytes,
            uploaders=limits.uploads,
            on_index=self._indexed,
        )
        self._recorder = Recorder(
            home / "journal", self._spool, timing=timing, queue_bytes=limits.queue_bytes
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def resume(self, stream: str, window: Window, timeline: Timeline) -> None:
        """Before start(): a stream that an earlier process recorded goes on."""
        self._recorder.resume(stream, window, timeline)

    def start(self) -> None:
        """Needs a running loop. What an earlier process recorded is shown, what it left is
        finished."""
        self._loop = asyncio.get_running_loop()
        self._awaited = set(self._recorder.left)
        for row in self._catalog.recordings():
            self._known[row.stream, row.epoch] = row
            if row.stream not in self._awaited:
                self._show(row)
                self._release(row)
            if row.revision < self._workshop.revisions:
                self._workshop.add(row)
        self._workshop.start()
        self._loop.call_later(self._reconnect_s, self._give_up)
        if self._retention_s:
            self._expiry = asyncio.create_task(self._expire(), name="retention")
        self._spool.start()
        self._recorder.start()

    def shows(self, stream: str) -> bool:
        return self.library.shown(stream) is not None

    def add(self, stream: str, publication: Publication) -> None:
        self._recorder.add(stream, publication)
        self._pressure.add(publication)

    async def stop(self) -> None:
        """What is done in the background is left where it is."""
        if self._expiry:
            self._expiry.cancel()
            await asyncio.wait([self._expiry])
        await self._workshop.stop()

    def rows(self) -> list[dict[str, object]]:
        """What operators are told of all recordings; JSON values."""
        return [
            {**asdict(row), "encoding_percent": self._workshop.progress.get(row.stream)}
            for row in self._catalog.recordings()
        ]

    def refresh(self, stream: str) -> None:
        """Show what the catalogue says now."""
        rows = [row for row in self._catalog.recordings() if row.stream == stream]
        self.library.show(stream, Shown(rows[-1].epoch, rows[-1].revision) if rows else None)

    def catch_up(self) -> None:
        """With what other processes and data centres have recorded, revised and deleted."""
        now = {(row.stream, row.epoch): row for row in self._catalog.recordings()}
        for key, row in now.items():
            if self._known.get(key) != row:
                self._kept(row)
        for key in self._known.keys() - now.keys():
            row = self._known.pop(key)
            self._release(row)
            for gone in self._catalog.deletions():
                if (gone.stream, gone.epoch) == key:
                    self._purge(row.stream, list(gone.paths))
            self.refresh(row.stream)

    async def delete(self, stream: str, epoch: str) -> int:
        """A recording is gone: from the store, the data centres and their POPs; those that are away
        are told when they are back. Returns how many objects it had. Raises LookupError for one
        that is not known, ObjectError."""
        row = self._catalog.recording(stream, epoch)
        if row is None:
            raise LookupError(f"{stream} {epoch}: found no such recording")
        await self._workshop.leave(stream, epoch)
        shown = self.library.shown(stream)
        is_shown = shown is not None and shown.epoch == epoch
        paths, count = await asyncio.to_thread(self._erase, row, is_shown)
        self._release(row)
        self._purge(stream, paths)
        self.refresh(stream)
        log.info("recording deleted", extra={"stream": stream, "epoch": epoch, "objects": count})
        return count

    def _erase(self, row: RecordingRow, is_shown: bool) -> tuple[list[str], int]:
        """On another thread. The paths that it was known by at POPs, and how many objects it
        had."""
        epochs, playlists = {row.epoch}, list[str]()
        try:
            data = self.objects.read(index_key(row.stream, row.epoch, row.revision))
            recording = Recording.from_json(data)
            epochs |= {path.split("/")[3] for path, _, _ in recording.objects()}
            playlists = list(playlists_of(recording))
        except (MissingError, ValueError) as error:
            log.warning("deleted as far as it is known: %s", error)
        found = [
            key for epoch in sorted(epochs) for key, _ in self.objects.list(f"{row.stream}/{epoch}")
        ]
        self.objects.delete(found)
        below = [vod_path(row.stream, row.epoch)]
        below += [f"/live/{row.stream}/{epoch}/" for epoch in sorted(epochs)]
        paths = [*(playlists if is_shown else ()), *below]
        self._catalog.drop_recording(row.stream, row.epoch, paths)
        return paths, len(found)

    def overdue(self) -> list[RecordingRow]:
        """Those that have been kept for long enough."""
        due_s = earlier_s() - self._retention_s
        return [row for row in self._catalog.recordings() if row.kept_s < due_s]

    async def _expire(self) -> None:
        while True:
            for row in self.overdue():
                try:
                    await self.delete(row.stream, row.epoch)
                except (LookupError, ObjectError) as error:
                    log.error("not deleted, tried again: %s", error)
            await asyncio.sleep(_SWEEP_S)

    def close(self) -> None:
        """Not on the loop. What is not uploaded by then waits in the spool."""
        self._recorder.close()
        self._spool.close(_DRAIN_S)

    def gauges(self) -> dict[str, int]:
        return self._spool.gauges()

    def events(self) -> dict[str, int]:
        """Everything counted."""
        counted = {
            "recorded": self._recorder.counters,
            "spool": self._spool.counters,
            "library": self.library.counters,
            "workshop": self._workshop.counters,
        }
        return {
            f"{name}_{event}": count
            for name, counters in counted.items()
            for event, count in counters.items()
        }

    # -- threads of uploaders and of the workshop

    def _indexed(self, key: str) -> None:
        """Raises ObjectError: then it is called again."""
        try:
            recording = Recording.from_json(self.objects.read(key))
        except ValueError as error:
            log.error("recording left out: %s", error, extra={"key": key})
        else:
            self._enter(recording)

    def _enter(self, recording: Recording) -> None:
        """Into the catalogue. Raises ObjectError."""
        row = row_of(recording)
        try:
            self._catalog.set_recording(row)
        except sqlite3.Error as error:
            raise ObjectError(f"catalogue: {error}") from None
        told = {"stream": row.stream, "epoch": row.epoch, "lost": row.lost, "bytes": row.size_bytes}
        log.info("recording kept", extra=told)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._kept, row)
                if not row.revision:
                    self._loop.call_soon_threadsafe(self._ready, row)

    # -- the loop

    def _show(self, row: RecordingRow) -> None:
        """Unless its stream shows a later one."""
        shown = self.library.shown(row.stream)
        if shown is None or epoch_seconds(shown.epoch) <= row.began_s:
            self.library.show(row.stream, Shown(row.epoch, row.revision))

    def _give_up(self) -> None:
        """On those who have not come back."""
        awaited, self._awaited = self._awaited, set()
        for row in self._catalog.recordings():
            if row.stream in awaited:
                self._show(row)
                self._release(row)

    def _kept(self, row: RecordingRow) -> None:
        self._known[row.stream, row.epoch] = row
        if not row.revision:
            self._workshop.add(row)
        if row.stream in self._awaited:
            return
        self._show(row)
        assert self._loop is not None
        self._loop.call_later(self._linger_s, self._release, row)


def place_of(config: Config) -> Place:
    """Where the configured store is. Raises ConfigError."""
    archive = config.archive
    secret = archive_secret(config)
    logs.redact(secret)
    return Place(
        url=archive.store or str((config.data.dir or Path()) / "archive"),
        endpoint=archive.endpoint,
        region=archive.region,
        access_key=archive.access_key,
        secret_key=secret,
    )


def open_keeper(
    config: Config,
    *,
    timing: Timing,
    ffmpeg: Ffmpeg,
    catalog: Catalog,
    jobs: Jobs,
    release: Release,
    purge: Purge,
    ready: Ready,
) -> Keeper | None:
    """As it is configured; None when nothing is to stay. Raises ConfigError, ObjectError."""
    data, archive = config.data, config.archive
    if data.dir is None or not archive.enabled:
        return None
    place = place_of(config)
    limits = Limits(queue_bytes=data.queue, spool_bytes=archive.spool, uploads=archive.uploads)
    try:
        return Keeper(
            place,
            home=data.dir,
            limits=limits,
            timing=timing,
            reconnect_s=config.live.reconnect / 1000,
            ffmpeg=ffmpeg,
            plan=Plan(rungs=archive.ladder, chunk_ms=archive.chunk, workers=archive.workers),
            retention_s=archive.retention / 1000,
            catalog=catalog,
            jobs=jobs,
            release=release,
            purge=purge,
            ready=ready,
        )
    except OSError as error:
        text = f"data.dir: found {data.dir}, which cannot be used: {error.strerror}"
        raise ObjectError(text) from None
