"""Which POP gets which stream: hot lists from the configuration, leases from the POPs themselves.

Laws: a lease ends by itself when it is not renewed; hot streams stay. A POP named in the
configuration is pushed to at the configured URL whatever it says; any other POP at the URL it
gave. Bounds: POPs and streams of one POP (refused beyond), length of a lease (shortened).
Owner: the event loop's thread. Does not know HTTP, nor how a push travels.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from edgecache.errors import EdgeError

from .config import Config
from .model import Publication
from .pusher import PopPusher

log = logging.getLogger(__name__)

ALL: Final = "*"
MAX_POPS: Final = 1024
MAX_STREAMS: Final = 4096
MAX_LEASE_S: Final = 600.0
_SWEEP_S: Final = 1.0


class SubscriptionError(EdgeError):
    """A subscription beyond a bound; the message says which."""

    source = "downstream"


@dataclass(frozen=True)
class HotPop:
    """A POP of the configuration."""

    push: str
    hot: frozenset[str]


def hot_of(config: Config) -> dict[str, HotPop]:
    return {name: HotPop(pop.push, frozenset(pop.hot)) for name, pop in config.pops.items()}


@dataclass
class _Pop:
    pusher: PopPusher
    hot: frozenset[str] = frozenset()
    configured: bool = False
    leases: dict[str, float] = field(default_factory=dict)  # stream -> monotonic end
    tracks: dict[str, frozenset[str]] = field(default_factory=dict)  # leased; none: all of it
    viewers: dict[str, int] = field(default_factory=dict)  # as last told; hot streams' too
    told_until: float = 0.0  # monotonic; then they are nobody's word any more

    def is_hot(self, stream: str) -> bool:
        return ALL in self.hot or stream in self.hot

    def wants(self, stream: str) -> bool:
        return self.is_hot(stream) or stream in self.leases

    def subscribe(self, stream: str) -> None:
        """Hot streams are pushed whole."""
        hot = self.is_hot(stream)
        self.pusher.subscribe(stream, None if hot else self.tracks.get(stream))


class Subscriptions:
    """`make(name, url)` builds a pusher that is not started; `live()` names the streams there
    are."""

    def __init__(
        self,
        *,
        make: Callable[[str, str], PopPusher],
        live: Callable[[], Iterable[str]],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._live = live
        self._monotonic_s = monotonic_s
        self._pops: dict[str, _Pop] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def start(self, hot: Mapping[str, HotPop]) -> None:
        self.configure(hot)
        self._sweeper = asyncio.create_task(self._sweep(), name="leases")

    async def stop(self, drain_s: float) -> None:
        """Give every queue up to `drain_s` to be acknowledged, all at once."""
        if self._sweeper:
            self._sweeper.cancel()
        pops, self._pops = self._pops, {}
        await asyncio.gather(*(pop.pusher.stop(drain_s) for pop in pops.values()))
        await asyncio.gather(*self._leaving)

    async def settled(self, within_s: float) -> None:
        """Until every POP that can be reached has all of what was published, or the time is
        over."""
        await asyncio.gather(*(pop.pusher.settled(within_s) for pop in self._pops.values()))

    def configure(self, hot: Mapping[str, HotPop]) -> None:
        """The configuration's POPs, now; may be called again with others."""
        for name, pop in list(self._pops.items()):
            gone = pop.configured and name not in hot
            if gone or (name in hot and pop.pusher.url != hot[name].push):
                self._drop(name)
        for name, wanted in hot.items():
            known = self._pops.get(name) or self._add(name, wanted.push)
            known.configured, known.hot = True, wanted.hot
            self._settle(known)

    def subscribe(
        self,
        name: str,
        url: str,
        *,
        streams: Iterable[str],
        lease_s: float,
        viewers: dict[str, int],
        tracks: Mapping[str, Iterable[str]],
    ) -> float:
        """Grant or renew; returns the length granted. `tracks`: which ones of a stream are watched
        there, without an entry all. A POP that wants nothing only tells viewers, which are
        forgotten with its lease. Raises SubscriptionError at a bound."""
        lease_s = min(lease_s, MAX_LEASE_S)
        pop = self._pops.get(name)
        asked = set(streams)
        if pop is not None and not pop.configured and pop.pusher.url != url:
            self._drop(name)
            pop = None
        if pop is None and not asked:
            return lease_s
        if pop is None:
            if len(self._pops) >= MAX_POPS:
                raise SubscriptionError(f"pop: found a POP more, allowed {MAX_POPS}")
            pop = self._add(name, url)
        if len(asked | pop.leases.keys()) > MAX_STREAMS:
            raise SubscriptionError(f"streams: found too many, allowed {MAX_STREAMS} of one POP")
        ends = self._monotonic_s() + lease_s
        pop.leases.update(dict.fromkeys(asked, ends))
        pop.viewers, pop.told_until = viewers, ends
        pop.tracks = {name: frozenset(found) for name, found in tracks.items()}
        self._settle(pop)
        return lease_s

    def publish(self, stream: str, publication: Publication) -> None:
        """To every POP that wants the stream; call after the store has it."""
        for pop in self._pops.values():
            if pop.wants(stream):
                if stream in pop.pusher.streams:
                    pop.pusher.publish(stream, publication)
                else:
                    pop.subscribe(stream)  # its back-fill has this publication too

    def remove(self, stream: str, paths: Iterable[str], epoch: str = "") -> None:
        """Let every POP forget these paths, unless what it has is of a newer epoch."""
        for path in paths:
            for pop in self._pops.values():
                pop.pusher.remove(stream, path, epoch)

    def pushers(self) -> list[PopPusher]:
        return [pop.pusher for pop in self._pops.values()]

    def viewers(self, stream: str) -> int | None:
        """Sum over the POPs that report viewers of it; None when none does."""
        told = [pop.viewers[stream] for pop in self._pops.values() if stream in pop.viewers]
        return sum(told) if told else None

    # -- inside

    def _add(self, name: str, url: str) -> _Pop:
        pop = self._pops[name] = _Pop(self._make(name, url))
        pop.pusher.start()
        log.info("pushing to a POP", extra={"pop": name, "url": url})
        return pop

    def _drop(self, name: str) -> None:
        task = asyncio.create_task(self._pops.pop(name).pusher.stop())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        log.info("no longer pushing to a POP", extra={"pop": name})

    def _settle(self, pop: _Pop) -> None:
        """Let the pusher want exactly what the POP wants now."""
        for stream in pop.pusher.streams:
            if not pop.wants(stream):
                pop.pusher.unsubscribe(stream)
        for stream in self._live():
            if pop.wants(stream):
                pop.subscribe(stream)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = self._monotonic_s()
            for name, pop in list(self._pops.items()):
                over = [stream for stream, ends in pop.leases.items() if ends <= now]
                for stream in over:
                    del pop.leases[stream]
                if pop.told_until <= now:
                    pop.viewers = {}
                if over:
                    self._settle(pop)
                if not pop.configured and not pop.leases:
                    self._drop(name)
