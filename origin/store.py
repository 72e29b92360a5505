"""The live window of every stream, in memory, and what may be waited for in it.

Laws: fed by publications in truth order (`add`). The first body of a path wins; another one is a
conflict, counted, never an overwrite. A segment is the list of its parts' buffers, so it is
readable while it grows and no byte is held twice. Playlists are versioned values; a request waits
for the least version it can use (RFC 8216bis 6.2.5). Bounds: waiters (503 beyond), age of media as
each object's `ttl_ms` says (segments that are on disk by then are served from there for
`archive_s` more), ended streams (the oldest is forgotten). Owner: the event loop's
thread; nothing here blocks it, the disk is another thread's (disk.py). Does not know: HTTP framing,
who asks, how media is made.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from edgecache.errors import EdgeError

from . import names
from .disk import Disk
from .model import MediaObject, PartObject, PlaylistVersion, Publication
from .signals import Signal
from .window import StoredObject, Variant, Want, Window, is_part, track_of

MAX_WAITERS: Final = 20_000
_LINGER_S: Final = 60.0  # media of an epoch that another one has followed
_HINT_HOLD_S: Final = (
    6.0  # a hinted part that is not there by then will not come (3 x TARGETDURATION of 2 s)
)

StreamState = Literal["live", "ended", "unknown"]


class StoreError(EdgeError):
    """A request that cannot be answered with a body; `status` is what it deserves."""

    source = "downstream"

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Store:
    """All windows. `disk` None: in memory only. archive_s: how long a segment is served after its
    memory was given back. `recorded` says whether a stream without a window has a recording.
    `monotonic_s` ages media."""

    def __init__(
        self,
        *,
        disk: Disk | None = None,
        archive_s: float = 0.0,
        ended_max: int = 64,
        max_waiters: int = MAX_WAITERS,
        recorded: Callable[[str], bool] = lambda _: False,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorded = recorded
        self._windows: dict[str, Window] = {}  # an ended stream moves to the end
        self._disk = disk
        self._archive_s = archive_s
        self._ended_max = ended_max
        self._max_waiters = max_waiters
        self._monotonic_s = monotonic_s
        self._waiting = 0
        self.counters: Counter[str] = Counter()
        if disk:
            for window in disk.load():
                self._windows[window.stream] = window
            self._forget_oldest()

    # -- feeding

    def add(self, stream: str, publication: Publication) -> None:
        """Take the next publication of `stream`. Never waits, never raises for what a peer can
        cause."""
        now = self._monotonic_s()
        window = self._windows.get(stream)
        if window is None:
            window = self._windows[stream] = Window(stream)
        if isinstance(publication, PlaylistVersion):
            self._add_playlist(window, publication)
        else:
            self._add_object(window, publication, now)
        self._age(window, now)

    def _age(self, window: Window, now: float) -> None:
        """What is over goes; what is only out of the live window goes to the disk. A segment that
        could not be written (the disk is full or slow) is lost for those who seek back: counted as
        `not_archived`."""
        for stored in window.evict(now):
            self.counters["evicted"] += 1
            if self._disk is None or is_part(stored.path):
                continue
            listed = self._archive_s > 0 and stored.path.split("/")[3] in window.epochs
            if listed and (file := self._disk.holds(stored.path)):
                self._disk.archived(stored.path)
                window.keep(stored, file, now + self._archive_s)
                self.counters["archived"] += 1
                continue
            self.counters["not_archived"] += listed
            self._disk.remove(stored.path)
        for stored in window.expire(now):
            if self._disk:
                self._disk.remove(stored.path)

    def _add_object(self, window: Window, item: MediaObject, now: float) -> None:
        epoch = item.path.split("/")[3]
        if epoch not in window.epochs:
            if self._disk:
                self._disk.begin(window.stream)
            window.start_epoch(epoch, now + _LINGER_S)
        known = window.find(item.path)
        if known is not None:
            self.counters["duplicates" if known.digest == item.digest else "conflicts"] += 1
            return
        stored = (
            window.add_part(item, now + item.ttl_ms / 1000)
            if isinstance(item, PartObject)
            else window.add_init(item)
        )
        if stored is None:
            self.counters["out_of_order"] += 1
            return
        self.counters["objects"] += 1
        self.counters["bytes"] += len(item.body)
        if self._disk and isinstance(item, PartObject):
            self._disk.grow(stored.path, item.offset, item.body)
        if self._disk and stored.complete:
            self._disk.write(stored.path, tuple(stored.chunks))

    def _add_playlist(self, window: Window, version: PlaylistVersion) -> None:
        if not window.publish(version):
            self.counters["stale_versions"] += 1
            return
        self.counters["versions"] += 1
        if version.ended and window.settle():
            self._windows[window.stream] = self._windows.pop(window.stream)
            if self._disk:
                self._disk.finish(window)
            self._forget_oldest()

    def restore(self, window: Window) -> None:
        """A live window of an earlier process, before anything of it is published."""
        self._windows[window.stream] = window

    def _forget_oldest(self) -> None:
        ended = [name for name, window in self._windows.items() if window.ended]
        for name in ended[: max(0, len(ended) - self._ended_max)]:
            self._windows.pop(name).close()
            self.counters["forgotten"] += 1
            if self._disk:
                self._disk.forget(name)

    # -- asking

    def state(self, stream: str) -> StreamState:
        window = self._windows.get(stream)
        if window is None:
            return "ended" if self._recorded(stream) else "unknown"
        return "ended" if window.ended else "live"

    def streams(self) -> Iterator[Window]:
        """Every window, for the state page."""
        yield from self._windows.values()

    def window(self, stream: str) -> Window | None:
        return self._windows.get(stream)

    def backfill(self, stream: str, segments: int) -> list[Publication]:
        """What a POP that has nothing needs of a live stream, in order: inits, the newest
        `segments` of every track (newest first, whole or as far as they are), playlists, the
        multivariant last."""
        window = self._windows.get(stream)
        return [] if window is None or window.ended else window.backfill(segments)

    def find(self, path: str) -> StoredObject | None:
        """The object at `path` as far as it is there."""
        window = self._window_of(path)
        return window.find(path) if window else None

    def find_playlist(self, path: str) -> PlaylistVersion | None:
        """The newest version at `path`."""
        window = self._window_of(path)
        slot = window.playlists.get(path) if window else None
        return slot.newest if slot else None

    def epoch(self, path: str) -> str:
        """The timeline that the playlist at `path` shows, "" when nobody knows."""
        window = self._window_of(path)
        return window.made or window.epoch if window else ""

    async def fetch(self, path: str) -> StoredObject:
        """The object at `path`; the hinted next part is waited for (RFC 8216bis 6.2.6). Raises
        StoreError: 404 for a name that is neither there nor hinted, 503 when it does not come in
        time."""
        if found := self.find(path):
            return found
        window = self._window_of(path)
        if window is None or not window.hinted(path):
            raise StoreError(404, "no such object")
        arrived = await self._park(
            window.hint_signal(track_of(path)),
            lambda: window.find(path) is not None or not window.hinted(path),
            _HINT_HOLD_S,
        )
        if found := window.find(path):
            return found
        if arrived:
            raise StoreError(404, "the hinted part was not made")
        raise StoreError(503, "the hinted part did not come in time")

    async def follow(self, stored: StoredObject, timeout_s: float) -> AsyncIterator[bytes]:
        """The buffers of a segment as they arrive; ends when it is complete. Raises StoreError(503)
        when nothing arrives for `timeout_s`."""
        seen = 0
        chunks = stored.chunks  # this list, whatever happens to the object later

        def more() -> bool:
            return len(chunks) > seen or stored.complete

        while True:
            if not await self._park(stored.grown, more, timeout_s):
                raise StoreError(503, "the segment stopped growing")
            while seen < len(chunks):
                seen += 1
                yield chunks[seen - 1]
            if stored.complete:
                return

    async def read(self, stored: StoredObject, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object, from memory or, off the loop, from its file. Raises
        StoreError(404) when the file is gone."""
        if stored.file is None:
            return stored.slice(start, stop)
        try:
            return await asyncio.to_thread(_read_file, stored.file, start, stop)
        except OSError:
            raise StoreError(404, "the stream was forgotten") from None

    async def playlist(
        self, path: str, want: Want, *, gzip: bool = False, deadline_s: float | None = None
    ) -> tuple[PlaylistVersion, Variant]:
        """The newest version at `path` that satisfies `want`, and the variant to send. Waits up to
        the version's own hold (or `deadline_s` if that is less). Raises StoreError 400, 404 or 503
        (RFC 8216bis 6.2.5.2)."""
        window = self._window_of(path)
        slot = window.playlists.get(path) if window else None
        if slot is None:
            raise StoreError(404, "no such playlist")
        newest = slot.newest
        if want.part is not None and want.msn is None and not newest.ended:
            raise StoreError(400, "_HLS_part: found without _HLS_msn, allowed with it")
        if want.too_far(newest):
            raise StoreError(
                400, f"_HLS_msn, _HLS_part: found {want}, allowed soon after {newest.version}"
            )
        if not want.satisfied(newest):
            hold_s = newest.hold_ms / 1000
            held_s = min(hold_s, hold_s if deadline_s is None else deadline_s)
            if not await self._park(slot.changed, lambda: want.satisfied(slot.newest), held_s):
                raise StoreError(503, f"{want} was not made in time")
            newest = slot.newest
        return newest, Variant.choose(newest, want, gzip=gzip)

    def _window_of(self, path: str) -> Window | None:
        pieces = path.split("/", 3)  # "", "live", stream, rest
        return self._windows.get(pieces[2]) if len(pieces) == 4 and pieces[1] == "live" else None

    async def _park(self, signal: Signal, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Wait on `signal`, counted: parked = woken + timed out + gone + waiting. Raises
        StoreError(503) when as many wait as may."""
        if ready():
            return True
        if self._waiting >= self._max_waiters:
            self.counters["waiters_refused"] += 1
            raise StoreError(503, "too many requests wait")
        self._waiting += 1
        self.counters["parked"] += 1
        outcome = "gone"  # unless we get past the wait
        try:
            woken = await signal.wait_until(ready, timeout_s)
            outcome = "woken" if woken else "timed_out"
        finally:
            self._waiting -= 1
            self.counters[outcome] += 1
        return woken

    # -- ending

    def to_files(self, stream: str, files: list[tuple[str, Path]]) -> None:
        """An ended stream is wholly on disk: its media leaves the memory."""
        if window := self._windows.get(stream):
            window.to_files(files)

    def release(self, stream: str, *, began_s: int, kept_s: int) -> list[str]:
        """A recording has taken over, which began and was kept at these unix times: the ended
        window whose timeline began between them goes, from the disk too. Returns the paths of its
        playlists."""
        window = self._windows.get(stream)
        if window is None or not window.ended:
            return []
        if not began_s <= names.epoch_seconds(window.epoch) <= kept_s:
            return []
        self._windows.pop(stream).close()
        self.counters["released"] += 1
        if self._disk:
            self._disk.forget(stream)
        return list(window.playlists)

    def gauges(self) -> dict[str, int]:
        """Sizes now: streams, objects, bytes in memory, waiters."""
        windows = self._windows.values()
        return {
            "streams_live": sum(not window.ended for window in windows),
            "streams_ended": sum(window.ended for window in windows),
            "objects": sum(len(window.objects) for window in windows),
            "archived": sum(len(window.archive) for window in windows),
            "memory_bytes": sum(window.memory_bytes for window in windows),
            "waiters": self._waiting,
        }

    def events(self) -> dict[str, int]:
        """Everything counted, the disk's with a prefix."""
        disk = self._disk.counters if self._disk else {}
        return dict(self.counters) | {f"disk_{name}": count for name, count in disk.items()}

    def close(self) -> None:
        """Release everybody who waits (they get 503)."""
        for window in self._windows.values():
            window.close()


def _read_file(file: Path, start: int, stop: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(stop - start)
