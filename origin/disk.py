"""The windows on disk: segments as they complete, and an index when a stream has ended.

Laws: the loop only queues; one thread writes. A file appears by rename, so it is whole or absent.
The queue is bounded in bytes: beyond it a write is dropped and counted, and so is one that fails
(disk full); the live path goes on, and an index only lists what is really there. Without an index
a stream's files are an unfinished broadcast that nobody can play: they are removed at the next
start. Survives a kill of the process, not a loss of power (no fsync). Owner: the loop's thread, but
for the methods under "the writer's thread".
"""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .model import PlaylistVersion
from .window import PlaylistSlot, StoredObject, Window, is_part

log = logging.getLogger(__name__)

INDEX: Final = "index.json"
_FORMAT: Final = 1
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
        self.counters: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._work, name="origin-disk")
        self._thread.start()

    # -- called on the loop

    def write(self, path: str, chunks: tuple[bytes, ...]) -> None:
        """Queue the file behind the URL path `path`; dropped and counted when the queue is full."""
        size = sum(map(len, chunks))
        with self._wake:
            fits = self._queued_bytes + size <= self._queue_bytes
        if fits:
            self._queue(_Job(lambda: self._keep(path, chunks), size))
        else:
            self.counters["dropped"] += 1

    def holds(self, path: str) -> Path | None:
        """The file behind `path`, when it is wholly written."""
        return self._file(path) if path in self._there else None

    def remove(self, path: str) -> None:
        self._queue(_Job(lambda: self._remove(path)))

    def drop_index(self, stream: str) -> None:
        """The stream lives again: what the index says is no longer the truth."""
        self._queue(_Job(lambda: (self._root / stream / INDEX).unlink(missing_ok=True)))

    def forget(self, stream: str) -> None:
        self._settle(stream)
        self._queue(_Job(lambda: shutil.rmtree(self._root / stream, ignore_errors=True)))

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
            if folder.is_dir() and not (folder / INDEX).exists():
                shutil.rmtree(folder, ignore_errors=True)
                self.counters["unfinished_removed"] += 1

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is queued, then end the thread."""
        with self._wake:
            self._jobs.append(None)
            self._wake.notify()
        self._thread.join(timeout_s)

    def _file(self, path: str) -> Path:
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

    def _keep(self, path: str, chunks: tuple[bytes, ...]) -> None:
        self._write(self._file(path), chunks)
        with self._wake:
            self._there.add(path)

    def _remove(self, path: str) -> None:
        with self._wake:
            self._there.discard(path)
        self._file(path).unlink(missing_ok=True)

    def _write(self, file: Path, chunks: tuple[bytes, ...]) -> None:
        partial = file.with_name(file.name + ".tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as out:
                out.writelines(chunks)
            partial.replace(file)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self.counters["written"] += 1
        self.counters["written_bytes"] += sum(map(len, chunks))

    def _finish(
        self, stream: str, epoch: str, rows: list[dict[str, Any]], playlists: list[dict[str, Any]]
    ) -> None:
        there = [row for row in rows if _has_size(self._file(row["path"]), row["size"])]
        self.counters["missing"] += len(rows) - len(there)
        index = {"format": _FORMAT, "epoch": epoch, "objects": there, "playlists": playlists}
        self._write(self._root / stream / INDEX, (json.dumps(index).encode(),))
        self._on_written(stream, [(row["path"], self._file(row["path"])) for row in there])

    # -- reading back

    def _restore(self, index: Path) -> Window:
        data = json.loads(index.read_bytes())
        if data["format"] != _FORMAT:
            raise ValueError(f"found format {data['format']}, allowed {_FORMAT}")
        window = Window(index.parent.name)
        window.epoch, window.ended = str(data["epoch"]), True
        for row in data["objects"]:
            file = self._file(row["path"])
            stored = StoredObject(**row, expires_s=float("inf"), file=file)
            window.objects[stored.path] = stored
        for row in data["playlists"]:
            full = row.pop("full").encode()
            version = PlaylistVersion(**row, full=full, full_gzip=gzip.compress(full, mtime=0))
            window.playlists[version.path] = PlaylistSlot(version)
        return window


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
