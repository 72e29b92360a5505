"""Publications made by hand, for tests of what stores, pushes and serves them."""

from __future__ import annotations

import gzip
import threading

import xxhash

from origin import names
from origin.disk import Disk, _Job
from origin.model import (
    AUDIO_TYPE,
    MPD_TYPE,
    PLAYLIST_TYPE,
    VIDEO_TYPE,
    MediaObject,
    PartObject,
    PlaylistVersion,
    Publication,
    digest_of,
)
from origin.store import Store

CACHE = "public, max-age=31536000, immutable"


def body_of(path: str, size: int = 64) -> bytes:
    """Bytes that belong to `path` only."""
    return (path.encode() * (size // len(path) + 1))[:size]


class HandMade:
    """One stream; each call gives the next publications of a track, in truth order."""

    def __init__(
        self,
        stream: str = "cam",
        *,
        epoch: str = "abc",
        first_msn: int = 10,
        parts: int = 3,
        size: int = 64,
        ttl_ms: int = 60_000,
        hold_ms: int = 6_000,
    ) -> None:
        self.stream = stream
        self.epoch = epoch
        self.parts = parts
        self.size = size
        self.ttl_ms = ttl_ms
        self.hold_ms = hold_ms
        self._at: dict[str, tuple[int, int]] = {}
        self._segment: dict[str, bytes] = {}
        self._first = first_msn

    def init(self, track: str) -> MediaObject:
        path = names.init_path(self.stream, self.epoch, track, 0)
        body = body_of(path)
        return MediaObject(
            path=path,
            body=body,
            digest=digest_of(body),
            content_type="video/mp4",
            cache_control=CACHE,
            ttl_ms=self.ttl_ms,
        )

    def part(self, track: str) -> PartObject:
        msn, index = self._at.get(track, (self._first, 0))
        final = index == self.parts - 1
        path = names.part_path(self.stream, self.epoch, track, msn, index)
        body = body_of(path, self.size)
        before = self._segment.get(track, b"")
        self._segment[track] = b"" if final else before + body
        self._at[track] = (msn + 1, 0) if final else (msn, index + 1)
        return PartObject(
            path=path,
            body=body,
            digest=digest_of(body),
            content_type=AUDIO_TYPE if track == "audio" else VIDEO_TYPE,
            cache_control=CACHE,
            ttl_ms=self.ttl_ms,
            segment_path=names.segment_path(self.stream, self.epoch, track, msn),
            offset=len(before),
            final=final,
            segment_digest=xxhash.xxh3_128_hexdigest(before + body) if final else None,
            duration_s=1 / 3,
            independent=index == 0,
            track=track,
            msn=msn,
            index=index,
        )

    def version(self, track: str, *, ended: bool = False) -> PlaylistVersion:
        """The playlist as of the parts made so far."""
        msn, parts = self._at.get(track, (self._first, 0))
        if ended:
            msn, parts = msn + 1, 0
        full = f"#EXTM3U\n# {self.stream}/{track} {msn}.{parts}\n".encode()
        delta = f"#EXTM3U\n#EXT-X-SKIP {msn}.{parts}\n".encode()
        return PlaylistVersion(
            path=names.media_path(self.stream, track),
            msn=msn,
            parts=parts,
            last_parts=self.parts if msn > self._first else 0,
            hold_ms=self.hold_ms,
            advance=self.parts + 6,
            ended=ended,
            ttl_ms=self.hold_ms,
            cache_control="public, max-age=1",
            full=full,
            full_gzip=gzip.compress(full, mtime=0),
            delta=None if ended else delta,
            delta_gzip=None if ended else gzip.compress(delta, mtime=0),
        )

    def multivariant(self) -> PlaylistVersion:
        path = names.multivariant_path(self.stream)
        return self._value(path, PLAYLIST_TYPE, f"#EXTM3U\n# all of {self.stream}\n")

    def mpd(self, revision: int = 1) -> PlaylistVersion:
        text = f"<MPD revision='{revision}'/>"
        return self._value(names.mpd_path(self.stream), MPD_TYPE, text, revision)

    def _value(self, path: str, content_type: str, text: str, revision: int = 1) -> PlaylistVersion:
        full = text.encode()
        return PlaylistVersion(
            path=path,
            msn=revision,
            parts=0,
            last_parts=0,
            hold_ms=0,
            advance=0,
            ended=False,
            ttl_ms=6_000,
            cache_control="public, max-age=1",
            content_type=content_type,
            full=full,
            full_gzip=gzip.compress(full, mtime=0),
        )

    def step(self, *tracks: str) -> list[Publication]:
        """One part of each track, and the playlist that names it."""
        return [item for track in tracks for item in (self.part(track), self.version(track))]

    def segment(self, *tracks: str) -> list[Publication]:
        """One whole segment of each track."""
        return [item for _ in range(self.parts) for item in self.step(*tracks)]

    def opening(self, *tracks: str) -> list[Publication]:
        """Inits, one segment of each track, and the multivariant playlist."""
        return [*map(self.init, tracks), *self.segment(*tracks), self.multivariant()]


def fill(store: Store, items: list[Publication], stream: str = "cam") -> None:
    for item in items:
        store.add(stream, item)


def flush(disk: Disk) -> None:
    """Wait until everything that was queued for the disk has been done."""
    done = threading.Event()
    disk._queue(_Job(done.set))
    assert done.wait(5)
