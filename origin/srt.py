"""Publishers over SRT: judged by stream id, then MPEG-TS into their streams like any other body.

Laws: a caller is refused before it is accepted, by a code that it shows; what a key may do, and how
a second publisher is met, is what holds for everybody (`Ingest.check`). One thread waits for
callers and one for each caller's messages; all else is on the loop. Bounds: callers as Ingest
allows publishers, the bytes of each that wait for the loop (then libsrt's own buffer fills, and
drops what is too late), the time that libsrt waits for a judgement. Keys are never logged. Without
the library nothing is listened on, and one line says what to install.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Final

from edgecache import srt

from . import libsrt
from .catalog import Opened
from .config import Config
from .doors import StartError
from .ingest import Ingest
from .libsrt import Caller, LibraryError, Listener, Verdict
from .publishers import Publishers
from .receive import RefusedError
from .secretfiles import passphrases_of

log = logging.getLogger(__name__)

_JUDGE_S: Final = 1.0
_STOP_S: Final = 3.0
_WAITING_BYTES: Final = 1 << 20
_CONTAINER: Final = "mpegts"
_SAID: Final = 1000  # SRT's codes are HTTP's, and this


class SrtDoor:
    """`start`, then `stop`. open_key: what a key opens, or None. Raises
    ConfigError for a passphrase that cannot be used."""

    def __init__(
        self,
        config: Config,
        *,
        ingest: Ingest,
        publishers: Publishers,
        open_key: Callable[[str], Opened | None],
    ) -> None:
        self._settings = config.srt
        self._passphrases = passphrases_of(config)
        self._ingest = ingest
        self._publishers = publishers
        self._open_key = open_key
        self._listener: Listener | None = None
        self._acceptor: threading.Thread | None = None
        self._serving: dict[asyncio.Task[None], Caller] = {}
        self._stopping = False
        self.port = 0
        self._counts = ingest.counts  # srt.accepted, srt.closed, srt.rejected.<code>

    def places(self, host: str) -> list[str]:
        """Where POPs that asked at `host` may route publishers to; none while it is closed."""
        host = f"[{host}]" if ":" in host else host
        return [self._settings.public or f"{host}:{self.port}"] if self.port else []

    async def start(self) -> None:
        """Listen, if the library is there. Raises StartError when the address is taken."""
        self._loop = asyncio.get_running_loop()
        listen = self._settings.listen
        if not listen:
            return
        try:
            library = libsrt.load()
        except LibraryError as error:
            log.error("srt.listen: no SRT, the rest is served: %s", error)
            return
        host, _, port = listen.rpartition(":")
        latency_ms = self._settings.latency
        try:
            self._listener = Listener(
                library, host.strip("[]"), int(port), latency_ms=latency_ms, judge=self._asked
            )
        except LibraryError as error:
            text = f"srt.listen: found {listen}, which cannot be listened on: {error}"
            raise StartError(text) from None
        self.port = self._listener.port
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), name="srt")
        self._acceptor.start()
        log.info("serving SRT", extra={"port": self.port})

    async def stop(self) -> None:
        """Every caller told and gone. Idempotent."""
        self._stopping = True
        listener, self._listener = self._listener, None
        if listener is None:
            return
        await asyncio.to_thread(listener.close)
        serving = dict(self._serving)
        for caller in serving.values():  # their bodies end, and what they sent is put out
            await asyncio.to_thread(caller.close)
        if serving:
            await asyncio.wait(serving, timeout=_STOP_S)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        if self._acceptor is not None:
            await asyncio.to_thread(self._acceptor.join)
        await asyncio.to_thread(listener.release)

    # -- on threads of libsrt and of ours

    def _asked(self, stream_id: str) -> Verdict:
        async def judged() -> Verdict:
            return self._judge(stream_id)[1]

        asked = asyncio.run_coroutine_threadsafe(judged(), self._loop)
        try:
            return asked.result(_JUDGE_S)
        except TimeoutError:
            asked.cancel()
            return Verdict(srt.DOWN)

    def _accept(self, listener: Listener) -> None:
        while caller := listener.accept():
            self._loop.call_soon_threadsafe(self._enter, caller)

    # -- on the loop

    def _judge(self, stream_id: str) -> tuple[Opened, Verdict]:
        """(stream and key, what to do with who asks for it)."""
        verdict = Verdict(srt.UNAUTHORIZED)
        opened = Opened("", "")
        try:
            wish = srt.wish(stream_id)
            opened = self._open_key(wish.key) or opened
            if stream := opened.stream:
                self._check(stream, wish)
                others = self._passphrases.get("default", b"")
                verdict = Verdict(0, self._passphrases.get(stream, others))
        except srt.StreamIdError as error:
            verdict = Verdict(error.code)
        except RefusedError as error:
            verdict = Verdict(_SAID + error.status)
        if verdict.code:
            self._counts[f"srt.rejected.{verdict.code}"] += 1
            log.warning(
                "SRT publisher rejected", extra={"stream": opened.stream, "code": verdict.code}
            )
        return opened, verdict

    def _check(self, stream: str, wish: srt.Wish) -> None:
        if wish.stream not in (None, stream):
            raise srt.StreamIdError(srt.NOT_FOUND, "the key is another stream's")
        if self._stopping:
            raise RefusedError(503, "the origin is going away")
        self._ingest.check(stream)

    def _enter(self, caller: Caller) -> None:
        if self._stopping:
            caller.close()
            return
        task = self._loop.create_task(self._serve(caller))
        self._serving[task] = caller
        task.add_done_callback(self._serving.pop)

    async def _serve(self, caller: Caller) -> None:
        self._counts["srt.accepted"] += 1
        body: _Body | None = None
        try:
            opened, verdict = self._judge(caller.stream_id())  # it may have lost its right by now
            if not verdict.code:
                body = _Body(caller)
                with self._publishers.enter(opened.stream, opened.key_id, body):
                    await self._ingest.serve(
                        opened.stream, body, publisher=caller.address, container=_CONTAINER
                    )
        except RefusedError as error:
            log.warning("SRT publisher ended", extra={"stream": opened.stream, "why": error.reason})
        finally:
            await asyncio.to_thread(caller.close)
            if body is not None:
                await asyncio.to_thread(body.join)
            self._counts["srt.closed"] += 1


class _Body:
    """A caller's messages as they come, joined."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._room = threading.Condition()
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._over = False
        self._abandoned = False
        self._fresh = asyncio.Event()
        self._thread = threading.Thread(target=self._read, name="srt-read")
        self._thread.start()

    async def iter_any(self) -> AsyncIterator[bytes]:
        over = False
        while not over:
            await self._fresh.wait()
            self._fresh.clear()
            with self._room:
                data, self._chunks, self._waiting_bytes = b"".join(self._chunks), [], 0
                over = self._over
                self._room.notify()
            if data:
                yield data

    def set_exception(self, exc: BaseException) -> None:  # noqa: ARG002
        """It ends here; SRT has no word for why."""
        self._over = True
        self._fresh.set()

    def join(self) -> None:
        """After `close` of the caller."""
        with self._room:
            self._abandoned = True
            self._room.notify()
        self._thread.join()

    def _read(self) -> None:
        while data := self._caller.read():
            self._put(data)
        with self._room:
            self._over = True
        self._loop.call_soon_threadsafe(self._fresh.set)

    def _put(self, data: bytes) -> None:
        with self._room:
            self._room.wait_for(lambda: self._abandoned or self._waiting_bytes < _WAITING_BYTES)
            self._chunks.append(data)
            self._waiting_bytes += len(data)
            first = len(self._chunks) == 1
        if first:
            self._loop.call_soon_threadsafe(self._fresh.set)
