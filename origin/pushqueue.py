"""One POP's queue: ordered, bounded, and at the bound the oldest goes first.

Laws: each lane (one connection) is a FIFO; a track always has the same lane, so its order is kept.
Bounds are over all lanes, in bytes and items, and what is on the wire counts too. Beyond them whole
segments are dropped, the oldest first, the newest of a track last of all; the rest of a dropped
segment is not taken any more, and if a POP has some of it, it is told to forget it (it will pull).
Of a playlist at most two versions wait: the one next in turn, which keeps its place so that a slow
POP still gets playlists, and the newest. Counts close: enqueued = acknowledged + refused + dropped
+ superseded + lost + pending. Sans-IO; knows no clock but the times it is given.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from .model import PartObject, PlaylistVersion
from .pushwire import Pushed, Removal, size_of

SegmentKey = tuple[int, int]  # epoch in unix seconds, msn: grows along a track
TrackKey = tuple[str, str]


@dataclass(eq=False, slots=True, kw_only=True)
class Item:
    """What is to be sent. born_s, sent_s: monotonic times of its publication, and when it was
    written to the connection. epoch: of the timeline that it speaks of, "" for none."""

    what: Pushed
    stream: str
    lane: int
    born_s: float
    epoch: str = ""
    sent_s: float = 0.0
    serial: int = 0
    size: int = 0


def segment_key(part: PartObject) -> SegmentKey:
    return int(part.path.split("/")[3], 36), part.msn


class PushQueue:
    """`lanes` FIFOs under one bound."""

    def __init__(self, *, lanes: int, max_bytes: int, max_items: int) -> None:
        self._lanes: list[OrderedDict[int, Item]] = [OrderedDict() for _ in range(lanes)]
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._serial = 0
        self._parts: dict[TrackKey, dict[SegmentKey, list[Item]]] = {}
        self._playlists: dict[str, list[Item]] = {}
        # track -> (lane, segment): the one whose parts were sent last; the one not taken any more.
        self._begun: dict[TrackKey, tuple[int, SegmentKey]] = {}
        self._broken: dict[TrackKey, tuple[int, SegmentKey]] = {}
        self.counters: Counter[str] = Counter()
        self.queued = 0
        self.on_wire = 0
        self.bytes = 0

    @property
    def pending(self) -> int:
        return self.queued + self.on_wire

    # -- in

    def push(self, item: Item) -> None:
        """Take `item` at the end of its lane, and make room for it."""
        item.size = size_of(item.what)
        self.counters["enqueued"] += 1
        self.counters["enqueued_bytes"] += item.size
        if isinstance(item.what, PartObject):
            track, key = (item.stream, item.what.track), segment_key(item.what)
            if self._broken.get(track) == (item.lane, key):
                self._drop_count(item)
                return
            self._parts.setdefault(track, {}).setdefault(key, []).append(item)
        elif isinstance(item.what, PlaylistVersion):
            self._supersede(item)
        self._append(item)
        while self._full() and self._make_room(item):
            pass

    def _append(self, item: Item) -> None:
        self._serial += 1
        item.serial = self._serial
        self._lanes[item.lane][item.serial] = item
        self.queued += 1
        self.bytes += item.size

    def _supersede(self, item: Item) -> None:
        waiting = self._playlists.setdefault(item.what.path, [])
        if len(waiting) > 1:
            self._unqueue(waiting.pop())
            self.counters["superseded"] += 1
        waiting.append(item)

    def _full(self) -> bool:
        return self.bytes > self._max_bytes or self.pending > self._max_items

    # -- out

    def take(self, lane: int) -> Item | None:
        """The next item of `lane`, now on the wire until `settle` or `lose`."""
        if not self._lanes[lane]:
            return None
        _, item = self._lanes[lane].popitem(last=False)
        self.queued -= 1
        self.on_wire += 1
        if isinstance(item.what, PartObject):
            track = (item.stream, item.what.track)
            self._begun[track] = lane, segment_key(item.what)
        self._unlist(item)
        return item

    def settle(self, item: Item, *, accepted: bool) -> None:
        """The POP answered."""
        self.on_wire -= 1
        self.bytes -= item.size
        self.counters["acknowledged" if accepted else "refused"] += 1
        if accepted:
            self.counters["acknowledged_bytes"] += item.size

    def lose(self, lane: int, on_wire: list[Item]) -> list[Item]:
        """The connection is gone, and everything of its lane with it; the store has it all. Returns
        what was lost."""
        self.on_wire -= len(on_wire)
        self.bytes -= sum(item.size for item in on_wire)
        waiting = list(self._lanes[lane].values())
        for item in waiting:
            self._unqueue(item)
            self._unlist(item)
        for table in (self._begun, self._broken):
            for track in [track for track, (where, _) in table.items() if where == lane]:
                del table[track]
        self.counters["lost"] += len(on_wire) + len(waiting)
        return on_wire + waiting

    def forget(self, stream: str) -> None:
        """Nobody wants `stream` here any more; what is queued of it still goes."""
        for table in (self._begun, self._broken):
            for track in [track for track in table if track[0] == stream]:
                del table[track]

    def _unqueue(self, item: Item) -> None:
        del self._lanes[item.lane][item.serial]
        self.queued -= 1
        self.bytes -= item.size

    def _unlist(self, item: Item) -> None:
        """Out of the table that finds it for dropping."""
        if isinstance(item.what, PartObject):
            track, key = (item.stream, item.what.track), segment_key(item.what)
            self._parts[track][key].remove(item)
            if not self._parts[track][key]:
                del self._parts[track][key]
            if not self._parts[track]:
                del self._parts[track]
        elif isinstance(item.what, PlaylistVersion):
            self._playlists[item.what.path].remove(item)
            if not self._playlists[item.what.path]:
                del self._playlists[item.what.path]

    # -- at the bound

    def _make_room(self, newcomer: Item) -> bool:
        """Drop the oldest segment; False when there is nothing left that may go."""
        victim = self._oldest(spare_newest=True) or self._oldest(spare_newest=False)
        if victim is not None:
            self._drop_segment(*victim)
            return True
        # Only inits, playlists and removals: the first in line of the newcomer's lane goes, at last
        # the newcomer itself (everything else is on the wire).
        first = next(iter(self._lanes[newcomer.lane].values()), None)
        if first is None:
            return False
        self._unqueue(first)
        self._unlist(first)
        self._drop_count(first)
        return True

    def _oldest(self, *, spare_newest: bool) -> tuple[TrackKey, SegmentKey] | None:
        found = [
            (min(segments), segments[min(segments)][0].born_s, track)
            for track, segments in self._parts.items()
            if len(segments) > 1 or not spare_newest
        ]
        if not found:
            return None
        key, _, track = min(found, key=lambda each: each[1])
        return track, key

    def _drop_segment(self, track: TrackKey, key: SegmentKey) -> None:
        items = list(self._parts[track][key])
        for item in items:
            self._unqueue(item)
            self._unlist(item)
            self._drop_count(item)
        self.counters["dropped_segments"] += 1
        last = items[-1]
        if isinstance(last.what, PartObject) and not last.what.final:
            self._broken[track] = last.lane, key
        if self._begun.get(track) == (last.lane, key) and isinstance(last.what, PartObject):
            del self._begun[track]
            self.counters["enqueued"] += 1
            removal = Removal(last.what.segment_path)
            self._append(Item(what=removal, stream=last.stream, lane=last.lane, born_s=last.born_s))

    def _drop_count(self, item: Item) -> None:
        self.counters["dropped"] += 1
        self.counters["dropped_bytes"] += item.size
