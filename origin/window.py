"""One stream's live window: its objects, its playlists' newest versions, and signals for those who
wait.

Laws: plain values of one thread; nothing here waits by itself. Media is evicted by
age while the stream is live, segments that are still listed (DVR) into `archive`, where they are
names of files; it stays when the stream has ended (the final playlists name it). A new epoch
starts a new order of versions. Does not know: disks, HTTP, counters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from .model import Hops, MediaObject, PartObject, PlaylistVersion, Publication
from .names import is_newer, media_path, part_path, relative, segment_path
from .signals import Signal

_AHEAD: Final = 4  # segments that are waited for; as an edge does (control/policy.py)


def track_of(path: str) -> str:
    """The track a path belongs to: `/live/s/360p.m3u8`, `/live/s/360p.iframes.m3u8` and
    `/live/s/{epoch}/360p/7.m4s` are of `360p`; what is of no track is one of its own: `master`."""
    pieces = path.split("/")
    return pieces[4] if len(pieces) > 5 else pieces[-1].partition(".")[0]


def is_part(path: str) -> bool:
    """`…/7.2.m4s` is a part, `…/7.m4s` and `…/init0.mp4` are not."""
    return path.rpartition("/")[2].count(".") > 1


@dataclass(eq=False, slots=True, kw_only=True)
class StoredObject:
    """Bytes behind a path: in `chunks`, or in `file` once they are out of the live window. `digest`
    is "" while it grows.

    size: bytes so far. expires_s: monotonic. parts: what a segment was made of.
    """

    path: str
    content_type: str
    cache_control: str
    expires_s: float
    digest: str = ""
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    file: Path | None = None
    hops: Hops | None = None
    parts: list[PartObject] = field(default_factory=list)
    grown: Signal = field(default_factory=Signal)

    @property
    def complete(self) -> bool:
        return bool(self.digest)

    @classmethod
    def of(cls, item: MediaObject, expires_s: float) -> Self:
        return cls(
            path=item.path,
            content_type=item.content_type,
            cache_control=item.cache_control,
            expires_s=expires_s,
            digest=item.digest,
            chunks=[item.body],
            size=len(item.body),
            hops=item.hops,
        )

    def slice(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of what is in memory."""
        found = bytearray()
        at = 0
        for chunk in self.chunks:
            if at < stop and at + len(chunk) > start:
                found += memoryview(chunk)[max(0, start - at) : stop - at]
            at += len(chunk)
        return bytes(found)

    def move_to(self, file: Path) -> None:
        """The same bytes are in `file`; let go of the memory."""
        self.file, self.chunks, self.parts = file, [], []


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """The delivery directives of a playlist request (RFC 8216bis 6.2.5). v2: what is skipped
    includes dates."""

    msn: int | None = None
    part: int | None = None
    skip: bool = False
    v2: bool = False

    def satisfied(self, version: PlaylistVersion) -> bool:
        """Part N of M with N past the end of M is part 0 of M+1; after ENDLIST nothing is waited
        for."""
        if self.msn is None or version.hold_ms == 0 or version.ended:
            return True
        if self.part is None:
            return self.msn < version.msn
        if self.msn + 1 < version.msn:
            return True
        if self.msn + 1 == version.msn:
            return self.part < version.last_parts or version.parts > 0
        return self.msn == version.msn and self.part < version.parts

    def too_far(self, version: PlaylistVersion) -> bool:
        """Further ahead than a server has to hold: more than two past the last segment (msn - 1),
        or past the Advance Part Limit. The same arithmetic as the edge's native/live.pxd."""
        if self.satisfied(version) or self.msn is None:
            return False
        if self.msn > version.msn + 1:
            return True
        if self.part is None or not version.advance or self.msn < version.msn:
            return False
        span = version.last_parts or 1
        ahead = (self.msn - version.msn) * span + self.part + 1
        return ahead > version.parts + version.advance


@dataclass(frozen=True, slots=True)
class Variant:
    """The bytes of one rendering of a playlist version."""

    body: bytes
    gzip: bool

    @classmethod
    def choose(cls, version: PlaylistVersion, want: Want, *, gzip: bool) -> Self:
        """The best on offer for what was accepted. A playlist with ENDLIST is never a delta
        (6.2.5.1)."""
        offered: list[tuple[bytes | None, bytes | None]] = [(version.full, version.full_gzip)]
        if want.skip and not version.ended:
            offered.append((version.delta, version.delta_gzip))
            if want.v2:
                offered.append((version.delta2, version.delta2_gzip))
        plain, packed = next(each for each in reversed(offered) if each[0] is not None)
        if gzip and packed is not None:
            return cls(packed, True)
        return cls(plain or b"", False)


