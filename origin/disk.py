"""The windows on disk: segments part by part, a journal of what they are while a stream lives, and
an index when it has ended.

Laws: the loop only queues; one thread writes. A file appears by rename, so it is whole or absent;
until then it grows under another name. The queue is bounded in bytes: beyond it a write is dropped
and counted, and so is one that fails (disk full); the live path goes on, and an index only lists
what is really there. Without an index and a journal a stream's files are an unfinished broadcast
that nobody can play: they are removed at the next start. Survives a kill of the process, not a loss
of power (no fsync). Owner: the loop's thread, but for the methods under "the writer's thread".
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import journal
from .chronicle import Row
from .journal import Journal
from .model import PlaylistVersion
from .wholefile import PARTIAL, partial_of, write_whole
from .window import PlaylistSlot, StoredObject, Window, is_part

log = logging.getLogger(__name__)

INDEX: Final = "index.json"
_FORMAT: Final = 1
_ROW_BYTES: Final = 512  # what a row takes in the queue, about
_QUIET_S: Final = 60.0  # between two log lines about a failing disk


@dataclass(frozen=True)
class _Job:
    run: Callable[[], None]
    size: int = 0


class Disk:
    """`root` is created. `on_written(window, files)` is called on the writer's thread when a
    stream's index and files are durable. Raises OSError when `root` cannot be made."""

    def __init__(
        self,
        root: Path,
        *,
        queue_bytes: int,
        on_written: Callable[[str, list[tuple[str, Path]]], None],
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._queue_bytes = queue_bytes
        self._on_written = on_written
        self._jobs: deque[_Job | None] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        self._logged_s = 0.0
        self._there: set[str] = set()  # paths of live streams that are written
        self._grown: dict[str, int] = {}  # the writer's: bytes of files that are not whole
        self._journals: dict[str, Journal] = {}  # the writer's
        self.counters: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._work, name="origin-disk")
        self._thread.start()

    # -- called on the loop

    def grow(self, path: str, offset: int, body: bytes) -> None:
        """Queue bytes of the file behind the URL path `path`, which is not whole yet; dropped and
        counted when the queue is full."""
        self._offer(_Job(lambda: self._grow(path, offset, body), len(body)))

    def write(self, path: str, chunks: tuple[bytes, ...]) -> None:
        """Queue the whole file behind `path`: what has grown is that already, if nothing of it was
        lost. Dropped and counted likewise."""
        self._offer(_Job(lambda: self._keep(path, chunks), sum(map(len, chunks))))

    def record(self, stream: str, rows: list[Row]) -> None:
        """Queue rows of the stream's journal, after the bytes that they speak of. Likewise."""
        self._offer(_Job(lambda: self._record(stream, rows), _ROW_BYTES * len(rows)))

    def _offer(self, job: _Job) -> None:
        with self._wake:
            fits = self._queued_bytes + job.size <= self._queue_bytes
        if fits:
            self._queue(job)
        else:
            self.counters["dropped"] += 1

    def archived(self, path: str) -> None:
        """Nobody asks for the parts of this segment any more."""
        self._queue(_Job(lambda: self._drop(("part",), path)))

    def holds(self, path: str) -> Path | None:
        """The file behind `path`, when it is wholly written."""
        return self.file(path) if path in self._there else None

    def remove(self, path: str) -> None:
        self._queue(_Job(lambda: self._remove(path)))

    def begin(self, stream: str) -> None:
        """The stream lives, anew: what index and journal say is no longer the truth."""
        self._queue(_Job(lambda: self._begin(stream)))

    def forget(self, stream: str) -> None:
        self._settle(stream)
        self._queue(_Job(lambda: self._forget(stream)))

    def finish(self, window: Window) -> None:
        """Queue the index of an ended stream, after all its files."""
        inits = [stored for _, stored in window.inits.values()]
        wanted = [
            (stored, _object_row(stored))
            for stored in (*inits, *window.archive.values(), *window.objects.values())
            if stored.complete and not is_part(stored.path)
        ]
        rows = [row for _, row in wanted]
        playlists = [_playlist_row(slot.newest) for slot in window.playlists.values()]
        self._settle(window.stream)
        self._queue(_Job(lambda: self._finish(window.stream, window.epoch, rows, playlists)))

    def _settle(self, stream: str) -> None:
        """Nothing of it will be asked of `holds` any more."""
        with self._wake:
            ours = [path for path in self._there if path.startswith(f"/live/{stream}/")]
            self._there.difference_update(ours)

    def load(self) -> Iterator[Window]:
        """Ended streams left by an earlier process, oldest first; unfinished ones are removed.
        Called before the loop serves, so it reads on the caller's thread."""
        indexes = sorted(self._root.glob(f"*/{INDEX}"), key=lambda file: file.stat().st_mtime)
        for index in indexes:
            try:
                yield self._restore(index)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning(
                    "index not usable, stream forgotten: %s", error, extra={"file": str(index)}
                )
                index.unlink(missing_ok=True)
        for folder in self._root.iterdir():
            kept = (folder / INDEX).exists() or (folder / journal.NAME).exists()
            if folder.is_dir() and not kept:
                shutil.rmtree(folder, ignore_errors=True)
                self.counters["unfinished_removed"] += 1

    def interrupted(self) -> list[str]:
        """Streams that lived when an earlier process was ended."""
        found = [file.parent for file in self._root.glob(f"*/{journal.NAME}")]
        return sorted(folder.name for folder in found if not (folder / INDEX).exists())

    def rows(self, stream: str) -> list[Row]:
        """Of an interrupted stream; reads on the caller's thread. Raises OSError."""
        kept = Journal(self._root / stream)
        try:
            return kept.rows()
        finally:
            kept.close()

    def record_now(self, stream: str, rows: list[Row]) -> None:
        """The same for a stream that nothing is queued of yet, at once. Raises OSError."""
        kept = Journal(self._root / stream)
        try:
            kept.put(rows)
        finally:
            kept.close()

    def sizes(self, stream: str) -> dict[str, int]:
        """URL path -> bytes there are of it, whole or not."""
        files = (self._root / stream).glob("*/*/*")
        return {
            f"/live/{file.relative_to(self._root)}".removesuffix(PARTIAL): file.stat().st_size
            for file in files
        }

    def read(self, path: str) -> bytes:
        """What there is of a file of an interrupted stream. Raises OSError."""
        file = self.file(path)
        return (file if file.exists() else partial_of(file)).read_bytes()

    def adopt(self, whole: Iterable[str], begun: Mapping[str, int]) -> None:
        """Files that an earlier process wrote, and how much it had of those that are not whole."""
        self._there.update(whole)
        for path, size in begun.items():
            os.truncate(partial_of(self.file(path)), size)
            self._grown[path] = size

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is queued, then end the thread."""
        with self._wake:
            self._jobs.append(None)
            self._wake.notify()
        self._thread.join(timeout_s)

    def file(self, path: str) -> Path:
        return self._root / path.removeprefix("/live/")

    def _queue(self, job: _Job) -> None:
        with self._wake:
            self._jobs.append(job)
            self._queued_bytes += job.size
            self._wake.notify()

    # -- the writer's thread

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._jobs)
                job = self._jobs.popleft()
            if job is None:
                for kept in self._journals.values():
                    kept.close()
                return
            try:
                job.run()
            except OSError as error:
                self._failed(error)
            finally:
                with self._wake:
                    self._queued_bytes -= job.size

    def _failed(self, error: OSError) -> None:
        self.counters["failed"] += 1
        now = time.monotonic()
        if now - self._logged_s > _QUIET_S or not self._logged_s:
            self._logged_s = now
            log.error("disk write failed, the live path goes on without it: %s", error)

    def _grow(self, path: str, offset: int, body: bytes) -> None:
        """What does not follow on is left to `_keep`."""
        if self._grown.get(path, 0) != offset:
            return
        partial = partial_of(self.file(path))
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab" if offset else "wb") as out:
            out.write(body)
        self._grown[path] = offset + len(body)

    def _keep(self, path: str, chunks: tuple[bytes, ...]) -> None:
        file, size = self.file(path), sum(map(len, chunks))
        if self._grown.pop(path, -1) == size:
            partial_of(file).replace(file)
            self._count(size)
        else:
            self._write(file, chunks)
        with self._wake:
            self._there.add(path)

    def _count(self, size: int) -> None:
        self.counters["written"] += 1
        self.counters["written_bytes"] += size

    def _remove(self, path: str) -> None:
        with self._wake:
            self._there.discard(path)
        file = self.file(path)
        file.unlink(missing_ok=True)
        if self._grown.pop(path, None) is not None:
            partial_of(file).unlink(missing_ok=True)
        self._drop(("part", "segment"), path)

    def _drop(self, kinds: tuple[str, ...], path: str) -> None:
        """Rows of the segment at `path`, if its stream keeps any."""
        _, _, stream, _, track, name = path.split("/")
        number = name.partition(".")[0]
        if stream in self._journals and number.isdigit():
            self._journals[stream].drop(kinds, track, int(number))

    def _record(self, stream: str, rows: list[Row]) -> None:
        folder = self._root / stream
        if stream not in self._journals:
            if (folder / INDEX).exists():  # it has ended
                return
            folder.mkdir(parents=True, exist_ok=True)
            self._journals[stream] = Journal(folder)
        self._journals[stream].put(rows)

    def _end_journal(self, stream: str) -> None:
        if stream in self._journals:
            self._journals.pop(stream).close()
        journal.remove(self._root / stream)

    def _begin(self, stream: str) -> None:
        self._end_journal(stream)
        (self._root / stream / INDEX).unlink(missing_ok=True)

    def _forget(self, stream: str) -> None:
        self._end_journal(stream)
        shutil.rmtree(self._root / stream, ignore_errors=True)

    def _write(self, file: Path, chunks: tuple[bytes, ...]) -> None:
        write_whole(file, chunks)
        self._count(sum(map(len, chunks)))

    def _finish(
        self, stream: str, epoch: str, rows: list[dict[str, Any]], playlists: list[dict[str, Any]]
    ) -> None:
        there = [row for row in rows if _has_size(self.file(row["path"]), row["size"])]
        self.counters["missing"] += len(rows) - len(there)
        missing = {row["path"] for row in rows} - {row["path"] for row in there}
        playlists = [row | {"full": _gapped(stream, row["full"], missing)} for row in playlists]
        index = {"format": _FORMAT, "epoch": epoch, "objects": there, "playlists": playlists}
        self._write(self._root / stream / INDEX, (json.dumps(index).encode(),))
        self._end_journal(stream)
        self._on_written(stream, [(row["path"], self.file(row["path"])) for row in there])

    # -- reading back

    def _restore(self, index: Path) -> Window:
        data = json.loads(index.read_bytes())
        if data["format"] != _FORMAT:
            raise ValueError(f"found format {data['format']}, allowed {_FORMAT}")
        window = Window(index.parent.name)
        window.epoch, window.ended = str(data["epoch"]), True
        for row in data["objects"]:
            file = self.file(row["path"])
            stored = StoredObject(**row, expires_s=float("inf"), file=file)
            window.objects[stored.path] = stored
        for row in data["playlists"]:
            full = row.pop("full").encode()
            version = PlaylistVersion(**row, full=full, full_gzip=gzip.compress(full, mtime=0))
            window.playlists[version.path] = PlaylistSlot(version)
        return window


def _gapped(stream: str, text: str, missing: set[str]) -> str:
    """A playlist that says which of its segments cannot be had (RFC 8216bis 4.4.4.7)."""
    if not missing:
        return text
    lines = text.splitlines(keepends=True)
    gaps = {n for n, line in enumerate(lines) if f"/live/{stream}/{line.strip()}" in missing}
    return "".join(("#EXT-X-GAP\n" if n in gaps else "") + line for n, line in enumerate(lines))


def _has_size(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _object_row(stored: StoredObject) -> dict[str, Any]:
    names = ("path", "content_type", "cache_control", "digest", "size")
    return {name: getattr(stored, name) for name in names}


def _playlist_row(version: PlaylistVersion) -> dict[str, Any]:
    names = (
        "path",
        "msn",
        "parts",
        "last_parts",
        "hold_ms",
        "advance",
        "ended",
        "ttl_ms",
        "cache_control",
        "content_type",
    )
    return {name: getattr(version, name) for name in names} | {
        "cache_control": version.cache_control,
        "full": version.full.decode(),
    }
