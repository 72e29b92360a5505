"""Routes: which origins a key comes from, through which parents, and by which rules.

Law: the longest prefix that fits decides, in the order the core keeps query parameters by
(native/keep.pxd). An origin that several routes name is one pool and one breaker. Knows nothing of
fills or playlists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from .. import sources
from ..config import EdgeConfig
from .budget import Extras
from .chain import Chain, identity
from .upstream import Origin, Patience, Upstreams


@dataclass(frozen=True)
class Route:
    """`extras`: shared by all routes. `id`: this process, for CDN-Loop."""

    rules: sources.Route
    upstreams: Upstreams
    chain: Chain
    extras: Extras
    id: str

    def parents(self, key: bytes, loop: bytes) -> list[Origin]:
        """Who is asked before the origins. `loop`: the caches that the request came through."""
        return [*self.chain.of(key, loop)]

    def via(self, loop: bytes) -> str:
        """CDN-Loop of a request to any of them."""
        return f"{loop.decode()}, {self.id}" if loop else self.id

    def at(self, url: str) -> tuple[Origin, str] | None:
        """Which of our origins an absolute URL is at, and its path and query; None: somebody
        else's."""
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        origin = next((found for found in self.upstreams.origins if found.url == base), None)
        if origin is None:
            return None
        return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class Routes:
    """The configured routes and their origins."""

    def __init__(self, settings: EdgeConfig) -> None:
        origin = settings.origin
        patience = Patience(
            connect_s=origin.connect / 1000,
            min_rate=origin.min_rate,
            idle_s=origin.idle / 1000,
            connections=origin.connections,
            failures=origin.breaker_failures,
            open_s=origin.breaker_open / 1000,
            resolve_s=origin.resolve / 1000,
            ca_file=origin.ca_file,
        )
        self.id = identity(settings.pop.name)
        self._chain = Chain(settings.chain, patience)
        self.extras = Extras(retries=origin.retries, hedges=origin.hedges)
        pool: dict[str, Origin] = {}
        # a site's 5xx is its answer, and a page that cuts is that page: they say nothing about the
        # origin's other resources
        sites: dict[str, Origin] = {}
        site_patience = replace(patience, status_fails=False, cut_fails=False, min_rate=0)
        self._default = Upstreams(origin.urls, patience, pool)
        self._routes = tuple(
            Route(
                rules,
                Upstreams(rules.origins or origin.urls, site_patience, sites)
                if rules.kind == "http"
                else Upstreams(rules.origins, patience, pool)
                if rules.origins
                else self._default,
                self._chain,
                self.extras,
                self.id,
            )
            for rules in settings.routes()
        )

    def of(self, key: bytes) -> Route:
        """The route of a canonical key."""
        path = key.decode("latin-1")
        return next(route for route in self._routes if path.startswith(route.rules.prefix))

    def asks(self, key: bytes) -> list[str]:
        """Whom a miss of a viewer is asked of, one after the other while they fail."""
        route = self.of(key)
        return [origin.url for origin in (*route.parents(key, b""), *route.upstreams.origins)]

    def keep(self) -> list[tuple[bytes, list[bytes]]]:
        """For the core: prefix and the query parameters that are part of a key below it."""
        return [
            (route.rules.prefix.encode(), [name.encode() for name in route.rules.query])
            for route in self._routes
        ]

    def sites(self) -> list[bytes]:
        """For the core: prefixes whose requests are handed over."""
        return [route.rules.prefix.encode() for route in self._routes if route.rules.kind == "http"]

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Each once, those of `origin.urls` first."""
        named = [*self._default.origins]
        for route in self._routes:
            named += [origin for origin in route.upstreams.origins if origin not in named]
        return tuple(named)

    @property
    def asked(self) -> tuple[Origin, ...]:
        """Everybody who may be asked: parents, then origins."""
        return (*self._chain.parents, *self.origins)

    def replace(self, urls: Sequence[str]) -> None:
        """`origin.urls` was changed."""
        self._default.replace(urls)

    async def close(self) -> None:
        for origin in self.asked:
            await origin.close()
