"""Pushing to one POP: everything of the streams it wants, as it is made, over a few connections.

Laws: `publish` never waits and never raises. A track stays on one connection, because the order on
a connection is the order of truth; tracks are spread over them. A connection that comes up first
gives the POP what it needs to start (back-fill from the store: inits, newest segments first,
playlists), then everything as it is made. A POP that is away has no queue: its queue is the store.
Refusals (409, 422 ...) are counted and logged, never sent again: the POP can pull. Reconnects back
off with jitter. Bounds: pushqueue.py and pushlink.py; a silent POP is cut after `timeout_s`. Does
not know: who subscribes and why (subscriptions.py), what media is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from edgecache.histogram import Histogram

from .config import Config
from .ledger import Recent
from .model import PartObject, PlaylistVersion, Publication
from .pushlink import Link
from .pushqueue import Item, PushQueue
from .pushwire import Removal, Sign, render
from .wanted import Wanted
from .window import track_of

log = logging.getLogger(__name__)

_CONNECT_S: Final = 5.0
_BACKOFF_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
_QUIET_S: Final = 10.0  # between two log lines about refusals of one status
_LATER: Final = frozenset({401, 403, 503})  # nothing will be taken now: leave it alone
_SUPERSEDED: Final = 412

Backfill = Callable[[str], list[Publication]]
Gone = Callable[[], list[tuple[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one POP's pusher: bytes, items, connections, requests on a connection, seconds."""

    queue_bytes: int
    queue_items: int
    connections: int
    pipeline: int
    timeout_s: float


def limits_of(config: Config) -> Limits:
    push = config.push
    return Limits(
        queue_bytes=push.queue_bytes,
        queue_items=push.queue_items,
        connections=push.connections,
        pipeline=push.pipeline,
        timeout_s=push.timeout / 1000,
    )


