"""Publishers' bodies -> live streams: who may publish now, one body at a time, and how it ended.

Laws: no framework; a body is any asynchronous iterator of bytes. Bounds: streams that have a
publisher or wait for one (beyond: 503), silence inside a body (`idle_s`). A second publisher of a
stream is refused (409), or takes it over (`takeover`): then the first is refused (410). A publisher
whose POP tells its session goes on with another body within `hold_s` of a lost connection, and
yields to any other until then. Before a stop, sessions whose POP knows another data centre are
handed over; all others end. Every session ends in one counted result, whatever happens to it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Literal

from edgecache.containers import FLV

from . import names
from .broker import BrokerError
from .chronicle import Chronicles, Record, Row
from .encoding import Settings
from .ffmpeg import Ffmpeg
from .handover import whole
from .ledger import Tally
from .model import Publication
from .notes import Discontinuities
from .presentation import Presentation
from .receive import Body, Publisher, RefusedError, Result, take
from .remux import CONTAINERS
from .resume import Reach, Taken
from .showing import Showing
from .slate import Slate
from .splice import Place, Splice
from .stream import LiveStream, State
from .window import Window

log = logging.getLogger(__name__)

Publish = Callable[[str, Publication], None]
OnState = Callable[[str, Literal["live", "ended"]], None]


class Ingest:
    """All live streams. `publish(stream, publication)` gets everything, in truth order; `record`
    then what the next process needs of it, None: nobody goes on with it. `pushed()` returns when
    POPs have what was published, or cannot be waited for."""

    def __init__(
        self,
        *,
        settings: Settings,
        ffmpeg: Ffmpeg,
        publish: Publish,
        on_state: OnState,
        pushed: Callable[[], Awaitable[None]],
        record: Record | None = None,
        had: Discontinuities | None = None,
        streams: int = 16,
        takeover: bool = False,
        slate: Slate | None = None,
        idle_s: float = 10.0,
        hold_s: float = 5.0,
        resume_s: float = 60.0,
    ) -> None:
        self._settings = settings
        self._ffmpeg = ffmpeg
        self._publish = publish
        self._on_state = on_state
        self._pushed = pushed
        self._record = record
        self._chronicles = Chronicles(record)
        self._had = had
        self._limit = streams
        self._idle_s = idle_s
        self._hold_s = hold_s
        self._resume_s = resume_s
        self._streams: dict[str, LiveStream] = {}
        self._titles: dict[str, str] = {}
        self._takeover = takeover
        self._bodies: dict[asyncio.Task[Result], str] = {}  # and their streams
        self._showing = Showing(
            slate, ffmpeg, reconnect_s=settings.reconnect_s, bodies=self._bodies
        )
        self._replaced: set[asyncio.Task[Result]] = set()
        self._elsewhere: dict[str, asyncio.Task[None]] = {}  # what is being let go, or was
        self._splices: dict[str, Splice] = {}
        self._sessions: set[asyncio.Task[None]] = set()
        self._stopping = False
        # results.<status>, bytes; what doors beside HTTP count
        self.counts: Counter[str] = Counter()
        self.tally = Tally()
        self.tracks: dict[str, Callable[[], dict[str, str]]] = {}  # of who sends each by itself

    def check(self, stream: str, place: Place | None = None) -> None:
        """Raises RefusedError when `stream` cannot be published now, by a body of this place."""
        known, splice = self._streams.get(stream), self._splices.get(stream)
        if self._stopping:
            raise RefusedError(503, "the origin is going away")
        if splice is not None and place is not None and splice.continues(place):
            return
        if known is not None and known.state != "ended":
            try:
                known.check()
            except BrokerError as error:
                if not all(self._yields(task) for task in self._bodies_of(stream)):
                    raise RefusedError(409, str(error)) from None
        elif sum(one.state != "ended" for one in self._streams.values()) >= self._limit:
            raise RefusedError(503, f"{self._limit} streams are live, which is all there may be")

    def attach(
        self, stream: str, place: Place, *, publisher: str, kind: str = FLV, title: str = ""
    ) -> Splice:
        """The session that a body of this place and `kind` belongs to. Raises RefusedError."""
        known = self._splices.get(stream)
        if known is not None and known.continues(place):
            return known
        self.check(stream)
        yielding = self._yielding(stream)
        splice = self._splices[stream] = Splice(place, hold_s=self._hold_s, kind=kind)
        who = Publisher(publisher, CONTAINERS.get(kind, ""), title)
        session = asyncio.create_task(self._session(stream, splice, place, who, yielding))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)
        return splice

    async def _session(
        self,
        stream: str,
        splice: Splice,
        place: Place,
        who: Publisher,
        yielding: list[asyncio.Task[Result]],
    ) -> None:
        result = Result(500, 0, "the session failed")
        try:
            await self._replace(yielding)
            live = self._begin(stream, who)
            taking = take(
                live, splice.chunks(), who, ffmpeg=self._ffmpeg, idle_s=self._idle_s,
                backlog_s=place.age_s, seen=splice.paired,
            )  # fmt: skip
            result = await self._run(live, taking)
            if splice.left:
                result = await self._left(live, splice, result.received)
        finally:
            if self._splices.get(stream) is splice:
                del self._splices[stream]
            splice.end(result)

    async def _left(self, live: LiveStream, splice: Splice, received: int) -> Result:
        """Another data centre goes on, when its viewers have all that this one made."""
        await self._pushed()
        if live.presentation is not None:
            splice.leave_off(whole(live.presentation))
        log.info("handed over", extra={"stream": live.name})
        return Result(503, received, "this data centre stops; another one goes on")

    async def serve(
        self, stream: str, body: Body, *, publisher: str, container: str = "", title: str = ""
    ) -> Result:
        """A whole byte stream of a Publisher. Raises RefusedError unless it ended well or was
        cut."""
        self.check(stream)
        await self._replace(self._yielding(stream))
        who = Publisher(publisher, container, title)
        live = self._begin(stream, who)
        taking = take(live, body.iter_any(), who, ffmpeg=self._ffmpeg, idle_s=self._idle_s)
        result = await self._run(live, taking)
        if result.status not in (200, 499):
            raise RefusedError(result.status, result.reason)
        return result

    async def _run(self, live: LiveStream, receiving: Coroutine[None, None, Result]) -> Result:
        """What is received, as one that may be replaced; counted."""
        task, stream = asyncio.create_task(receiving), live.name
        self._bodies[task] = stream
        try:
            result = await task
        except asyncio.CancelledError:
            if task not in self._replaced:
                raise
            result = Result(410, 0, "another publisher took this stream over")
        finally:
            del self._bodies[task]
            self._replaced.discard(task)
            if not self._stopping:
                self._showing.gap(live)
        self.counts[f"results.{result.status}"] += 1
        self.counts["bytes"] += result.received
        told = {"stream": stream, "status": result.status, "reason": result.reason}
        log.info("body ended", extra=told)
        return result

    def _bodies_of(self, stream: str) -> list[asyncio.Task[Result]]:
        return [task for task, name in self._bodies.items() if name == stream and not task.done()]

    def _yields(self, task: asyncio.Task[Result]) -> bool:
        """Does a publisher that comes take this one's place?"""
        splice = self._splices.get(self._bodies[task])
        return self._takeover or self._showing.shows(task) or (splice is not None and splice.waits)

    def _yielding(self, stream: str) -> list[asyncio.Task[Result]]:
        return [task for task in self._bodies_of(stream) if self._yields(task)]

    async def _replace(self, tasks: list[asyncio.Task[Result]]) -> None:
        """End what yields; what it sent is put out first."""
        self._replaced.update(task for task in tasks if not self._showing.shows(task))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def describe(self, stream: str) -> dict[str, object]:
        """Renditions, publisher and encoder of `stream`; empty for one that was never live here."""
        known = self._streams.get(stream)
        told = {**known.describe(), "tracks": self.tracks.get(stream, dict)()} if known else {}
        # The store knows better which state and epoch viewers see.
        shown = {name: value for name, value in told.items() if name not in ("state", "epoch")}
        return {**shown, "title": self._titles.get(stream, "")} if known else {}

    @property
    def shedding(self) -> int:
        """How many streams are made with less than was planned."""
        return sum(s.sharing.shed > 0 for s in self._streams.values() if s.state != "ended")

    def stream(self, stream: str) -> LiveStream | None:
        """The newest epoch of `stream`."""
        return self._streams.get(stream)

    def resume(self, stream: str, taken: Taken) -> bool:
        """Go on with what an earlier process left, as if its publisher were gone. False: the ladder
        or the grid is another one now."""
        made = taken.presentation
        if not self._settings.fit(made):
            return False
        self._chronicles.resume(stream, taken.chronicle)
        self._make(
            stream,
            epoch=made.timeline.epoch,
            first_discontinuity=taken.discontinuities,
            resumed=made,
        )
        self._spread(stream, taken.publications)
        self._showing.gap(self._streams[stream])
        return True

    def continues(self, stream: str) -> bool:
        """Its playlists go on from those that another process told."""
        live = self._streams.get(stream)
        return live is not None and live.resumed

    def dormant(self, stream: str) -> bool:
        """It goes on elsewhere, or may: it has been taken up and its publisher has not come."""
        waits = self.continues(stream) and self._streams[stream].fed_by is None
        return waits or stream in self._elsewhere

    def epoch(self, stream: str) -> str:
        """Of what is made of it here, "" for nothing."""
        return self._streams[stream].epoch if stream in self._streams else ""

    def live(self) -> dict[str, str]:
        """The epoch of each stream that has not ended."""
        return {n: each.epoch for n, each in self._streams.items() if each.state != "ended"}

    def let_go(self, stream: str, epoch: str) -> None:
        """Of this epoch, since a newer one is shown: its publisher is told, if it still has one."""
        live = self._streams.get(stream)
        if live is None or live.epoch != epoch or live.state == "ended":
            return
        log.warning("goes on in another data centre", extra={"stream": stream, "epoch": epoch})
        live.let_go()
        self._splices.pop(stream, None)  # a body that comes back begins anew
        replacing = asyncio.create_task(self._replace(self._bodies_of(stream)))
        self._elsewhere[stream] = replacing

    @property
    def reach(self) -> Reach:
        return Reach(window_s=self._settings.window_s, dvr_s=self._settings.dvr_s)

    def take_over(
        self, stream: str, taken: Taken, rows: list[Row], restore: Callable[[Window], None]
    ) -> bool:
        """Go on with what another data centre has published, unless this one has gone further."""
        known, made = self._streams.get(stream), taken.presentation
        too_old = taken.age_s > self._settings.resume_s
        if self._stopping or too_old or not self._settings.fit(made):
            return False
        if known is not None and known.state != "ended":
            had = known.presentation.timeline.next_msn if known.presentation else 0
            if known.broker is not None or had > taken.next_msn:
                return False
            known.let_go()
        restore(taken.window)
        if self._record is not None:
            self._record(stream, rows)
        log.info("taken over", extra={"stream": stream, "msn": made.timeline.next_msn})
        return self.resume(stream, taken)

    async def hand_over(self, within_s: float) -> None:
        """Before stop(): let go of the publishers whose POPs know where else to go, each at its
        next keyframe. The streams of those that have none by then go on, too, less smoothly."""
        self._stopping = True
        leaving = {name: splice for name, splice in self._splices.items() if splice.others}
        for splice in leaving.values():
            splice.leave()
        if leaving:
            await asyncio.wait([one.result for one in leaving.values()], timeout=within_s)
        for name, live in self._streams.items():
            if name in leaving:
                live.let_go()
            elif live.state != "ended":
                log.warning("ends here: no other data centre is known", extra={"stream": name})

    async def stop(self) -> None:
        """Cut all publishers and end all streams. Bounded by the encoders' stop_s."""
        self._stopping = True
        bodies = tuple(self._bodies)
        for task in bodies:
            task.cancel()
        await self._showing.stop()
        leaving = self._elsewhere.values()
        await asyncio.gather(*bodies, *self._sessions, *leaving, return_exceptions=True)
        await asyncio.gather(*(live.end() for live in self._streams.values()))

    def _begin(self, stream: str, who: Publisher) -> LiveStream:
        live = self._live(stream)
        self._titles[stream] = who.title or self._titles.get(stream, "")
        return live

    def _live(self, stream: str) -> LiveStream:
        known = self._streams.get(stream)
        if known is not None and known.state != "ended":
            return known
        self._titles.pop(stream, None)
        return self._make(
            stream,
            epoch=names.epoch_after(known.epoch if known else None, time.time()),
            first_msn=self._settings.first_msn(
                known.next_first_msn if known else None, time.time()
            ),
            first_discontinuity=self._had.discontinuities(stream) if self._had else 0,
        )

    def _make(
        self,
        stream: str,
        *,
        epoch: str,
        first_discontinuity: int,
        first_msn: int | None = None,
        resumed: Presentation | None = None,
    ) -> LiveStream:
        self._elsewhere.pop(stream, None)
        live = self._streams[stream] = LiveStream(
            stream,
            epoch=epoch,
            settings=self._settings,
            ffmpeg=self._ffmpeg,
            first_msn=first_msn,
            first_discontinuity=first_discontinuity,
            resumed=resumed,
            tally=self.tally,
            on_state=lambda state: self._turned(stream, state),
            on_discontinuity=lambda count: self._discontinued(stream, count),
        )
        live.subscribe(lambda publications: self._spread(stream, publications))
        return live

    def _turned(self, stream: str, state: State) -> None:
        if state == "live" or state == "ended":  # a publisher that comes back is no news
            self._on_state(stream, state)

    def _discontinued(self, stream: str, count: int) -> None:
        if self._had is not None:
            self._had.set_discontinuities(stream, count)

    def _spread(self, stream: str, publications: Sequence[Publication]) -> None:
        for publication in publications:
            self._publish(stream, publication)
        self._acknowledge(stream)
        live = self._streams[stream]
        made = live.presentation
        assert made is not None, "published without a presentation"
        before = live.first_discontinuity
        self._chronicles.tell(
            stream, made.timeline, made.planned, publications, discontinuities=before
        )

    def _acknowledge(self, stream: str) -> None:
        """Tell the publisher's POP what it need not hold any more."""
        live, splice = self._streams[stream], self._splices.get(stream)
        made, broker = live.presentation, live.broker
        if splice is None or made is None or broker is None or live.fed_by is not broker:
            return  # what comes out is of a session that has ended
        if (safe := splice.teller.news(broker, made)) is not None:
            splice.acknowledge(safe)
