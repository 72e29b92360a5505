"""Routes: which origins a key comes from, through which parents, and by which rules.

Law: the longest prefix that fits decides, in the order the core keeps query parameters by
(native/keep.pxd). An origin that several routes name is one pool and one breaker. Knows nothing of
fills or playlists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from .. import sources
from ..config import EdgeConfig
from ..errors import ConfigError
from .budget import Extras
from .chain import Chain, identity
from .upstream import Origin, Patience, Upstreams

Keep = list[tuple[bytes, list[bytes]]]


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
            silence_s=origin.silence / 1000,
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
        self._patience = patience
        self._pool: dict[str, Origin] = {}
        # a site's 5xx is its answer, and a page that cuts is that page: they say nothing about the
        # origin's other resources
        self._sites: dict[str, Origin] = {}
        self._site_patience = replace(patience, status_fails=False, cut_fails=False, min_rate=0)
        self._default = Upstreams(origin.urls, patience, self._pool)
        self._default_site = Upstreams(origin.urls, self._site_patience, self._sites)
        self._routes: tuple[Route, ...] = ()
        self._routes = self._made(settings)

    def _made(self, settings: EdgeConfig) -> tuple[Route, ...]:
        """A route that is as it was stays the same object."""
        had = {route.rules: route for route in self._routes}
        return tuple(had.get(rules) or self._new(rules) for rules in settings.routes())

    def _new(self, rules: sources.Route) -> Route:
        site = rules.kind == "http"
        upstreams = self._default_site if site else self._default
        if rules.origins:
            patience, pool = (
                (self._site_patience, self._sites) if site else (self._patience, self._pool)
            )
            upstreams = Upstreams(rules.origins, patience, pool)
        return Route(rules, upstreams, self._chain, self.extras, self.id)

    def reload(self, settings: EdgeConfig, reroute: Callable[[Keep, list[bytes]], bool]) -> None:
        """`origin.urls`, `origin.kind` and `route` may have changed; who is asked already stays so.
        `reroute` tells the core; if that is not possible now, nothing changes. Raises
        ConfigError."""
        made = self._made(settings)
        if not reroute(_keep(made), _sites(made)):
            raise ConfigError(["route: the workers are still busy with the last change"])
        for default in (self._default, self._default_site):
            default.replace(settings.origin.urls)
        self._routes = made

    def of(self, key: bytes) -> Route:
        """The route of a canonical key."""
        path = key.decode("latin-1")
        return next(route for route in self._routes if path.startswith(route.rules.prefix))

    def asks(self, key: bytes) -> list[str]:
        """Whom a miss of a viewer is asked of, one after the other while they fail."""
        route = self.of(key)
        return [origin.url for origin in (*route.parents(key, b""), *route.upstreams.origins)]

    def keep(self) -> Keep:
        """For the core: prefix and the query parameters that are part of a key below it."""
        return _keep(self._routes)

    def sites(self) -> list[bytes]:
        """For the core: prefixes whose requests are handed over."""
        return _sites(self._routes)

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

    async def close(self) -> None:
        for origin in (*self._chain.parents, *self._pool.values(), *self._sites.values()):
            await origin.close()


def _keep(routes: Iterable[Route]) -> Keep:
    return [
        (route.rules.prefix.encode(), [name.encode() for name in route.rules.query])
        for route in routes
    ]


def _sites(routes: Iterable[Route]) -> list[bytes]:
    return [route.rules.prefix.encode() for route in routes if route.rules.kind == "http"]