class PopPusher:
    """Pushes to the POP at `url`. `backfill(stream)` says what a newcomer needs, in order;
    `continues(stream)`, whether its playlists go on from what another process has pushed;
    `epoch(stream)`, which timeline they are of, and `superseded(stream, epoch)` is called when the
    POP has a newer one; `gone()`, what it must forget, should it have been away: (stream, path) of
    what was deleted."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        sign: Sign,
        backfill: Backfill,
        limits: Limits,
        continues: Callable[[str], bool] = lambda _stream: False,
        epoch: Callable[[str], str] = lambda _stream: "",
        superseded: Callable[[str, str], None] = lambda _stream, _epoch: None,
        gone: Gone = list,
    ) -> None:
        parts = urlsplit(url)
        self.name = name
        self.url = url
        self._address = parts.hostname or "", parts.port or 80
        self._host = parts.netloc
        self._sign = sign
        self._backfill = backfill
        self._continues = continues
        self._epoch = epoch
        self._superseded = superseded
        self._gone = gone
        self._forgotten: set[str] = set()  # of `gone`, what this POP has acknowledged
        self._limits = limits
        self._queue = PushQueue(
            lanes=limits.connections, max_bytes=limits.queue_bytes, max_items=limits.queue_items
        )
        self._links: list[Link | None] = [None] * limits.connections
        self._lanes: dict[tuple[str, str], int] = {}
        self._streams: dict[str, Wanted] = {}
        self._playlists: dict[str, bool] = {}  # path that the POP has -> has it ENDLIST?
        self._now = time.monotonic  # a loop's clock stands still within one turn
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()  # nothing is pending
        self._idle.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._quiet_until: dict[int, float] = {}
        self.latency = Histogram()
        # of parts: "queue", until written to the connection; "push", until acknowledged
        self.hops = {"queue": Histogram(), "push": Histogram()}
        self._recent = Recent()
        self.statuses: Counter[int] = Counter()
        self.counters: Counter[str] = self._queue.counters

    # -- control

    def start(self) -> None:
        """Needs a running loop; connections are made once a stream is wanted."""
        self._tasks = [
            asyncio.create_task(self._keep(lane), name=f"push-{self.name}-{lane}")
            for lane in range(self._limits.connections)
        ]

    async def stop(self, drain_s: float = 0.0) -> None:
        """Give what is queued `drain_s` to be acknowledged, then close. Idempotent."""
        await self.settled(drain_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def settled(self, within_s: float) -> None:
        """Until all that is queued has been acknowledged, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()

    def subscribe(self, stream: str, tracks: Iterable[str] | None = None) -> None:
        """From now on `stream` goes to this POP, of its parts those of `tracks` (None: all; see
        wanted.py); it gets the live window first, and so does a track that is added later."""
        known = self._streams.get(stream)
        if known is None:
            self._streams[stream] = Wanted(stream, tracks)
            self._wanted.set()
            self._fill(stream)
            return
        added = known.widen(tracks)
        if added is None or added:
            self._fill(stream, tracks=added)

    def _fill(
        self, stream: str, *, lane: int | None = None, tracks: frozenset[str] | None = None
    ) -> None:
        """What the POP needs of the window; only what goes over `lane`, only parts of `tracks`."""
        wanted, found = self._streams[stream], self._backfill(stream)
        for publication in found:
            wanted.learn(publication)
        for publication in found:
            part = publication if isinstance(publication, PartObject) else None
            lacking = tracks is None or (part is not None and part.track in tracks)
            here = lane is None or self._lane_of(stream, publication.path) == lane
            if lacking and here and wanted.takes(publication):
                self._enqueue(stream, publication)

    def unsubscribe(self, stream: str) -> None:
        if stream in self._streams:
            del self._streams[stream]
            self._queue.forget(stream)
            for key in [key for key in self._lanes if key[0] == stream]:
                del self._lanes[key]
            prefix = f"/live/{stream}/"
            for path in [path for path in self._playlists if path.startswith(prefix)]:
                del self._playlists[path]

    @property
    def streams(self) -> frozenset[str]:
        return frozenset(self._streams)

    def publish(self, stream: str, publication: Publication) -> None:
        """The next publication of `stream`; ignored when the stream is not wanted here."""
        wanted = self._streams.get(stream)
        if wanted is not None and wanted.takes(publication):
            self._enqueue(stream, publication)

    def remove(self, stream: str, path: str, epoch: str = "") -> None:
        """Let the POP forget what it has under `path`, unless that is of a newer `epoch`. One that
        is away learns it from `gone`, or keeps it for its lifetime."""
        lane = self._lanes.get((stream, track_of(path)), 0)
        self._playlists.pop(path, None)
        if self._links[lane] is None:
            self.counters["away"] += 1
            return
        self._remove(stream, path, lane, epoch)
        self._pump(lane)

    def _remove(self, stream: str, path: str, lane: int, epoch: str = "") -> None:
        now_s = self._now()
        item = Item(what=Removal(path), stream=stream, lane=lane, born_s=now_s, epoch=epoch)
        self._queue.push(item)
        self._idle.clear()

    # -- state

    @property
    def connected(self) -> int:
        """How many connections are up."""
        return sum(link is not None for link in self._links)

    def gauges(self) -> dict[str, int]:
        return {
            "connections": self.connected,
            "queued": self._queue.queued,
            "on_wire": self._queue.on_wire,
            "pending": self._queue.pending,
            "queue_bytes": self._queue.bytes,
        }

    def describe(self) -> dict[str, object]:
        """One row of the state page."""
        names = ("enqueued", "acknowledged", "refused", "dropped", "superseded", "lost", "away")
        return {
            "name": self.name,
            "url": self.url,
            "streams": sorted(self._streams),
            **self.gauges(),
            **{name: self.counters[name] for name in names},
            "latency_ms": {f"p{q}": self.latency.quantile(q / 100) * 1000 for q in (50, 99)},
            "parts_ms": self._recent.describe(),
        }

    # -- queue

    def _lane_of(self, stream: str, path: str) -> int:
        """The connection of this track: the one with the fewest tracks when it is first seen."""
        key = stream, track_of(path)
        if key not in self._lanes:
            load = Counter(self._lanes.values())
            lanes = range(self._limits.connections)
            self._lanes[key] = min(lanes, key=lambda lane: (load[lane], lane))
        return self._lanes[key]

    def _enqueue(self, stream: str, publication: Publication) -> None:
        lane = self._lane_of(stream, publication.path)
        if self._links[lane] is None:
            self.counters["away"] += 1
            return
        epoch, now_s = self._epoch(stream), self._now()
        for what in self._with_removal(stream, publication):
            item = Item(what=what, stream=stream, lane=lane, born_s=now_s, epoch=epoch)
            self._queue.push(item)
        self._idle.clear()
        self._pump(lane)

    def _with_removal(
        self, stream: str, publication: Publication
    ) -> Iterable[Publication | Removal]:
        """An ended value takes no newer version at a POP: a new epoch, and whatever an earlier
        origin process left there, is removed first. But what goes on from that is newer anyway, or
        else the stream goes on in another data centre, whose newer value has to stay."""
        if isinstance(publication, PlaylistVersion) and publication.hold_ms:
            ended = self._playlists.get(publication.path)
            new = ended is None and not self._continues(stream)
            if new or (ended and not publication.ended):
                yield Removal(publication.path)
            self._playlists[publication.path] = publication.ended
        yield publication

    def _pump(self, lane: int) -> None:
        link = self._links[lane]
        while link and link.room and (item := self._queue.take(lane)):
            head, body = render(item.what, host=self._host, sign=self._sign, epoch=item.epoch)
            item.sent_s = self._now()
            link.send(item, head, body)

    # -- answers

    def _answered(self, item: Item, status: int) -> None:
        gone = isinstance(item.what, Removal) and status == 404
        accepted = 200 <= status < 300 or gone
        self.statuses[status] += 1
        self._queue.settle(item, accepted=accepted)
        if accepted and isinstance(item.what, Removal):
            self._forgotten.add(item.what.path)
        if not self._queue.pending:
            self._idle.set()
        now = self._now()
        if accepted:
            self.latency.add(now - item.born_s)
            if isinstance(item.what, PartObject):
                self._part_taken(queue=item.sent_s - item.born_s, push=now - item.sent_s)
            return
        if self._quiet_until.get(status, 0.0) <= now:
            self._quiet_until[status] = now + _QUIET_S
            log.warning(
                "push refused: %d",
                status,
                extra={"pop": self.name, "path": item.what.path, "refused": self.statuses[status]},
            )
        if status == _SUPERSEDED:
            self._superseded(item.stream, item.epoch)
        if status in _LATER and (link := self._links[item.lane]):
            link.abort()

    def _part_taken(self, **took_s: float) -> None:
        for hop, seconds in took_s.items():
            self.hops[hop].add(seconds)
        self._recent.add(took_s)

    # -- connections

    async def _keep(self, lane: int) -> None:
        """Keep one connection up while anything is wanted."""
        backoff = _BACKOFF_S
        while True:
            await self._wanted.wait()
            before = self.counters["acknowledged"]
            try:
                await self._connect_and_serve(lane)
            except OSError as error:
                self.counters["connect_failures"] += 1
                log.info("push door not reachable: %s", error, extra={"pop": self.name})
            worked = self.counters["acknowledged"] > before
            backoff = _BACKOFF_S if worked else min(backoff * 2, _BACKOFF_MAX_S)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))

    async def _connect_and_serve(self, lane: int) -> None:
        """Until the connection is lost. Raises OSError when there is none to be had in time."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_S):
            _, link = await loop.create_connection(
                lambda: Link(
                    pipeline=self._limits.pipeline,
                    on_answer=self._answered,
                    on_room=lambda: self._pump(lane),
                ),
                *self._address,
            )
        self.counters["connects"] += 1
        self._links[lane] = link
        try:
            self._fill_lane(lane)
            while not link.closed.done():
                if link.stalled_s > self._limits.timeout_s:
                    self.counters["timeouts"] += 1
                    log.warning("push door silent, cut", extra={"pop": self.name})
                    break
                await asyncio.wait([link.closed], timeout=self._limits.timeout_s / 4)
        finally:
            self._links[lane] = None
            link.abort()
            self._lose(lane, link)
            self.counters["disconnects"] += 1

    def _lose(self, lane: int, link: Link) -> None:
        for item in self._queue.lose(lane, list(link.on_wire)):
            # Perhaps the POP never saw it. A version that it never saw needs no removal: the next
            # is newer anyway, and removing the value would turn those away who wait on it (503).
            if isinstance(item.what, Removal):
                self._playlists.pop(item.what.path, None)
        if not self._queue.pending:
            self._idle.set()

    def _fill_lane(self, lane: int) -> None:
        gone = self._gone() if lane == 0 else []
        self._forgotten &= {path for _, path in gone} if lane == 0 else self._forgotten
        for stream, path in gone:
            if path not in self._forgotten:
                self._remove(stream, path, lane)
        self._pump(lane)
        for stream in sorted(self._streams):
            self._fill(stream, lane=lane)
