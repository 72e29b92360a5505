"""The data centre: builds every part from the configuration; start, reload, drain, stop in order.

Laws: what can be wrong is found before anything starts, and is one line. SIGTERM: no new work,
every publisher and ffmpeg ended (ENDLIST), queues given `http.drain` to be acknowledged, waiters
released, the disk's queue written; then exit 0. A second SIGTERM waits for nothing that can be left
out. SIGHUP applies what it can, says what needs a restart, and keeps everything when the new
configuration is wrong. Owns the loop and all parts; knows nothing of their insides.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import uvloop
from aiohttp import web

from edgecache import logs, signing
from edgecache.errors import ConfigError
from edgecache.settings import Loaded, differences

from . import hardware, heap, sandbox
from .admin import Admin
from .api import Pull, guard
from .archive.keeper import Keeper, open_keeper
from .catalog import RecordingRow
from .catalogs import open_shared
from .config import Config
from .control import BODY_MAX, Control
from .disk import Disk
from .doors import listen, open_door
from .encoding import settings_of, slate_of, timing_of
from .ffmpeg import Ffmpeg
from .hiring import Hiring, reached_at
from .hooks import Hooks
from .ingest import Ingest
from .keydoor import KeyDoor
from .ledger import Ledger
from .lookout import Lookout
from .metrics import Answers, OriginCollector
from .model import PartObject, Publication
from .notes import Notes
from .overview import Overview
from .page import Pages
from .publishers import Publishers
from .pusher import PopPusher, limits_of
from .recordings import Keeping, Recordings
from .resume import Reach, take_up
from .secretfiles import admin_token, secrets_of
from .srt import SrtDoor
from .store import Store
from .subscriptions import Subscriptions, hot_of
from .whip import WhipDoor
from .workdoor import WorkDoor

log = logging.getLogger(__name__)

_APPLIED: Final = ("log.level", "keys.", "pops.")  # by a reload

Reload = Callable[[], Loaded[Config]]


class Origin:
    """One data centre. `start`, then `stop`; or `run`, which does both around the signals. Raises
    ConfigError, CatalogError and StartError."""

    def __init__(self, config: Config, *, ffmpeg: Ffmpeg | None = None) -> None:
        self._config = config
        settings = settings_of(config)
        self._secrets = secrets_of(config)
        self._token = admin_token(config)
        self._hooks = Hooks(config)
        self._redact()
        self._ffmpeg = ffmpeg or hardware.find(config.encoder)
        shared = open_shared(config, cached=True)
        self._catalog = shared.catalog
        self._hiring = Hiring(shared.live, lambda: reached_at(config, self.port))
        self._notes = Notes(self._catalog)
        self._publishers = Publishers(self._catalog.opens)
        self._drain_s = config.http.drain / 1000
        self._draining = False
        self._answers: Answers = Counter()
        self._ledger = Ledger()
        self._verifier = signing.Verifier(self._secrets)
        self._disk = self._open_disk()
        self.store = Store(
            disk=self._disk,
            archive_s=max(0, config.live.dvr - config.live.window) / 1000,
            ended_max=config.live.ended,
            recorded=self._recorded,
        )
        self._subscriptions = Subscriptions(make=self._make_pusher, live=self._live)
        self._keeper: Keeper | None = open_keeper(
            config,
            timing=timing_of(settings),
            ffmpeg=self._ffmpeg,
            catalog=self._catalog,
            jobs=shared.jobs,
            release=self._release,
            purge=self._purge,
            ready=self._hooks.recorded,
        )
        self._ingest = Ingest(
            settings=replace(settings, finder=self._hiring),
            ffmpeg=self._ffmpeg,
            publish=self.publish,
            on_state=self._turned,
            pushed=lambda: self._subscriptions.settled(self._drain_s),
            record=self._disk.record if self._disk and config.live.resume else None,
            had=self._notes,
            streams=config.encoder.streams,
            takeover=config.live.takeover,
            slate=slate_of(config),
            resume_s=config.live.resume / 1000,
        )
        catch_up = self._keeper.catch_up if self._keeper else None
        self._lookout = Lookout(self._catalog, self._publishers, self._ingest, catch_up)
        self._srt = SrtDoor(
            config, ingest=self._ingest, publishers=self._publishers, open_key=self._catalog.open
        )
        self._whip = WhipDoor(config, self._ingest, self._publishers, self._ffmpeg)
        self._runner: web.AppRunner | None = None
        self._admin: web.AppRunner | None = None
        self.port = self.admin_port = 0

    # -- parts

    def _redact(self) -> None:
        for secret in (*self._secrets.values(), self._token.encode()):
            logs.redact(secret.decode("latin-1"))

    def _sign(self, method: str, target: str, fields: Iterable[tuple[str, str]]) -> str:
        """With the first key; without any, what is sent cannot be believed by anybody."""
        kid, secret = next(iter(self._secrets.items()), ("none", b""))
        return signing.sign(method, target, fields, kid=kid, secret=secret)

    def _open_disk(self) -> Disk | None:
        if self._config.data.dir is None:
            return None
        return Disk(
            self._config.data.dir / "window",
            queue_bytes=self._config.data.queue,
            on_written=self._on_written,
        )

    def _make_pusher(self, name: str, url: str) -> PopPusher:
        push = self._config.push
        return PopPusher(
            name,
            url,
            sign=self._sign,
            backfill=functools.partial(self.store.backfill, segments=push.backfill),
            continues=self._ingest.continues,
            epoch=self._ingest.epoch,
            superseded=self._ingest.let_go,
            gone=self._catalog.gone,
            limits=limits_of(self._config),
        )

    def _live(self) -> list[str]:
        found = (window.stream for window in self.store.streams() if not window.ended)
        return [stream for stream in found if not self._ingest.dormant(stream)]

    def _overview(self) -> Overview:
        return Overview(
            store=self.store,
            catalog=self._catalog,
            subscriptions=self._subscriptions,
            ingest=self._ingest,
        )

    def _public(self) -> web.Application:
        control = Control(
            store=self.store,
            catalog=self._catalog,
            subscriptions=self._subscriptions,
            ingest=self._ingest,
            publishers=self._publishers,
            verifier=self._verifier,
            public=self._config.http.public,
            srt=self._srt.places,
            whip=self._whip,
            forbids=self._hooks.forbids,
            overview=self._overview(),
            ready=lambda: not self._draining,
        )
        app = web.Application(middlewares=[guard(self._answers)], client_max_size=BODY_MAX)
        library = self._keeper.library if self._keeper else None
        app.add_routes(Pull(self.store, Pages(), library).routes())
        app.add_routes(control.routes())
        app.add_routes(WorkDoor(self._ingest.stream, self._verifier).routes())
        if library:
            app.add_routes(Recordings(library).routes())
        return app

    def _operators(self) -> web.Application:
        parts = self.store, self._subscriptions, self._answers, self._ledger, self._ingest
        collector = OriginCollector(
            *parts, self._hooks.counters, self._hiring.counters, self._keeper
        )
        admin = Admin(
            overview=self._overview(),
            ready=lambda: not self._draining,
            scrape=collector.render,
            stream=self._ingest.stream,
            hosts=frozenset((self._config.admin.listen.rpartition(":")[0],)),
            token=self._token,
        )
        app = web.Application(middlewares=[guard(self._answers), admin.check])
        app.add_routes(admin.routes())
        keys = KeyDoor(self._catalog, guarded=bool(self._token), look=self._publishers.look)
        app.add_routes(keys.routes())
        if self._keeper:
            app.add_routes(Keeping(self._keeper).routes())
        return app

    # -- what flows

    def publish(self, stream: str, publication: Publication) -> None:
        """The one way from the encoding half to everybody: stored first, then pushed."""
        self.store.add(stream, publication)
        if not self._ingest.dormant(stream):
            self._subscriptions.publish(stream, publication)
        if self._keeper:
            self._keeper.add(stream, publication)
        if isinstance(publication, PartObject) and publication.hops is not None:
            self._ledger.add(publication.track, publication.hops)

    def _recorded(self, stream: str) -> bool:
        return self._keeper is not None and self._keeper.shows(stream)

    def _turned(self, stream: str, state: Literal["live", "ended"]) -> None:
        self._notes.set_state(stream, state, self._ingest.epoch(stream))
        self._hooks.turned(stream, state, self._ingest.describe(stream).get("publisher"))

    def _release(self, row: RecordingRow) -> None:
        """A recording takes over from what was left of the live window."""
        gone = self.store.release(row.stream, began_s=row.began_s, kept_s=row.kept_s)
        if not self._ingest.dormant(row.stream):
            self._subscriptions.remove(row.stream, gone, row.epoch)

    def _purge(self, stream: str, paths: Iterable[str]) -> None:
        """A recording is gone; what stands under the playlists' paths may be a live stream's."""
        live = self.store.state(stream) == "live"
        self._subscriptions.remove(stream, [p for p in paths if p.endswith("/") or not live])

    def _on_written(self, stream: str, files: list[tuple[str, Path]]) -> None:
        """Called by the writer's thread, perhaps after the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.store.to_files, stream, files)

    # -- life

    async def start(self) -> None:
        """Serve. Raises StartError when an address is taken."""
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as held:
            listener = held.enter_context(listen("http.listen", self._config.http.listen))
            where = self._config.admin.listen
            operators = held.enter_context(listen("admin.listen", where)) if where else None
            held.pop_all()
        self._notes.start(self._resume())
        self._lookout.start()
        self._hooks.start()
        if operators:
            self.admin_port = operators.getsockname()[1]
            self._admin = await open_door(self._operators(), operators, shutdown_s=0.1)
        await self._srt.start()
        await self._whip.start()
        self.port = listener.getsockname()[1]
        self._runner = await open_door(self._public(), listener, shutdown_s=self._drain_s)
        self._subscriptions.start(hot_of(self._config))
        if self._keeper:
            self._keeper.start()
        told = {"port": self.port, "admin_port": self.admin_port, "ffmpeg": str(self._ffmpeg)}
        log.info("serving", extra={**told, "netless": "--net" in sandbox.prefix()})
        if not self._secrets:
            log.warning("keys: none, so nobody can publish or subscribe")

    def _resume(self) -> list[str]:
        """Go on with what an earlier process left, or end it. Returns the streams that live."""
        live, disk = self._config.live, self._disk
        reach = Reach(window_s=live.window / 1000, dvr_s=live.dvr / 1000)
        found = []
        for stream in disk.interrupted() if disk else ():
            assert disk is not None
            try:
                taken = take_up(disk, stream, reach)
            except (ValueError, LookupError, TypeError, OSError) as error:
                log.warning("not to be resumed, forgotten: %r", error, extra={"stream": stream})
                disk.forget(stream)
                continue
            self.store.restore(taken.window)
            if self._keeper:
                self._keeper.resume(stream, taken.window, taken.presentation.timeline)
            age_s = taken.age_s
            log.info("resumed", extra={"stream": stream, "age_s": round(age_s, 1)})
            if age_s <= live.resume / 1000 and self._ingest.resume(stream, taken):
                found.append(stream)
                continue
            for publication in (*taken.publications, *taken.presentation.end()):
                self.publish(stream, publication)
        return found

    async def stop(self) -> None:
        """Everything ended, in order; bounded by `http.drain` and the encoders. Idempotent."""
        if self._draining:
            return
        self._draining = True
        log.info("draining")
        await self._lookout.stop()
        if self._runner:
            await asyncio.gather(*(site.stop() for site in self._runner.sites))
            await asyncio.gather(self._srt.stop(), self._whip.stop())
            await self._ingest.hand_over(self._drain_s)
            await self._ingest.stop()
            await self._hiring.stop()
            await self._subscriptions.stop(self._drain_s)
            await self._hooks.stop(self._drain_s)
            if self._keeper:
                await self._keeper.stop()
        self.store.close()
        for runner in (self._runner, self._admin):  # operators may watch until the end
            if runner:
                await runner.cleanup()
        await asyncio.to_thread(self._close)
        log.info("stopped")

    def _close(self) -> None:
        self._notes.close()
        if self._keeper:
            self._keeper.close()
        if self._disk:
            self._disk.close()
        self._catalog.close()

    async def run(self, reload: Reload) -> None:
        """Until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()

        def stop() -> None:
            if asked.is_set():
                self._drain_s = 0.0
            asked.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload, reload)
        try:
            await self.start()
            await asked.wait()
        finally:
            await self.stop()

    def reload(self, reload: Reload) -> None:
        """Take log level, keys and POPs; name the rest that differs."""
        try:
            fresh = reload().value
            secrets = secrets_of(fresh)
        except ConfigError as error:
            for problem in error.problems:
                log.error("configuration rejected, the old one stays: %s", problem)
            return
        changed = differences(self._config, fresh)
        self._secrets = secrets
        self._redact()
        self._verifier.replace_secrets(secrets)
        self._subscriptions.configure(hot_of(fresh))
        logs.set_level(fresh.log.level)
        restart = [key for key in changed if not key.startswith(_APPLIED)]
        log.info("reloaded", extra={"changed": changed, "needs_restart": restart})


def serve(loaded: Loaded[Config], reload: Reload) -> None:
    """Run until asked to stop. Raises ConfigError or StartError."""
    config = loaded.value
    logs.setup(level=config.log.level, fmt=config.log.format)
    heap.settle()
    gc.collect()  # what was imported stays; looking through it again stops every stream for 15 ms
    gc.freeze()

    async def main() -> None:
        await Origin(config).run(reload)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
