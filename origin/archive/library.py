"""Recordings as viewers get them: the playlists and objects of ended streams, from the store.

Laws: answers only for the newest recording of a stream, under the names that it had live; a whole
object is checked against the digest in its recording, and a range of one is not. Recordings are
read and their playlists made on another thread, once, and the ones asked for last are kept: at most
`_SEGMENTS` segments of all (beyond it the oldest is forgotten). A store that is away is 503, what
it does not have 404, damaged bytes 502. Owner: the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from ..model import PlaylistVersion, digest_of
from ..presentation import IMMUTABLE
from ..store import StoreError
from ..window import StoredObject, Variant, Want, track_of
from .objects import MissingError, ObjectError, Objects
from .recorder import index_key, key_of
from .recording import JPEG_TYPE, Recording, playlists_of

log = logging.getLogger(__name__)

_SEGMENTS: Final = 100_000  # of 300 bytes each
_FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Shown:
    """Which recording a stream shows."""

    epoch: str
    revision: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A recording, ready to be served. objects: path -> size, digest."""

    recording: Recording
    playlists: dict[str, PlaylistVersion]
    objects: dict[str, tuple[int, str]]


class Library:
    """Of `objects`; `show` says what is in it."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._shown: dict[str, Shown] = {}
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()  # asked for last at the end
        self._loading: dict[str, asyncio.Task[_Loaded]] = {}
        self.counters: Counter[str] = Counter()

    def show(self, stream: str, shown: Shown | None) -> None:
        """From now on `stream` is this recording; None: there is none any more."""
        self._loaded.pop(stream, None)
        self._loading.pop(stream, None)
        if shown is None:
            self._shown.pop(stream, None)
        else:
            self._shown[stream] = shown

    def shown(self, stream: str) -> Shown | None:
        return self._shown.get(stream)

    async def recording(self, stream: str) -> Recording:
        """Raises StoreError."""
        return (await self._load(stream)).recording

    async def playlist(
        self, path: str, want: Want, *, gzip: bool
    ) -> tuple[PlaylistVersion, Variant]:
        """Raises StoreError."""
        version = (await self._of(path)).playlists.get(path)
        if version is None:
            raise StoreError(404, "no such playlist")
        return version, Variant.choose(version, want, gzip=gzip)

    async def fetch(self, path: str) -> StoredObject:
        """What is known of the object at `path`; `read` has its bytes. Raises StoreError."""
        loaded = await self._of(path)
        if path not in loaded.objects:
            raise StoreError(404, "no such object")
        size, digest = loaded.objects[path]
        return StoredObject(
            path=path,
            content_type=_type(loaded.recording, path),
            cache_control=IMMUTABLE,
            expires_s=_FOREVER,
            digest=digest,
            size=size,
        )

    async def whole(self, path: str) -> bytes:
        """Raises StoreError."""
        stored = await self.fetch(path)
        return await self.read(stored, 0, stored.size)

    async def read(self, stored: StoredObject, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of what `fetch` found. Raises StoreError."""
        try:
            body = await self._objects.read_async(key_of(stored.path), start, stop)
        except MissingError:
            raise StoreError(404, "the recording has lost this object") from None
        except ObjectError as error:
            raise self._away(error) from None
        whole = stop - start == stored.size
        if len(body) != stop - start or (whole and digest_of(body) != stored.digest):
            self.counters["damaged"] += 1
            log.error("archived object is damaged", extra={"path": stored.path})
            raise StoreError(502, "the stored object is damaged")
        self.counters["objects"] += 1
        self.counters["bytes"] += len(body)
        return body

    # -- inside

    async def _of(self, path: str) -> _Loaded:
        pieces = path.split("/", 3)  # "", "live", stream, rest
        if len(pieces) != 4:
            raise StoreError(404, "no such object")
        return await self._load(pieces[2])

    async def _load(self, stream: str) -> _Loaded:
        """Once for all who ask at the same time."""
        if found := self._loaded.get(stream):
            self._loaded.move_to_end(stream)
            return found
        shown = self._shown.get(stream)
        if shown is None:
            raise StoreError(404, "no such stream")
        task = self._loading.get(stream)
        if task is None:
            task = asyncio.ensure_future(asyncio.to_thread(self._read, stream, shown))
            self._loading[stream] = task
            task.add_done_callback(lambda done: self._arrived(stream, done))
        try:
            return await asyncio.shield(task)
        except MissingError:
            raise StoreError(404, "the recording is not in the store") from None
        except ObjectError as error:
            raise self._away(error) from None
        except ValueError as error:
            log.error("recording not readable: %s", error, extra={"stream": stream})
            raise StoreError(502, "the recording is damaged") from None

    def _read(self, stream: str, shown: Shown) -> _Loaded:
        data = self._objects.read(index_key(stream, shown.epoch, shown.revision))
        recording = Recording.from_json(data)
        objects = {path: (size, digest) for path, size, digest in recording.objects()}
        return _Loaded(recording, playlists_of(recording), objects)

    def _arrived(self, stream: str, done: asyncio.Task[_Loaded]) -> None:
        if self._loading.get(stream) is not done:
            return  # another one is shown by now
        del self._loading[stream]
        if done.cancelled() or done.exception() is not None:
            return
        self._loaded[stream] = done.result()
        self.counters["loads"] += 1
        while len(self._loaded) > 1 and self._segments > _SEGMENTS:
            self._loaded.popitem(last=False)

    @property
    def _segments(self) -> int:
        return sum(len(loaded.objects) for loaded in self._loaded.values())

    def _away(self, error: ObjectError) -> StoreError:
        self.counters["failed"] += 1
        log.warning("the permanent store is away: %s", error)
        return StoreError(503, "the permanent store is away")


def _type(recording: Recording, path: str) -> str:
    if path.endswith(".jpg"):
        return JPEG_TYPE
    sheet = recording.tracks[track_of(path)]
    return next(iter(sheet.inits.values())).rendition.content_type
