"""The connection to a NATS server: one thread with a loop of its own, for as long as it is wanted.

Laws: a connection that is lost is not mended but made anew, after a back-off, so that whoever
watches something begins from what is there (`each`). Everybody else's call is made on that loop and
ends in bounded time: AwayError says that there is no server now, once in the log. `nats` is
imported only here and in what stands on this, and only when it is configured. Does not know what it
carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .rows import AwayError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

log = logging.getLogger(__name__)

_CALL_S: Final = 3.0
_CONNECT_S: Final = 2.0
_PING_S: Final = 2.0  # two without an answer end the connection
_BACKOFF_S: Final = 0.1
_BACKOFF_MAX_S: Final = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsPlace:
    """Where the server is, and what is ours there: `bucket` begins every name. replicas: of what is
    stored, in a cluster."""

    urls: tuple[str, ...]
    token: str = ""
    bucket: str = "edgecache"
    replicas: int = 1


class NatsLink:
    """`each(jetstream)` is run on every connection, and is cancelled with it. start(), then
    close()."""

    def __init__(
        self, place: NatsPlace, each: Callable[[JetStreamContext], Awaitable[None]]
    ) -> None:
        self.place = place
        self._each = each
        self._js: JetStreamContext | None = None
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self.fault = ""  # why there is no connection
        self.tried = threading.Event()  # and then there is one, or a fault
        self._thread = threading.Thread(target=self._run, name="nats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def call(self, ask: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """What it answers; on any thread but the link's. Raises AwayError, and what `ask`
        raises."""
        return asyncio.run_coroutine_threadsafe(self._ask(ask), self._loop).result()

    async def ask(self, ask: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """The same, on the loop of whoever calls."""
        future = asyncio.run_coroutine_threadsafe(self._ask(ask), self._loop)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Idempotent."""
        with contextlib.suppress(RuntimeError):  # closed before
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    # -- the link's thread

    def _run(self) -> None:
        runner = asyncio.Runner(loop_factory=lambda: self._loop)
        with runner:
            runner.run(self._main())

    async def _main(self) -> None:
        work = asyncio.create_task(self._keep())
        await self._over.wait()
        work.cancel()
        await asyncio.wait([work])

    async def _ask(self, ask: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        import nats.errors

        js = self._js
        if js is None:
            raise AwayError(self._gone, logged=True)
        try:
            async with asyncio.timeout(_CALL_S):
                return await ask(js)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            if _is_answer(error):
                raise
            # the session says that it is lost, perhaps only after whoever was asking has heard it
            lost = js is not self._js or isinstance(error, nats.errors.ConnectionClosedError)
            raise AwayError(f"{self._gone}: {error or 'in time'}", logged=lost) from None

    @property
    def _gone(self) -> str:
        return f"the catalogue's server at {', '.join(self.place.urls)} does not answer"

    async def _keep(self) -> None:
        backoff_s = _BACKOFF_S
        while True:
            reason = "the connection was lost"
            try:
                await self._session()
                backoff_s = _BACKOFF_S
            except Exception as error:  # whatever it is, the next connection begins anew
                reason = str(error) or repr(error)
            self._lost(reason)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    def _lost(self, reason: str) -> None:
        """The first time of all is the opener's to tell."""
        if self.tried.is_set() and not self.fault:
            log.error("%s, going on with what is known: %s", self._gone, reason)
        self.fault = reason
        self.tried.set()

    async def _session(self) -> None:
        """One connection, until it is lost. Raises what keeps it from being made."""
        from nats.aio.client import Client

        client, lost = Client(), asyncio.Event()
        try:
            await self._connect(client, lost)
            self._js = client.jetstream(timeout=_CALL_S)
            work = asyncio.ensure_future(self._each(self._js))
            ended = asyncio.ensure_future(lost.wait())
            try:
                await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
            finally:
                self._js = None
                for task in (work, ended):
                    task.cancel()
                await asyncio.gather(work, ended, return_exceptions=True)
        finally:
            with contextlib.suppress(Exception):  # it may be gone already
                await client.close()

    async def _connect(self, client: Client, lost: asyncio.Event) -> None:
        async def over() -> None:
            lost.set()

        async def quiet(_: Exception) -> None:
            """What matters ends the connection."""

        await client.connect(
            list(self.place.urls),
            allow_reconnect=False,
            connect_timeout=round(_CONNECT_S),
            max_reconnect_attempts=1,  # of each URL, before it says that there is none
            reconnect_time_wait=0,
            ping_interval=round(_PING_S),
            max_outstanding_pings=2,
            disconnected_cb=over,
            closed_cb=over,
            error_cb=quiet,
            token=self.place.token or None,
        )

    def is_up(self) -> None:
        """`each` has what it needs."""
        if self.fault:
            self.fault = ""
            log.info("the catalogue's server is back")
        self.tried.set()


def _is_answer(error: BaseException) -> bool:
    """Did the server say something that the caller asked for?"""
    from nats.js.errors import APIError, ServiceUnavailableError

    return isinstance(error, APIError) and not isinstance(error, ServiceUnavailableError)
