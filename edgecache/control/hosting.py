"""Routes of kind `http`, put together: the shared cache, and the way of its viewers between the
planes.

Law: a connection that is handed over is answered or closed, and what comes back is the data
plane's. Does not know how a request is answered (site.py) nor how one is read (guests.py).
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..config import UPLOADS, EdgeConfig
from ..hosts import host_is_among
from . import access
from .guests import Guests
from .http1 import Limits, Request, Response, refusal
from .routes import Routes
from .shelf import Shelf
from .site import Settings, Site

if TYPE_CHECKING:
    from .._core import Plane

_WRITE_S: Final = 20.0


class Hosting:
    """collect() whenever the data plane rings."""

    def __init__(self, plane: Plane, routes: Routes, config: EdgeConfig) -> None:
        site, http = config.site, config.http
        self._plane = plane
        self.shelf = Shelf(site.memory, variants_max=site.variants)
        self._site = Site(
            lambda target: routes.of(target.encode("latin-1")),
            self.shelf,
            Settings(
                name=config.pop.name,
                id=routes.id,
                object_max=site.object_max,
                first_byte_s=config.origin.blocking / 1000,
                attempts=config.origin.attempts,
                if_error_s=site.stale_if_error / 1000,
            ),
        )
        limits = Limits(
            head_bytes=http.header_max,
            head_fields=http.header_fields,
            body_bytes=site.body_max,
            connections=site.requests,
            body_s=_WRITE_S,
            forwards=True,
        )
        self._hosts = config.hosts()
        self._guests = Guests(self._site.handle, self._give_back, limits, self._judge)
        if config.log.access:
            self._guests.tell = access.tell_served
        self.passed: Callable[[int, bytes, bytes], None] = lambda fd, *_: os.close(fd)
        self.uploads: Callable[[socket.socket, bytes], None] | None = None  # see upload.py

    def connections(self) -> int:
        """Of viewers: at workers, on their way from or to one, and at a request of ours."""
        self.collect()
        return self._plane.open_connections() + len(self._guests)

    def collect(self) -> None:
        """Guests come with a request; who has none is on its way to another process."""
        for fd, head, rest, client in self._plane.guests():
            if self.uploads and head.partition(b" ")[2].startswith(UPLOADS.encode()):
                self.uploads(socket.socket(fileno=fd), head + rest)
            elif head:
                self._guests.take(socket.socket(fileno=fd), head, rest, client)
            else:
                self.passed(fd, rest, client)

    def counts(self) -> Counter[str]:
        return self._site.counts + self._guests.counts

    def gauges(self) -> dict[str, float]:
        return {
            "site_bytes": self.shelf.used,
            "site_responses": len(self.shelf),
            "site_evicted": self.shelf.evicted,
            "site_requests": len(self._guests),
        }

    async def close(self, deadline_s: float) -> None:
        """Before the data plane stops."""
        await self._guests.close(deadline_s)
        await self._site.close()

    def _judge(self, request: Request) -> Response | None:
        """RFC 9110 15.5.20: a name that is not ours; the connection goes on."""
        if host_is_among(request.get("host"), self._hosts):
            return None
        return refusal(421, "Host: this server does not go by that name")

    def _give_back(self, sock: socket.socket, unread: bytes, client: bytes) -> None:
        fd = sock.detach()
        if not self._plane.give_back(fd, unread, client):
            os.close(fd)
