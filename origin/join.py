"""The tracks of one broadcast, each by itself -> one FLV stream. Sans-IO.

Laws: what leaves is in the order of the media timeline, the best picture and one sound; the other
tracks of a switching set are left out, since one ladder is made of the best, and stand in for it
from their next key frame on. The first `gather_s` are for tracks to come, and longer for
those that have begun. A frame waits for the other kind for `wait_s` at most; a track that kept
one waiting that long is waited for no more until it sends again. A frame that was sent before is
dropped; one that goes back otherwise, or too far ahead of the other kind (`apart_ms`), begins a new
timeline, which the broker evens out. Bounds: tracks; what waits is bytes that the caller bounds by
`waiting_bytes`. Every frame that comes in is joined, waiting, or counted in `dropped`. Never raises
on media. Does not know sockets or requests.
"""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from edgecache.flv import AUDIO, HEADER, SCRIPT, VIDEO, encode_tag

from .cmaf import Frame
from .cmaftags import Tags, metadata

MAX_TRACKS: Final = 16
_REMEMBERED: Final = 2048  # frames of a track, to know what is sent again
# Time stamps of FLV have no sign, and priming begins before zero.
_ZERO_MS: Final = 10_000
_AFTER: Final = "left_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """begin_s: for the first frames of a kind that has been announced, less than the silence that
    a publisher may keep. wait_s: longer than publishers of whole segments need between a segment of
    picture and its sound."""

    gather_s: float = 0.5
    begin_s: float = 8.0
    wait_s: float = 3.0
    apart_ms: int = 10_000


class _Waiting(NamedTuple):
    ms: int
    came_s: float
    fps: float
    tags: Tags
    body: bytes


@dataclass(eq=False, slots=True)
class _Track:
    name: str
    tags: Tags
    queue: deque[_Waiting] = field(default_factory=deque)
    recent: OrderedDict[int, int] = field(default_factory=OrderedDict)  # ms -> checksum
    newest_ms: int | None = None
    sent_bytes: int = 0  # to us, for its rate
    frames: int = 0
    leads_s: float | None = None  # since when it has been ahead of the one that is sent
    missed: bool = False  # it kept others waiting
    ended: bool = False

    @property
    def away(self) -> bool:
        """Nothing is to be expected of it now."""
        return not self.queue and (self.missed or self.ended or not self.frames)

    def rank(self, current: _Track | None) -> tuple[bool, int, bool, float]:
        width, height = self.tags.size
        rate = self.sent_bytes / max(1, self.frames)
        return not self.away, width * height, self is current, rate


class _Kind:
    """The tracks of picture, or of sound: one is sent, another may be about to take its place."""

    def __init__(self) -> None:
        self.sent: _Track | None = None
        self.coming: _Track | None = None

    def choose(self, tracks: list[_Track]) -> _Track | None:
        """Which one is to be sent; returns the one that was about to be, and is not any more."""
        before, best = self.coming, max(tracks, key=lambda one: one.rank(self.sent), default=None)
        self.coming = best if best is not self.sent else None
        return before if before is not self.coming and before is not self.sent else None

    def head(self) -> _Track | None:
        """The track whose first frame is next, once the one that comes has one to begin with."""
        sent, coming = self.sent, self.coming
        if coming is None or not coming.queue:
            return sent if sent is not None and sent.queue else None
        if sent is not None and sent.queue and sent.queue[0].ms < coming.queue[0].ms:
            return sent
        return coming


class Join:
    """begin(), add() and end() by track, as requests bring it; then take() what is ready, by
    `due_s` at the latest. Times are monotonic, in seconds."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._tracks: dict[str, _Track] = {}
        self._kinds = {VIDEO: _Kind(), AUDIO: _Kind()}
        self._told: dict[int, Tags] = {}  # the configuration that was sent last
        self._out: list[bytes] = []
        self._since_s: float | None = None  # the first frame
        self._begun = False
        self._received = self._joined = 0
        self.waiting_bytes = 0
        self.dropped: Counter[str] = Counter()

    # -- what comes

    def knows(self, name: str) -> bool:
        return name in self._tracks

    def header(self, name: str) -> bytes:
        """The init section that a track's frames are read with."""
        return self._tracks[name].tags.init.body

    def begin(self, name: str, tags: Tags) -> bool:
        """A track's init section, a new one or again. False: not taken, for there are as many
        tracks as there may be, or the track is of the other kind."""
        track = self._tracks.get(name)
        if track is None:
            if len(self._tracks) < MAX_TRACKS:
                self._tracks[name] = _Track(name, tags)
            return name in self._tracks
        if track.tags.kind == tags.kind and track.tags.init.body != tags.init.body:
            track.tags = tags
        return track.tags.kind == tags.kind

    def add(self, name: str, frame: Frame, now_s: float) -> None:
        """A frame of a track that has begun."""
        track = self._tracks[name]
        self._received += 1
        if self._since_s is None:
            self._since_s = now_s
        ms, tags = track.tags.at_ms(frame), track.tags
        if self._again(track, ms, frame.data):
            self.dropped["again"] += 1
            return
        track.missed = track.ended = False
        track.frames += 1
        track.sent_bytes += len(frame.data)
        if self._begun and (why := self._unwanted(track, ms, frame.sync, now_s)):
            self.dropped[why] += 1
            return
        track.queue.append(_Waiting(ms, now_s, tags.fps(frame), tags, tags.body(frame)))
        self.waiting_bytes += len(track.queue[-1].body)

    def _unwanted(self, track: _Track, ms: int, sync: bool, now_s: float) -> str:
        """Why a frame of this track is not to be sent; "" if it is."""
        number = track.tags.kind
        kind = self._kinds[number]
        self._choose(number)
        if track is kind.sent:
            return ""
        behind = kind.sent
        if behind is None or behind.newest_ms is None or ms <= behind.newest_ms:
            track.leads_s = None
        elif track.leads_s is None:
            track.leads_s = now_s
        elif now_s - track.leads_s >= self._limits.wait_s:
            behind.missed = True
            self._choose(number)
        if track is not kind.coming:
            return _AFTER
        return "" if sync or track.queue else "before_keyframe"

    def end(self, name: str) -> None:
        """The track says that it is over; it may begin again."""
        if name in self._tracks:
            self._tracks[name].ended = True
            self._tracks[name].recent.clear()

    def close(self) -> None:
        """Nothing is taken any more."""
        for track in self._tracks.values():
            self._clear(track, "unsent")

    @property
    def ended(self) -> bool:
        """Have all tracks said so?"""
        return bool(self._tracks) and all(track.ended for track in self._tracks.values())

    # -- what leaves

    def take(self, now_s: float, *, last: bool = False) -> bytes:
        """FLV bytes, b"" if nothing is ready. last: nothing more comes, so wait for nothing."""
        if not self._begun:
            begins_s = self._begins_s()
            if begins_s is None or (now_s < begins_s and not last):
                return b""
            self._start()
        while (track := self._next(now_s, last)) is not None:
            self._send(track)
        out, self._out = self._out, []
        return b"".join(out)

    def due_s(self) -> float | None:
        """When take() may have something, though nothing comes; None: never."""
        if not self._begun:
            return self._begins_s()
        heads = [track.queue[0] for track in self._sendable()]
        return min(head.came_s for head in heads) + self._limits.wait_s if heads else None

    def counts(self) -> Counter[str]:
        """received = joined + dropped + waiting."""
        waiting = sum(len(track.queue) for track in self._tracks.values())
        told = {"received": self._received, "joined": self._joined, "waiting": waiting}
        told |= {f"dropped.{why}": count for why, count in self.dropped.items()}
        return Counter({f"joins.{name}": count for name, count in told.items()})

    def describe(self) -> dict[str, str]:
        """What each track is, and what becomes of it."""
        return {name: f"{_what(one)}, {self._state(one)}" for name, one in self._tracks.items()}

    # -- inside

    def _again(self, track: _Track, ms: int, data: bytes) -> bool:
        """Has the very frame come before? What goes back further than that begins anew."""
        check, recent = zlib.crc32(data), track.recent
        if recent.get(ms) == check:
            return True
        if track.newest_ms is not None and ms < track.newest_ms:
            recent.clear()
        recent[ms], track.newest_ms = check, ms
        while len(recent) > _REMEMBERED or next(iter(recent)) < ms - self._limits.apart_ms:
            recent.popitem(last=False)
        return False

    def _begins_s(self) -> float | None:
        """When the first frames leave: each track that has begun is waited for as in the middle of
        a broadcast, and longer if nothing of its kind has come."""
        if self._since_s is None:
            return None
        limits, lacking = self._limits, [one for one in self._tracks.values() if not one.queue]
        there = {one.tags.kind for one in self._tracks.values() if one.queue}
        if any(one.tags.kind not in there for one in lacking):
            return self._since_s + limits.begin_s
        return self._since_s + (limits.wait_s if lacking else limits.gather_s)

    def _start(self) -> None:
        """The tracks that came in time are all that is chosen from; others may come later."""
        self._begun = True
        self._out.append(HEADER)
        for number, kind in self._kinds.items():
            self._choose(number)
            kind.sent, kind.coming = kind.coming, None
        for track in self._tracks.values():
            if track is not self._kinds[track.tags.kind].sent:
                self._clear(track)
        self._tell()

    def _tell(self) -> None:
        sent = {kind: self._kinds[kind].sent for kind in (VIDEO, AUDIO)}
        tags = {kind: track.tags for kind, track in sent.items() if track is not None}
        pictures = sent[VIDEO].queue if sent[VIDEO] else ()
        fps = pictures[0].fps if pictures else 0.0
        body = metadata(tags.get(VIDEO), tags.get(AUDIO), fps)
        self._out.append(encode_tag(SCRIPT, 0, body))

    def _choose(self, kind: int) -> None:
        of_it = [track for track in self._tracks.values() if track.tags.kind == kind]
        if (given_up := self._kinds[kind].choose(of_it)) is not None:
            self._clear(given_up)

    def _sendable(self) -> list[_Track]:
        return [track for kind in self._kinds.values() if (track := kind.head()) is not None]

    def _next(self, now_s: float, last: bool) -> _Track | None:
        """The track whose first frame is to leave now."""
        heads = sorted(self._sendable(), key=lambda track: track.queue[0].ms)
        if not heads:
            return None
        first, other = heads[0], heads[-1]
        if first is not other:
            apart = other.queue[0].ms - first.queue[0].ms > self._limits.apart_ms
            overdue = now_s - other.queue[0].came_s >= self._limits.wait_s
            return other if apart and overdue else first
        overdue = last or now_s - first.queue[0].came_s >= self._limits.wait_s
        for kind in self._kinds.values():
            awaited = kind.sent
            if awaited is None or awaited is first or awaited.queue or awaited.away:
                continue
            past = awaited.newest_ms is not None and first.queue[0].ms <= awaited.newest_ms
            if past or first.tags.kind == awaited.tags.kind:
                continue
            if not overdue:
                return None
            awaited.missed = True
        return first

    def _send(self, track: _Track) -> None:
        number = track.tags.kind
        kind = self._kinds[number]
        if track is kind.coming:
            if kind.sent is not None:
                self._clear(kind.sent)
            kind.sent, kind.coming = track, None
            self._tell()
        frame = track.queue.popleft()
        self.waiting_bytes -= len(frame.body)
        at = frame.ms + _ZERO_MS & 0xFFFFFFFF
        if self._told.get(number) is not frame.tags:
            self._told[number] = frame.tags
            self._out.append(encode_tag(number, at, frame.tags.config))
        self._out.append(encode_tag(number, at, frame.body))
        self._joined += 1

    def _clear(self, track: _Track, why: str = _AFTER) -> None:
        if track.queue:
            self.dropped[why] += len(track.queue)
        self.waiting_bytes -= sum(len(frame.body) for frame in track.queue)
        track.queue.clear()

    def _state(self, track: _Track) -> Literal["sent", "left out", "late", "ended"]:
        if track.ended:
            return "ended"
        if track.missed:
            return "late"
        kind = self._kinds[track.tags.kind]
        return "sent" if track is kind.sent or track is kind.coming else "left out"


def _what(track: _Track) -> str:
    init = track.tags.init
    width, height = track.tags.size
    return f"{init.codec} {width}x{height}" if width else init.codec
