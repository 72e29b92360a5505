"""What is on its way to the permanent store: a bounded folder, emptied by a few threads.

Laws: a file is named `{key}@{xxh3-128}`, appears by rename, and goes when the store has the object;
so what a killed process left is uploaded by the next. Its bytes are checked before they leave. A
store that is away keeps everything here, tried again with back-off; beyond `limit_bytes` what comes
is refused (`put` says so), and the recording has a gap there. A recording's own index is uploaded
after all of its media. Owner: `put` is called by one thread, the rest is the uploaders'.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ..model import digest_of
from ..wholefile import PARTIAL, write_whole
from .objects import ConflictError, ObjectError, Objects

log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.2
_BACKOFF_MAX_S: Final = 15.0
_QUIET_S: Final = 60.0  # between two log lines about a store that is away
_INDEX: Final = "recording-"


def stream_of(key: str) -> str:
    return key.partition("/")[0]


def is_index(key: str) -> bool:
    return key.rpartition("/")[2].startswith(_INDEX)


class Spool:
    """`on_index(key)` is called on an uploader's thread when an index, and so all that it names, is
    stored. Raises OSError when `root` cannot be used."""

    def __init__(
        self,
        root: Path,
        objects: Objects,
        *,
        limit_bytes: int,
        uploaders: int,
        on_index: Callable[[str], None],
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._objects = objects
        self._limit_bytes = limit_bytes
        self._on_index = on_index
        self._wake = threading.Condition()
        self._ready: deque[str] = deque()  # file names below root
        self._held: dict[str, list[str]] = {}  # stream -> indexes that wait for its media
        self._pending: Counter[str] = Counter()  # stream -> media that is not stored
        self._bytes = 0
        self._stopping = False
        self._backoff_s = 0.0
        self._logged_s = 0.0
        self.counters: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._work, name=f"archive-{number}")
            for number in range(uploaders)
        ]

    def start(self) -> None:
        """Take up what an earlier process left, media before the indexes that name it."""
        left = self._root.rglob("*@*")
        for file in sorted(left, key=lambda file: (is_index(file.name), file)):
            if file.name.endswith(PARTIAL):
                file.unlink()
            else:
                self._enter(str(file.relative_to(self._root)), file.stat().st_size)
        for thread in self._threads:
            thread.start()

    def put(self, key: str, chunks: Sequence[bytes], digest: str) -> bool:
        """Keep it until the store has it. False when there is no room, which an index always has.
        Raises OSError."""
        size = sum(map(len, chunks))
        with self._wake:
            if self._bytes + size > self._limit_bytes and not is_index(key):
                self.counters["refused"] += 1
                return False
        name = f"{key}@{digest}"
        write_whole(self._root / name, chunks)
        self._enter(name, size)
        return True

    def gauges(self) -> dict[str, int]:
        with self._wake:
            return {"spool_bytes": self._bytes, "spool_objects": sum(self._pending.values())}

    def close(self, timeout_s: float) -> None:
        """Stop after at most `timeout_s` of uploading; the rest is the next process's."""
        with self._wake:
            if not self._backoff_s:
                self._wake.wait_for(lambda: not self._pending and not self._held, timeout_s)
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _enter(self, name: str, size: int) -> None:
        key = name.rpartition("@")[0]
        stream = stream_of(key)
        with self._wake:
            self._bytes += size
            if is_index(key):
                self._held.setdefault(stream, []).append(name)
            else:
                self._pending[stream] += 1
                self._ready.append(name)
            self._release(stream)
            self._wake.notify_all()

    def _release(self, stream: str) -> None:
        """The index may go when its media is stored. Under the lock."""
        if not self._pending[stream]:
            del self._pending[stream]
            self._ready += self._held.pop(stream, [])

    # -- the uploaders' threads

    def _work(self) -> None:
        while (name := self._take()) is not None:
            file = self._root / name
            try:
                size = self._upload(name, file)
                file.unlink()
            except (ObjectError, OSError) as error:
                self._away(name, error)
            else:
                self._stored(name, size)

    def _take(self) -> str | None:
        """The next file; None to stop. While the store is away, one try at a time."""
        with self._wake:
            while not self._stopping:
                if self._backoff_s:
                    self._wake.wait(self._backoff_s * random.uniform(0.5, 1.0))
                    if self._ready and not self._stopping:
                        return self._ready.popleft()
                elif self._ready:
                    return self._ready.popleft()
                else:
                    self._wake.wait()
        return None

    def _upload(self, name: str, file: Path) -> int:
        """How many bytes need not be spooled any more. Raises ObjectError, OSError."""
        key, _, digest = name.rpartition("@")
        body = file.read_bytes()
        if digest_of(body) != digest:
            self.counters["damaged"] += 1
            log.error("spooled object is damaged and left out", extra={"key": key})
        else:
            try:
                self.counters["stored" if self._objects.create(key, body) else "known"] += 1
                self.counters["stored_bytes"] += len(body)
            except ConflictError as error:
                self.counters["conflicts"] += 1
                log.error("not archived: %s", error)
        if is_index(key):
            self._on_index(key)
        return len(body)

    def _stored(self, name: str, size: int) -> None:
        key = name.rpartition("@")[0]
        stream = stream_of(key)
        with self._wake:
            self._backoff_s = 0.0
            self._bytes -= size
            if not is_index(key):
                self._pending[stream] -= 1
                self._release(stream)
            self._wake.notify_all()

    def _away(self, name: str, error: Exception) -> None:
        self.counters["failed"] += 1
        now = time.monotonic()
        with self._wake:
            self._ready.appendleft(name)
            self._backoff_s = min(_BACKOFF_MAX_S, 2 * self._backoff_s or _BACKOFF_S)
            quiet = self._logged_s and now - self._logged_s < _QUIET_S
            if not quiet:
                self._logged_s = now
        if not quiet:
            log.error("the permanent store is away, what comes is spooled: %s", error)