class PlaylistSlot:
    """The newest version of one playlist and those who wait for a newer one."""

    __slots__ = ("changed", "newest", "restarted")

    def __init__(self, version: PlaylistVersion) -> None:
        self.newest = version
        self.changed = Signal()
        self.restarted = False  # a new epoch began: whatever comes next is newer

    def publish(self, version: PlaylistVersion) -> bool:
        """False when `version` is not newer than what is held."""
        held = self.newest
        newer = (
            self.restarted
            or held.hold_ms == 0
            or (not held.ended and (version.ended or version.version > held.version))
        )
        if newer:
            self.newest = version
            self.restarted = False
            self.changed.fire()
        return newer


class Window:
    """Everything of one stream, of its newest epoch and what is left of the one before."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.epoch = ""  # of what is made now
        self.epochs: set[str] = set()  # of what is listed
        self.made = ""  # of the newest media that has come
        self.ended = False
        self.objects: dict[str, StoredObject] = {}  # parts and segments, oldest first
        self.archive: dict[str, StoredObject] = {}  # segments that are on disk only, oldest first
        self.inits: dict[str, tuple[MediaObject, StoredObject]] = {}
        self.playlists: dict[str, PlaylistSlot] = {}
        self._segments: dict[str, list[StoredObject]] = {}  # track -> oldest first
        self._hints: dict[str, tuple[int, int]] = {}  # track -> (msn, index) of the next part
        self._hint_signals: dict[str, Signal] = {}

    @property
    def memory_bytes(self) -> int:
        whole = (segment.size for track in self._segments.values() for segment in track
                 if segment.file is None)  # fmt: skip
        return sum(whole) + sum(len(item.body) for item, _ in self.inits.values())

    def find(self, path: str) -> StoredObject | None:
        if path in self.inits:
            return self.inits[path][1]
        return self.objects.get(path) or self.archive.get(path)

    # -- feeding

    def start_epoch(self, epoch: str, linger_until_s: float) -> None:
        """A new timeline: its versions count afresh; media of the one before goes at
        `linger_until_s`."""
        self.epoch, self.epochs = epoch, {epoch}
        self.ended = False
        self._hints.clear()
        self._segments.clear()
        for slot in self.playlists.values():
            slot.restarted = True
        self.objects |= {path: stored for path, (_, stored) in self.inits.items()}
        self.inits.clear()
        for stored in (*self.archive.values(), *self.objects.values()):
            stored.expires_s = linger_until_s

    def add_init(self, item: MediaObject) -> StoredObject:
        stored = StoredObject.of(item, float("inf"))
        self.inits[item.path] = (item, stored)
        self._made(item.path)
        self.hint_signal(track_of(item.path)).fire()
        return stored

    def add_part(self, item: PartObject, expires_s: float) -> StoredObject | None:
        """The segment that `item` belongs to, grown by it; None when it does not follow on."""
        segment = self.objects.get(item.segment_path)
        if segment is None:
            if item.offset:
                return None
            segment = self._open_segment(item, expires_s)
        if segment.complete or segment.size != item.offset:
            return None
        self.objects[item.path] = StoredObject.of(item, expires_s)
        segment.chunks.append(item.body)
        segment.parts.append(item)
        segment.size += len(item.body)
        segment.expires_s = expires_s
        if item.final:
            segment.digest = item.segment_digest or ""
        segment.grown.fire()
        self._move_hint(item.track, (item.msn + 1, 0) if item.final else (item.msn, item.index + 1))
        return segment

    def _open_segment(self, item: PartObject, expires_s: float) -> StoredObject:
        segment = self.objects[item.segment_path] = StoredObject(
            path=item.segment_path,
            content_type=item.content_type,
            cache_control=item.cache_control,
            expires_s=expires_s,
        )
        self._segments.setdefault(item.track, []).append(segment)
        self._made(item.path)
        return segment

    def _made(self, path: str) -> None:
        epoch = path.split("/")[3]
        if is_newer(epoch, self.made):
            self.made = epoch

    def publish(self, version: PlaylistVersion) -> bool:
        """False when the version is not newer. The stream has ended when all its playlists that can
        are ended."""
        slot = self.playlists.get(version.path)
        if slot is None:
            self.playlists[version.path] = PlaylistSlot(version)
        elif not slot.publish(version):
            return False
        if version.hold_ms or version.ended:
            track = track_of(version.path)
            if version.ended:
                self._end_hint(track)
            elif (version.msn, version.parts) > self._hints.get(
                track, (version.msn, version.parts)
            ):
                self._move_hint(track, (version.msn, version.parts))
        return True

    def settle(self) -> bool:
        """True once, when every media playlist of this epoch has its ENDLIST."""
        media = [slot for slot in self.playlists.values() if slot.newest.hold_ms]
        over = bool(media) and all(slot.newest.ended and not slot.restarted for slot in media)
        first, self.ended = over and not self.ended, over
        return first

    # -- hints

    def hinted(self, path: str) -> bool:
        """Is `path` the next part of its track (RFC 8216bis 4.4.5.3) or the init section that its
        playlist hints at, or a segment to come? An MPD says when that is due and players ask on the
        dot, however late the encoder is."""
        track = track_of(path)
        if track not in self._hints:
            return False
        slot = self.playlists.get(media_path(self.stream, track))
        uri = relative(self.stream, path)
        if slot is not None and f'TYPE=MAP,URI="{uri}"'.encode() in slot.newest.full:
            return True
        msn, index = self._hints[track]
        if path == part_path(self.stream, self.epoch, track, msn, index):
            return True
        due = range(msn + (index > 0), msn + _AHEAD + 1)
        return any(path == segment_path(self.stream, self.epoch, track, n) for n in due)

    def hint_signal(self, track: str) -> Signal:
        return self._hint_signals.setdefault(track, Signal())

    def _move_hint(self, track: str, hint: tuple[int, int]) -> None:
        self._hints[track] = hint
        self.hint_signal(track).fire()

    def _end_hint(self, track: str) -> None:
        self._hints.pop(track, None)
        self.hint_signal(track).fire()

    # -- ageing

    def evict(self, now: float) -> list[StoredObject]:
        """Forget media whose time is over; what is left of segments that nobody completes goes with
        it."""
        gone: list[StoredObject] = []
        while not self.ended and self.objects:
            path, stored = next(iter(self.objects.items()))
            if stored.expires_s > now:
                break
            del self.objects[path]
            stored.grown.close()
            gone.append(stored)
        if gone:
            lost = {id(stored) for stored in gone}
            for track, segments in self._segments.items():
                self._segments[track] = [kept for kept in segments if id(kept) not in lost]
        return gone

    def keep(self, stored: StoredObject, file: Path, expires_s: float) -> None:
        """A segment that was evicted is listed still, and is read from `file` until `expires_s`."""
        stored.move_to(file)
        stored.expires_s = expires_s
        self.archive[stored.path] = stored

    def expire(self, now: float) -> list[StoredObject]:
        """Forget files whose time is over."""
        gone: list[StoredObject] = []
        while not self.ended and self.archive:
            path, stored = next(iter(self.archive.items()))
            if stored.expires_s > now:
                break
            gone.append(self.archive.pop(path))
        return gone

    def to_files(self, files: Iterable[tuple[str, Path]]) -> None:
        """The bytes of these segments are on disk now; parts are no longer listed, so they go."""
        for path, file in files:
            segment = self.objects.get(path) if self.ended else None
            if segment is None:
                continue
            for part in segment.parts:
                self.objects.pop(part.path, None)
            segment.move_to(file)

    def close(self) -> None:
        """Release everybody who waits for something of this stream."""
        for slot in self.playlists.values():
            slot.changed.close()
        for signal in self._hint_signals.values():
            signal.close()
        for stored in self.objects.values():
            stored.grown.close()

    # -- back-fill

    def backfill(self, count: int) -> list[Publication]:
        """Inits, the newest `count` segments of every track newest first, media playlists, then
        what names those."""
        found: list[Publication] = [item for item, _ in self.inits.values()]
        for age in range(1, count + 1):
            for segments in self._segments.values():
                if age <= len(segments):
                    found += segments[-age].parts
        current = [slot.newest for slot in self.playlists.values() if not slot.restarted]
        return found + sorted(current, key=lambda version: version.hold_ms == 0)
