"""The daemon: builds every part from the configuration; start, reload, drain, stop in order.

Law: all sockets are bound before anything starts; READY is said when viewers are served. The first
SIGTERM drains (viewers finish within `http.drain`), the second ends at once. A reload applies what
it can, says what needs a restart, and keeps everything when the new configuration is wrong. Who has
been succeeded (succession.py) gives away what it has, and ends. Owns the control thread's loop and
all parts; knows nothing of their insides.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

from . import __version__, logs, signing
from .config import EdgeConfig, load_secrets, load_token
from .control import access, congestion, manager, sockets
from .control.admin import Admin, State
from .control.broadcasters import Broadcasters
from .control.deposit import Deposit, connect
from .control.dial import Ways
from .control.dump import dump
from .control.fill import Filler
from .control.follow import Follower
from .control.hosting import Hosting
from .control.http1 import Limits
from .control.httpd import Door
from .control.manager import Given
from .control.metrics import EdgeCollector, Page
from .control.misses import Misses
from .control.overload import Overload
from .control.push import PushReceiver
from .control.routes import Routes
from .errors import ConfigError
from .making import bind, make_interest, make_plane
from .settings import Loaded, differences
from .succession import Estate, Heir, Parts, claim

log = logging.getLogger(__name__)

_TICK_S: Final = 1.0
_WORKER: Final = ("connections_now", "parked_now", "holds_now", "requests", "loops", "bytes_out")
# Applied by a reload; keys.* too.
_LIVE: Final = ("log.level", "origin.urls", "origin.kind", "route", "admin.token_file", "keys.")

Reload = Callable[[], Loaded[EdgeConfig]]


class Daemon:
    """One POP. `await run()` returns after a drain, or once an heir has taken over; raises
    StartError, ListenError, TakeoverError or ConfigError. `heir`: it takes over itself."""

    def __init__(
        self,
        loaded: Loaded[EdgeConfig],
        reload: Reload,
        heir: Heir | None = None,
        given: Given = ({}, {}),
        deposit: Deposit | None = None,
    ) -> None:
        config = self._config = loaded.value
        self._reload = reload
        self._heir = heir
        self._deposit = deposit
        self._secrets, self._token = load_secrets(config), load_token(config)
        self._redact()
        self._sockets, self._kept = bind(
            config, heir.sockets if heir else {}, heir.kept if heir else frozenset(), given
        )
        self._congestion = congestion.control(config.http.congestion, self._sockets["http"])
        self._routes = Routes(config)
        self._plane = make_plane(config, self._routes)
        self._hosting = Hosting(self._plane, self._routes, config)
        self._draining = False
        self._reloads = {"applied": 0, "rejected": 0}
        self._started_s = time.monotonic()
        self._verifier = signing.Verifier(self._secrets)
        self._filler = Filler(self._routes.of, config)
        self._overload = Overload(self._plane, self._filler, config)
        self._follower = Follower(self._plane, self._routes, self._filler, config)
        self._filler.on_text = self._follower.passed
        self._receiver = PushReceiver(self._plane, self._verifier, config, on_stored=self._stored)
        self._receiver.on_target = self._filler.lifetimes.target
        self._filler.outdated = self._receiver.outdated
        limits = Limits(body_bytes=config.cache.object_max, connections=config.push.connections)
        self._push = Door("push", self._receiver.handle, admit=self._receiver.admit, limits=limits)
        self._ways = Ways(config.origin.ca_file, resolve_s=config.origin.resolve / 1000)
        self._interest = make_interest(
            config, self._plane, self._sockets, self._sign if self._secrets else None, self._ways
        )
        self._misses = Misses(
            self._plane, self._filler, self._follower, self._interest, self._overload
        )
        self._ingest = Broadcasters(config, self._sign, self._ways)
        if uploads := self._ingest.uploads:
            self._hosting.uploads = uploads.take
        self._admin = self._make_admin()
        self._parts = Parts(
            plane=self._plane, filler=self._filler, follower=self._follower,
            receiver=self._receiver, verifier=self._verifier, push=self._push,
            hosting=self._hosting,
        )  # fmt: skip
        self._estate = Estate(config.takeover.socket, self._parts, self._sockets, self._kept)
        self._hosting.passed = self._estate.pass_on
        self._tasks: list[asyncio.Task[None]] = []

    # -- parts

    def _redact(self) -> None:
        for secret in (*self._secrets.values(), self._token):
            logs.redact(secret.decode("latin-1"))

    def _sign(self, method: str, target: str, fields: signing.Fields = ()) -> str:
        """With the first key; without any, what is sent cannot be believed by anybody."""
        kid, secret = next(iter(self._secrets.items()), ("none", b""))
        return signing.sign(method, target, fields, kid=kid, secret=secret)

    def _make_admin(self) -> Door:
        counts = {
            "extra": lambda: self._routes.extras.counts,
            "fill": lambda: self._filler.counts,
            "overload": lambda: self._overload.counts,
            "follow": lambda: self._follower.counts,
            "push": lambda: self._receiver.counts,
            "push_door": lambda: self._push.counts,
            **self._ingest.counts(),
            "site": self._hosting.counts,
            "admin_door": lambda: self._admin.counts,
        }
        if (interest := self._interest) is not None:
            counts["interest"] = lambda: interest.counts
        if (deposit := self._deposit) is not None:
            counts["deposit"] = lambda: deposit.counts
        collector = EdgeCollector(
            self._plane, counts, self._gauges,
            origins=lambda: self._routes.asked, hops=self._receiver.hops,
        )  # fmt: skip
        host = self._config.admin.listen.rpartition(":")[0]
        admin = Admin(
            self._plane,
            reasons=self._reasons,
            metrics=Page(collector, self._config.admin.refresh / 1000).render,
            state=self.state,
            asks=self._routes.asks,
            shelf=self._hosting.shelf,
            hosts=frozenset((host, self._config.pop.name)),
            token=lambda: self._token,
        )
        return Door("admin", admin.handle, limits=Limits(connections=32))

    def _stored(self, key: bytes) -> None:
        self._filler.pushed(key)
        self._follower.pushed(key)
        if self._interest is not None:
            self._interest.stored(key)

    # -- life

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stop, now = asyncio.Event(), asyncio.Event()

        def asked_to_stop() -> None:
            (now if stop.is_set() else stop).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGUSR1, self._dump)
        loop.add_signal_handler(signal.SIGUSR2, self._estate.succeed)
        try:
            await self._start()
            if self._config.takeover.socket:
                offer = asyncio.create_task(self._estate.run())
                offer.add_done_callback(lambda _: stop.set())
                self._tasks.append(offer)
            await stop.wait()
            await (self._leave(now) if self._estate.successor else self._drain(now))
        finally:
            await self._stop()

    async def _start(self) -> None:
        """Viewers are served while we take what a killed process left. Doors get duplicates: what
        they close is open elsewhere, here and in our successor."""
        listening = self._sockets
        if self._heir is not None:
            await self._take_kept()
            await self._heir.take(self._parts)
        await self._ingest.start(listening)
        asyncio.get_running_loop().add_reader(self._plane.event_fd, self._on_event)
        self._plane.start([item.fileno() for item in listening["http"]])
        if self._heir is None:
            await self._take_kept()
        for name, door in (("push", self._push), ("admin", self._admin)):
            if name in listening:
                await door.start(listening[name][0].dup())
        running = [self._housekeeping(), self._overload.run()]
        running += [each.run() for each in (self._interest, self._deposit) if each is not None]
        self._tasks += [asyncio.create_task(each) for each in running]
        if self._deposit is not None:
            await self._deposit.known.wait()
        for name in sorted(listening.keys() - self._kept):
            manager.keep(name, listening[name])
        manager.notify("READY=1\nSTATUS=serving")
        where = {name: sockets.shown(items[0]) for name, items in listening.items()}
        facts = {"workers": len(listening["http"]), "congestion": self._congestion or "host"}
        log.info("serving", extra={**where, **facts})
        if self._heir is not None:
            await self._heir.serving(self._plane)

    async def _take_kept(self) -> None:
        if self._deposit is not None:
            self._misses.hold()
            await self._deposit.take(self._plane, self._receiver, self._follower)
            self._misses.release()

    async def _drain(self, now: asyncio.Event) -> None:
        """Until viewers are gone, the deadline passes, or a second signal."""
        self._draining = True
        manager.notify("STOPPING=1")
        log.info("draining", extra={"connections": self._hosting.connections()})
        self._ingest.drain()
        self._plane.drain()
        for name in self._sockets.keys() - self._kept:
            manager.forget(name)
            for item in self._sockets[name] if name in ("http", "ingest", "rtmps") else ():
                item.shutdown(socket.SHUT_RDWR)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._config.http.drain / 1000
        while self._hosting.connections() and loop.time() < until and not now.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(now.wait(), 0.02)

    async def _leave(self, now: asyncio.Event) -> None:
        """Somebody serves in our place: give away the rest, finish answers, wait for publishers."""
        loop = asyncio.get_running_loop()
        self._draining = True
        manager.notify(f"MAINPID={self._estate.successor}")
        log.info("handing over", extra={"to": self._estate.successor})
        self._ingest.drain()
        await self._admin.close(0.1)
        await self._estate.leave(loop.time() + self._config.http.drain / 1000, now)
        log.info("handed over", extra={"publishers": self._ingest.publishers})
        self._plane.stop()
        self._plane.purge_prefix(b"/")
        until_s = loop.time() + self._config.takeover.publishers / 1000
        while self._ingest.publishers and loop.time() < until_s and not now.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(now.wait(), _TICK_S / 4)

    async def _stop(self) -> None:
        """Whatever fails on the way, the workers are joined: their threads would outlive us."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._ingest.stop()
            if self._heir is not None:
                await self._heir.close()
            if self._deposit is not None:
                self._deposit.close()
            await self._hosting.close(1.0)
            await self._push.close(1.0)
            self._receiver.close()
            await self._follower.close()
            await self._filler.close()
            await self._routes.close()
            self._ways.close()
            await self._admin.close(0.1)
        finally:
            asyncio.get_running_loop().remove_reader(self._plane.event_fd)
            self._plane.stop()
            for items in self._sockets.values():
                for item in items:
                    item.close()
        log.info("stopped")

    def _on_event(self) -> None:
        """Misses and access-log records are ready."""
        more = self._misses.collect()
        self._hosting.collect()
        if self._config.log.access:
            access.tell(self._plane)
        if more:
            asyncio.get_running_loop().call_soon(self._on_event)

    async def _housekeeping(self) -> None:
        """A round trip of the loop is what the watchdog is fed from, never a timer thread."""
        watchdog_s = manager.watchdog_s()
        while True:
            await asyncio.sleep(min(_TICK_S, watchdog_s or _TICK_S))
            self._estate.reap()
            for stream in self._receiver.sweep():
                self._filler.forget(stream)
            if self._config.log.access:
                self._on_event()
            if watchdog_s and not self._estate.successor:
                manager.notify("WATCHDOG=1")

    # -- signals

    def reload(self) -> None:
        """SIGHUP: take log level, origins, routes, secrets, token; name the rest that differs."""
        try:
            fresh = self._reload().value
            secrets, token = load_secrets(fresh), load_token(fresh)
            self._routes.reload(fresh, self._plane.reroute)
        except ConfigError as error:
            self._reloads["rejected"] += 1
            for problem in error.problems:
                log.error("configuration rejected, the old one stays: %s", problem)
            return
        self._reloads["applied"] += 1
        changed = differences(self._config, fresh)
        restart = [key for key in changed if not key.startswith(_LIVE)]
        self._secrets, self._token = secrets, token
        self._redact()
        self._verifier.replace_secrets(secrets)
        self._follower.rerouted()
        self._ingest.reload()
        if self._interest is not None:
            self._interest.origins = fresh.origin.urls
        logs.set_level(fresh.log.level)
        log.info("reloaded", extra={"changed": changed, "needs_restart": restart})

    def _dump(self) -> None:
        """SIGUSR1. Told line by line, so that it reads in any log."""
        for line in dump({**self.state(), "fills": self._filler.describe()}):
            log.warning("state %s", line)
        log.warning("state end")

    # -- looks

    def _reasons(self) -> list[str]:
        """Why traffic should go elsewhere; empty: it is welcome."""
        reasons = ["draining"] if self._draining else []
        origins = self._routes.origins
        if origins and not any(origin.breaker.closed for origin in origins):
            reasons.append("no origin is healthy")
        return reasons

    def _gauges(self) -> dict[str, float]:
        return {
            "fills_running": self._filler.running,
            **self._hosting.gauges(),
            **self._overload.gauges(),
            "playlists_followed": len(self._follower),
            **self._receiver.gauges(),
            "push_connections": self._push.connections,
            "admin_connections": self._admin.connections,
            **self._ingest.gauges(),
            "streams_watched": len(self._interest.watch.streams) if self._interest else 0,
            "viewers": sum(self._interest.watch.viewers().values()) if self._interest else 0,
            "uptime_seconds": time.monotonic() - self._started_s,
            **{f"reloads_{how}": number for how, number in self._reloads.items()},
        }

    def state(self) -> State:
        """What the daemon knows now, for people and tools."""
        now = time.monotonic()
        counters = self._plane.counters()
        return {
            "pop": self._config.pop.name,
            "version": __version__,
            "ready": self._reasons(),
            "listening": {name: sockets.shown(items[0]) for name, items in self._sockets.items()},
            "connections": self._hosting.connections(),
            "workers": [
                {name: worker[name] for name in _WORKER} for worker in self._plane.worker_counters()
            ],
            "store": {name: counters[name] for name in counters if name.startswith("store_")},
            "origins": {origin.url: origin.describe() for origin in self._routes.asked},
            "streams": self._interest.describe() if self._interest else {},
            "pushed": {s: round(now - seen, 1) for s, seen in self._receiver.streams.items()},
        }


def serve(loaded: Loaded[EdgeConfig], reload: Reload, given: Given) -> None:
    """Run a daemon until it is asked to stop. Raises StartError, ListenError or ConfigError."""
    import uvloop

    config = loaded.value
    logs.setup(level=config.log.level, fmt=config.log.format)
    gc.collect()  # what was imported stays; looking through it again stops the plane for 15 ms
    gc.freeze()

    async def main() -> None:
        heir = await claim(config.takeover.socket)
        await Daemon(loaded, reload, heir, given, await connect()).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
