"""The way to a host: its name, its addresses, TLS on top.

Law: a name is looked up by one task at a time, off the loop, and nobody waits for that beyond its
own deadline. Addresses count for `resolve_s`; past it they are used on while newer ones are looked
up, and stay when there are none. They are tried in their order, each a moment after the one before
it or once that failed (RFC 8305, in its simple form); where all of them fail the name may have
moved, and is looked up again. Nothing is sent to a host whose certificate is not good. Bounds:
addresses of a name, hosts that are remembered. The caller brings the deadline. Does not know HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar
from urllib.parse import urlsplit

from ..errors import UpstreamError
from ..tls import Client, client

log = logging.getLogger(__name__)

P = TypeVar("P", bound=asyncio.Protocol)
_ADDRESSES: Final = 8
_HOSTS: Final = 64
_HEAD_START_S: Final = 0.25  # RFC 8305 5: recommended
_AGAIN_S: Final = 1.0  # a name that nobody is found under is not looked up more often


Address = tuple[str, int]  # the literal, the port
Made = tuple[asyncio.Transport, P]
Lookup = Callable[[str, int], Awaitable[Sequence[Address]]]


async def look_up(host: str, port: int) -> Sequence[Address]:
    """By the system's resolver, in the loop's threads. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(where[0]), port) for *_, where in found]


class Name:
    """Where `host` is."""

    def __init__(self, host: str, port: int, resolve_s: float, lookup: Lookup) -> None:
        self._host, self._port = host, port
        self._resolve_s = resolve_s
        self._lookup = lookup
        self._known: Sequence[Address] = ()
        self._looked_s = -inf  # monotonic
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    async def addresses(self, *, but: Sequence[Address] = ()) -> list[Address]:
        """Those known, without `but`, which do not answer: who has no other waits for them to be
        looked up. Raises UpstreamError("unresolved")."""
        waits = bool(but) or not self._known
        age_s = monotonic() - self._looked_s
        if self._task is None and age_s >= (_AGAIN_S if waits else self._resolve_s):
            self._task = asyncio.create_task(self._look())
        if self._task is not None and waits:
            await asyncio.shield(self._task)
        if not self._known:
            raise UpstreamError("unresolved", f"{self._host} does not resolve: {self._problem}")
        return [address for address in self._known if address not in but]

    async def _look(self) -> None:
        try:
            found = list(dict.fromkeys(await self._lookup(self._host, self._port)))
            self._problem = "it has no address"
        except OSError as error:
            found, self._problem = [], error.strerror or str(error)
        finally:
            self._task = None
            self._looked_s = monotonic()
        if found:
            self._known = found[:_ADDRESSES]
        elif self._known:
            log.warning(
                "%s does not resolve, its last addresses stay: %s", self._host, self._problem
            )

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Way:
    """`await connect(factory)` as often as wanted."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: Client | None = None,
        resolve_s: float = 30.0,
        lookup: Lookup = look_up,
    ) -> None:
        self._host = host
        self._tls = tls
        self._name = Name(host, port, resolve_s, lookup)

    async def connect(self, factory: Callable[[], P]) -> P:
        """Raises UpstreamError or OSError."""
        try:
            return await self._connect(factory)
        except ssl.SSLError as error:
            raise self._refusal(error) from None

    async def _connect(self, factory: Callable[[], P]) -> P:
        addresses = await self._name.addresses()
        try:
            return await self._first_of(addresses, factory)
        except OSError:
            moved = await self._name.addresses(but=addresses)
            if not moved:
                raise
        return await self._first_of(moved, factory)

    async def _first_of(self, addresses: Sequence[Address], factory: Callable[[], P]) -> P:
        """On the first that answers. Raises OSError, of the last that failed."""
        left = list(addresses)
        tasks: list[asyncio.Task[Made[P]]] = []
        won: Made[P] | None = None
        try:
            pending: set[asyncio.Task[Made[P]]] = set()
            while True:
                if left:
                    tasks.append(asyncio.create_task(self._reach(left.pop(0), factory)))
                    pending.add(tasks[-1])
                done, pending = await asyncio.wait(
                    pending,
                    timeout=_HEAD_START_S if left else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                good = [task for task in done if task.exception() is None]
                if good or not (left or pending):
                    won = (good or [*done])[0].result()
                    return won[1]
        finally:
            for task in tasks:
                task.cancel()
            for other in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(other, tuple) and other is not won:
                    other[0].abort()
            tasks.clear()  # tracebacks of those that failed hold this frame

    async def _reach(self, address: Address, factory: Callable[[], P]) -> Made[P]:
        return await asyncio.get_running_loop().create_connection(
            factory, *address, ssl=self._tls, server_hostname=self._host if self._tls else None
        )

    def _refusal(self, error: ssl.SSLError) -> UpstreamError:
        if isinstance(error, ssl.SSLCertVerificationError):
            told = f"the certificate of {self._host} is refused: {error.verify_message}"
            return UpstreamError("certificate", told)
        return UpstreamError("tls", f"no TLS with {self._host}: {error.reason}")

    def remember(self, transport: asyncio.BaseTransport) -> None:
        """Once the host has answered: where the next connection may begin."""
        if self._tls is not None:
            session = transport.get_extra_info("ssl_object").session
            if session is not None:
                self._tls.sessions[self._host] = session

    def close(self) -> None:
        self._name.close()


class Ways:
    """To hosts that URLs name, which may come from a data centre: the newest are remembered.
    `ca_file`: who may sign their certificates (tls.py). Raises ConfigError."""

    def __init__(self, ca_file: Path | None = None, *, resolve_s: float = 30.0) -> None:
        self._tls = client(ca_file)
        self._resolve_s = resolve_s
        self._known: OrderedDict[tuple[str, str], Way] = OrderedDict()  # by scheme and host:port

    def to(self, url: str) -> Way:
        """Raises UpstreamError("bad_url")."""
        parts = urlsplit(url)
        safe = parts.scheme == "https"
        if not (safe or parts.scheme == "http") or not parts.hostname:
            allowed = "allowed is http://host… or https://host…"
            raise UpstreamError("bad_url", f"found {url!r}, {allowed}", retryable=False)
        name = (parts.scheme, parts.netloc)
        if name not in self._known:
            port = parts.port or (443 if safe else 80)
            tls = self._tls if safe else None
            self._known[name] = Way(parts.hostname, port, tls=tls, resolve_s=self._resolve_s)
            if len(self._known) > _HOSTS:
                self._known.popitem(last=False)[1].close()
        self._known.move_to_end(name)
        return self._known[name]

    def close(self) -> None:
        while self._known:
            self._known.popitem()[1].close()
