"""The chain: which hosts of ours are asked for a key before the origins.

Law: of the siblings, the hosts of this POP, one owns a key, by rendezvous hash, so that the POP
asks further up once; of the shield's hosts likewise, so that a region asks the origins once. One
that does not answer is passed over for the next in the same order, which is the same on every host.
What came through a cache of ours is not sent to a sibling again, only up. A parent may have to ask
others itself: it gets twice the time to a first byte, and no minimum rate, as long as it shows a
sign of life every `alive_s`, for which its clock is asked. One that a request came back from (508)
is not asked again until this process is told its hosts anew: a playlist that each of two hosts
awaits from the other would never come. Does not know fills or playlists.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

import xxhash

from .. import sources
from ..errors import UpstreamError
from . import clock, policy
from .response import Head
from .upstream import Origin, Patience

log = logging.getLogger(__name__)

_HELD: Final = 8
_OURS: Final = re.compile(r"edgecache-[a-z0-9_-]{1,86}")  # as native/loop.pxd knows it


def identity(name: str) -> str:
    """This process in CDN-Loop (RFC 8586). Hosts of one name are different caches."""
    return f"edgecache-{name}-{secrets.token_hex(4)}"


def ours(loop: str) -> bytes:
    """The caches of ours in a CDN-Loop field, as native/loop.pxd finds them."""
    names = (member.partition(";")[0].strip() for member in loop.split(","))
    return ", ".join(name for name in names if _OURS.fullmatch(name)).encode()


class _Nothing:
    """A Sink: that there is an answer is enough."""

    def head(self, head: Head) -> None: ...

    def data(self, chunk: bytes) -> None: ...


_NOTHING: Final = _Nothing()


class Parent(Origin):
    """A host of ours that is asked before the origins."""

    parent = True
    slack = 2  # it may have to ask others itself

    def __init__(self, url: str, patience: Patience, alive_s: float) -> None:
        super().__init__(url, patience)
        self._alive_s = alive_s
        self._clock = Origin(url, replace(patience, connections=1, connect_s=alive_s))
        self._asking = 0
        self._watch: asyncio.Task[None] | None = None
        self.looped = False

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._asking += 1
        if self._watch is None:
            self._watch = asyncio.create_task(self._feel())
        try:
            async with super()._turn():
                yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._watch.cancel()
                self._watch = None

    async def _feel(self) -> None:
        """While somebody waits: without a sign of life none waits longer."""
        request = b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (clock.KEY, self.host.encode())
        while True:
            await asyncio.sleep(self._alive_s)
            try:
                await self._clock.get(request, _NOTHING, first_byte_s=self._alive_s)
            except UpstreamError:
                self.abandon("silent")

    def _failed(self, error: UpstreamError, status: int) -> None:
        super()._failed(error, status)
        if error.reason == "loop" and not self.looped:
            self.looped = True
            log.error("the chain is a circle: %s asks this host, and is asked no more", self.url)

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "looped": self.looped}

    async def close(self) -> None:
        await self._clock.close()
        await super().close()


def ranked(urls: Sequence[str], key: bytes) -> list[str]:
    """The same order for a key wherever the same hosts are named (rendezvous hashing)."""
    return sorted(urls, key=lambda url: xxhash.xxh3_64_intdigest(url.encode() + b" " + key))


class Chain:
    """The parents of this host."""

    def __init__(self, settings: sources.Chain, patience: Patience) -> None:
        # One failure, and it is left alone for a while: there is always somebody else to ask. It
        # holds what it has to ask for itself, so more requests are open than at an origin.
        patience = replace(
            patience,
            failures=1,
            status_fails=False,
            min_rate=0,
            connections=_HELD * patience.connections,
        )
        self._host = settings.host
        self._siblings = settings.siblings
        self._shield = settings.shield
        named = (*settings.siblings, *settings.shield)
        self._known = {
            url: Parent(url, patience, settings.alive / 1000)
            for url in named
            if url != settings.host
        }

    @property
    def parents(self) -> tuple[Parent, ...]:
        return tuple(self._known.values())

    def of(self, key: bytes, loop: bytes) -> list[Parent]:
        """Who is asked for `key`, one after the other. `loop`: the caches of ours that the request
        came through."""
        name = policy.playlist_name(key)  # its versions belong together
        found: list[str] = []
        for url in [] if loop else ranked(self._siblings, name):
            if url == self._host:
                break  # those behind would ask this host
            found.append(url)
        parents = (self._known[url] for url in (*found, *ranked(self._shield, name)))
        return [parent for parent in parents if not parent.looped]

    async def close(self) -> None:
        for parent in self._known.values():
            await parent.close()
