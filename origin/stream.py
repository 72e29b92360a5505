"""One live stream, from a publisher's bytes to publications: broker, encoder and presentation.

Laws: one epoch; one publisher at a time, one encoder at a time, and each encoder is a generation of
the presentation. Sinks are called on the loop, in truth order, and must not block. A publisher that
is gone may come back within `reconnect_s` (same names, a discontinuity); then the stream ends,
once, for good. What cannot be encoded is an error for the publisher, with the reason. Does not know
HTTP, stores or other streams.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from . import cues, hardware, ladder, subtitles
from .broker import Broker, BrokerError
from .encoder import Encoder, Launch
from .encoding import Settings
from .ffmpeg import Ffmpeg
from .health import Speed
from .hops import hops_of
from .ledger import Recent, Tally, counted, durations, stamped
from .model import Hops, PartObject, Publication
from .presentation import Presentation, Start
from .remote import Remote
from .sharing import Sharing, given_away
from .source import Source
from .workwire import Life

log = logging.getLogger(__name__)

State = Literal["waiting", "live", "reconnecting", "ended"]
Sink = Callable[[Sequence[Publication]], None]


class BusyError(BrokerError):
    """The stream has a publisher."""


class LiveStream:
    """await publisher_connected(), feed() and drain(), await publisher_gone(); end() when told to.

    first_msn: larger than any of the stream's earlier epochs; None: by the wall clock.
    first_discontinuity: likewise; on_discontinuity(n): numbers below n are taken now. resumed: what
    an earlier process made of this stream, whose publisher may come back. tally: of all streams.
    """

    def __init__(
        self,
        name: str,
        *,
        epoch: str,
        settings: Settings,
        ffmpeg: Ffmpeg,
        first_msn: int | None = None,
        first_discontinuity: int = 0,
        resumed: Presentation | None = None,
        on_state: Callable[[State], None] | None = None,
        on_discontinuity: Callable[[int], None] | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.name = name
        self.epoch = epoch
        self._settings = settings
        self._ffmpeg = ffmpeg
        self._first_msn = first_msn
        self.first_discontinuity = first_discontinuity
        self._on_state = on_state
        self._on_discontinuity = on_discontinuity
        self._loop = asyncio.get_running_loop()
        self._sinks: list[Sink] = []
        self.broker: Broker | None = None
        self.fed_by: Broker | None = None  # whose media the encoder has; outlives its publisher
        self._recent = Recent()
        self._encoder: Encoder | None = None
        self._presentation = resumed
        self.resumed = resumed is not None
        plan = ladder.only(settings.plan, resumed.planned) if resumed else settings.plan
        self.sharing = Sharing(plan, settings.health)
        self.remote = Remote(
            name, settings.finder, settings.remote, on_output=self._came, on_change=self._changed
        )
        self._source: Source | None = None  # that the encoder was started for, or follows
        self._start: Start | None = None
        self._session = asyncio.Lock()  # held from publisher_connected() until all it sent is out
        self._failure = self._publisher = ""
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._began_s = 0.0  # of the publisher's session, monotonic
        self._fed_s: float | None = None
        self._speed = Speed()
        self._tally = tally or Tally()
        self.state: State = "waiting"
        self.publications = 0
        if resumed:
            self._tally.add(resumed.counts)
            self._await_publisher()

    # -- for whoever distributes

    def subscribe(self, sink: Sink) -> None:
        """`sink` gets everything from now on."""
        self._sinks.append(sink)

    @property
    def presentation(self) -> Presentation | None:
        """None until the source is known."""
        return self._presentation

    @property
    def encoder_pid(self) -> int | None:
        return self._encoder.pid if self._encoder else None

    @property
    def next_first_msn(self) -> int | None:
        """What a later epoch of this stream begins with at least."""
        if self._presentation is None:
            return self._first_msn
        return self._presentation.timeline.next_msn + 2  # an ended version is one past the last

    # -- for the publisher

    def check(self) -> None:
        """Raises BusyError, or BrokerError when the stream has ended."""
        if self.state == "ended":
            raise BrokerError(f"stream {self.name} has ended")
        if self.broker is not None:
            raise BusyError(f"stream {self.name} is being published already")

    async def publisher_connected(self, publisher: str = "", backlog_s: float = 0.0) -> None:
        """A publisher is there, its media up to `backlog_s` old. Raises BusyError, BrokerError."""
        self.check()
        broker = self.broker = Broker(sides=self._settings.plan.sides)
        self._cancel_timer()
        try:
            await self._session.acquire()  # until the one before has been put out, at most stop_s
        except asyncio.CancelledError:
            self.broker = None
            raise
        if self.state == "ended":
            self.broker = None
            self._session.release()
            self.check()
        self._publisher, self._failure = publisher, ""
        self._began_s = self._loop.time() - backlog_s
        self._tally.add(broker.counts)
        log.info("publisher on", extra={"stream": self.name, "publisher": publisher})

    def feed(self, data: bytes) -> None:
        """FLV bytes in any cut. Raises FlvError or BrokerError: the session is to be ended."""
        broker = self.broker
        assert broker is not None, "feed() without publisher_connected()"
        if self._failure:
            raise BrokerError(self._failure)
        broker.feed(data)
        self._fed_s = self._loop.time()
        fresh = broker.take()
        if broker.source is None:
            return
        if self._encoder is None:
            self._begin(broker.source)
        elif broker.source == self._source or not self._recode(broker.source):
            self._encoder.write(fresh)
            if self._encoder.pid is not None:  # a worker does not run ahead of one that is gone
                self.remote.write(fresh)
        self._tell(broker)

    async def drain(self) -> None:
        """Wait until more may be fed: the encoder's queue has room, the media is not far ahead."""
        if self._encoder is not None:
            await self._encoder.drain()
        if self.broker is not None:
            ahead_s = self.broker.media_ms / 1000 - (self._loop.time() - self._began_s)
            if ahead_s > self._settings.lead_s:
                await asyncio.sleep(ahead_s - self._settings.lead_s)

    async def publisher_gone(self) -> None:
        """The publisher left: put out what is there, then wait for it to come back."""
        if self.broker is not None:
            self.broker.end()
            self._tally.settle(self.broker.counts)
        self.broker = None  # the next one may come, and waits for the session
        try:
            if self._encoder is not None:
                await asyncio.gather(self._encoder.stop(), self.remote.finish())
            self._end_generation()
        finally:
            self._encoder = None
            self._session.release()
        log.info("publisher gone", extra={"stream": self.name, "why": self._failure})
        if self.broker is None and self.state != "ended":
            self._await_publisher()

    def _await_publisher(self) -> None:
        self._turn("reconnecting" if self._presentation else "waiting")
        self._timer = self._loop.call_later(self._settings.reconnect_s, self._give_up)

    async def end(self) -> None:
        """The stream is over: ENDLIST. The caller has ended the publisher before. Idempotent."""
        self._cancel_timer()
        async with self._session:
            if self.state == "ended":
                return
            self._turn("ended")
            self.remote.close()
            if self._presentation is not None:
                self._publish(self._presentation.end())
                self._tally.settle(self._presentation.counts)

    def let_go(self) -> None:
        """Ended without a word: it goes on in another data centre."""
        self.state = "ended"
        self.remote.close()

    def describe(self) -> dict[str, object]:
        """For the state page and the API; JSON values."""
        broker, running = self.broker, self._encoder
        age_s = None if self._fed_s is None else round(self._loop.time() - self._fed_s, 3)
        source = broker.source if broker else None
        return {
            "state": self.state,
            "epoch": self.epoch,
            "publisher": self._publisher if broker else None,
            "source": str(source) if source else None,
            "renditions": list(self.sharing.plan.tracks) if self._presentation else [],
            "generation": self._start.generation if self._start else None,
            "encoder": running.state if running else None,
            "encoder_pid": self.encoder_pid,
            "restarts": dict(running.restarts) if running else {},
            "speed": self._speed.over(self._loop.time()) if running else None,
            "shed": self.sharing.shed,
            "worker": self.remote.state,
            "latency_ms": self._recent.describe(),
            "lag_ms": self._presentation.lag_ns // 1_000_000 if self._presentation else None,
            "queued_bytes": running.queued_bytes if running else 0,
            "last_tag_age_s": age_s,
            "tags": broker.tags if broker else 0,
            "dropped_tags": dict(broker.dropped) if broker else {},
            "dropped_frames": dict(self._presentation.drops) if self._presentation else {},
            "out_of_step": self._presentation.out_of_step if self._presentation else 0,
            "silent_frames": broker.silent_frames if broker else 0,
            "jumps": broker.jumps if broker else 0,
            "publications": self.publications,
            "ledger": counted(self.fed_by, self._presentation),
        }

    # -- between broker, encoder and presentation

    def _begin(self, source: Source) -> None:
        """The first encoder of a publisher's session."""
        self._check_source(source)
        if self._presentation is None:
            self.sharing.fit(source)
            self._presentation = self._settings.present(
                self.sharing.plan, self.name, epoch=self.epoch, first_msn=self._first_msn
            )
            self._presentation.timeline.discontinuities = self.first_discontinuity
            self._tally.add(self._presentation.counts)
        self._encoder = Encoder(
            name=self.name,
            launch=self._launch,
            on_output=self._output,
            on_failed=self._failed,
            limits=self._settings.encoder,
        )
        self._encoder.start()
        if given_away(self.sharing.plan).rungs:
            self.remote.open()
        self._turn("live")

    def _check_source(self, source: Source) -> None:
        if self._ffmpeg.since(source.since) is None:
            raise BrokerError(f"{source}: needs ffmpeg >= {source.since}; use H.264, one AAC sound")
        if self._presentation is not None and bool(source.video) != bool(self.sharing.plan.rungs):
            began = "with" if self.sharing.plan.rungs else "without"
            raise BrokerError(f"stream {self.name} began {began} a picture; end it first")
        self._source = source

    def _tell(self, broker: Broker) -> None:
        """Words and events that the publisher told, where they stand in its media."""
        if self._presentation is None or not self._presentation.timeline.generations:
            return
        said = broker.cues()
        for at_ms, values in said:
            if words := subtitles.told_of(values):
                self._presentation.say(words, at_ms)
        for error in cues.tell(said, self._presentation.timeline):
            log.warning("marker refused: %s", error, extra={"stream": self.name})

    def _recode(self, source: Source) -> bool:
        """Other codecs need another decoder, another turn needs another filter, and what would come
        out in other sizes begins anew; another new size ffmpeg follows itself (False)."""
        assert self._encoder is not None
        before = self._source
        self._check_source(source)
        alike = before and (before.codecs, before.turn) == (source.codecs, source.turn)
        if alike and self.sharing.fits(source):
            return False
        self._encoder.restart("source", its_fault=False)
        return True

    def _launch(self, restarts: Counter[str]) -> Launch:
        """What the next life of the encoder needs; its output is a new generation."""
        assert self.broker is not None
        assert self.broker.source is not None
        assert self._presentation is not None
        self._end_generation()
        replay, source = self.broker.replay(), self.broker.source
        share = self.sharing.begin(source, self.remote.state)
        arrived_ns, late = round(replay.arrived_s * 1e9), share.there.tracks
        start = self._presentation.begin_generation(wall_ns=arrived_ns, late=late)
        self._start, self.fed_by = start, self.broker
        self._speed.began(self._loop.time())
        if self._on_discontinuity is not None:
            self._on_discontinuity(self.first_discontinuity + start.generation + 1)
        told = {"generation": start.generation, "msn": start.msn, "replayed_ms": replay.duration_ms}
        log.info("encoder starts", extra={"stream": self.name, **told})
        tool = hardware.heed(self._ffmpeg, restarts, self.name)
        here, there = (Life(plan, source, start.offset_s) for plan in (share.here, share.there))
        if there.plan.tracks:
            self.remote.begin(there, replay.data)
        return Launch(argv=here.command(tool), tracks=len(here.plan.tracks), replay=replay.data)

    def _end_generation(self) -> None:
        if self._presentation is not None and self._start is not None:
            self._start = None
            self.remote.end()
            self._publish(self._presentation.end_generation())

    def _output(self, index: int, data: bytes) -> None:
        assert self._encoder is not None
        if self._feed(self.sharing.now.here.tracks[index], data):
            self._encoder.restart("garbage")

    def _came(self, index: int, data: bytes) -> None:
        if self._feed(self.sharing.now.there.tracks[index], data):
            self.remote.drop("garbage")

    def _feed(self, track: str, data: bytes) -> bool:
        """What an encoder made of a track; True when that could not be read."""
        assert self._presentation is not None
        read_s, shown = time.monotonic(), self.sharing.now.shown[track]
        for name in shown:
            made = self._presentation.feed(name, data, time.time_ns())
            self._publish(stamped(made, lambda part: self._hops(part, read_s)))
        return not self._presentation.faults.keys().isdisjoint(shown)

    def _changed(self) -> None:
        """A worker came or was lost: all tracks begin another generation with it."""
        if self._encoder is not None and self.broker is not None:
            self._encoder.restart("worker", its_fault=False)

    def _hops(self, part: PartObject, read_s: float) -> Hops | None:
        assert self._presentation is not None
        assert self.fed_by is not None
        if hops := hops_of(part, self._presentation.timeline, self.fed_by, read_s):
            self._recent.add(durations(hops))
            self._judge(part.track, hops)
        return hops

    def _judge(self, track: str, hops: Hops) -> None:
        """Is the encoder too slow for this machine, or fast enough for more than it does?"""
        verdict = self.sharing.judge(track, hops.encode_s, self._loop.time())
        if verdict == "late":
            self.remote.drop(verdict)
        elif verdict:
            assert self._encoder is not None
            told = {"stream": self.name, "shed": self.sharing.shed}
            log.warning("encoder is %s", verdict, extra=told)
            self._encoder.restart(verdict, its_fault=False)

    def _publish(self, publications: Sequence[Publication]) -> None:
        if not publications:
            return
        self.publications += len(publications)
        self._speed.made(publications)
        for sink in self._sinks:
            sink(publications)
        if self._presentation is not None:
            self._presentation.forget()  # who stores them keeps time by itself

    def _failed(self, reason: str) -> None:
        self._failure = reason

    def _turn(self, state: State) -> None:
        changed, self.state = self.state != state, state
        if changed and self._on_state is not None:
            self._on_state(state)

    def _give_up(self) -> None:
        self._ending = self._loop.create_task(self.end())

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
