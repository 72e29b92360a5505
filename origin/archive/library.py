"""Recordings as viewers get them: the playlists and objects of ended streams, from the store.

Laws: the newest recording of a stream has the names that it had live, and every recording has names
of its own, which stay (names.vod_path): the same below another prefix. A whole object is checked
against the digest in its recording, and a range of one is not. Recordings are
read and their playlists made on another thread, once, and the ones asked for last are kept: at most
`_SEGMENTS` segments of all (beyond it the oldest is forgotten). A store that is away is 503, what
it does not have 404, damaged bytes 502. Owner: the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..catalog import RecordingRow
from ..model import PlaylistVersion, digest_of
from ..names import vod_path
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


_Key = tuple[str, Shown]  # stream, and which recording of it


class Library:
    """Of `objects`; `show` says what stands under a stream's names, `find(stream, epoch)` what is
    known of one recording."""

    def __init__(self, objects: Objects, find: Callable[[str, str], RecordingRow | None]) -> None:
        self._objects = objects
        self._find = find
        self._shown: dict[str, Shown] = {}
        self._loaded: OrderedDict[_Key, _Loaded] = OrderedDict()  # asked for last at the end
        self._loading: dict[_Key, asyncio.Task[_Loaded]] = {}
        self.counters: Counter[str] = Counter()

    def show(self, stream: str, shown: Shown | None) -> None:
        """From now on `stream` is this recording; None: there is none any more."""
        if shown is None:
            self._shown.pop(stream, None)
        else:
            self._shown[stream] = shown

    def shown(self, stream: str) -> Shown | None:
        return self._shown.get(stream)

    async def recording(self, stream: str, epoch: str = "") -> Recording:
        """Without an epoch the one that is shown. Raises StoreError."""
        return (await self._load(self._key(stream, epoch))).recording

    async def playlist(
        self, path: str, want: Want, *, gzip: bool
    ) -> tuple[PlaylistVersion, Variant]:
        """Raises StoreError."""
        key, path = self._named(path)
        version = (await self._load(key)).playlists.get(path)
        if version is None:
            raise StoreError(404, "no such playlist")
        return version, Variant.choose(version, want, gzip=gzip)

    async def fetch(self, path: str) -> StoredObject:
        """What is known of the object at `path`; `read` has its bytes. Raises StoreError."""
        key, path = self._named(path)
        loaded = await self._load(key)
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

    def _named(self, path: str) -> tuple[_Key, str]:
        """Which recording a path on the wire is of, and what it is called there: as it was live.
        Raises StoreError."""
        _, kind, stream, *rest = f"{path}//".split("/")
        if kind == "vod":
            within = path.removeprefix(vod_path(stream, rest[0]))
            return self._key(stream, rest[0]), f"/live/{stream}/{within}"
        return self._key(stream), path

    def _key(self, stream: str, epoch: str = "") -> _Key:
        """Raises StoreError."""
        if not epoch:
            shown = self._shown.get(stream)
        else:
            row = self._find(stream, epoch)
            shown = Shown(epoch, row.revision) if row else None
        if shown is None:
            raise StoreError(404, "no such recording" if epoch else "no such stream")
        return stream, shown

    async def _load(self, key: _Key) -> _Loaded:
        """Once for all who ask at the same time."""
        if found := self._loaded.get(key):
            self._loaded.move_to_end(key)
            return found
        task = self._loading.get(key)
        if task is None:
            task = asyncio.ensure_future(asyncio.to_thread(self._read, *key))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._arrived(key, done))
        try:
            return await asyncio.shield(task)
        except MissingError:
            raise StoreError(404, "the recording is not in the store") from None
        except ObjectError as error:
            raise self._away(error) from None
        except ValueError as error:
            log.error("recording not readable: %s", error, extra={"stream": key[0]})
            raise StoreError(502, "the recording is damaged") from None

    def _read(self, stream: str, shown: Shown) -> _Loaded:
        data = self._objects.read(index_key(stream, shown.epoch, shown.revision))
        recording = Recording.from_json(data)
        objects = {path: (size, digest) for path, size, digest in recording.objects()}
        return _Loaded(recording, playlists_of(recording), objects)

    def _arrived(self, key: _Key, done: asyncio.Task[_Loaded]) -> None:
        del self._loading[key]
        if done.cancelled() or done.exception() is not None:
            return
        self._loaded[key] = done.result()
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
