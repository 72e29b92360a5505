"""A route by itself, as the parts that fill by it are given one."""

from __future__ import annotations

from edgecache import sources
from edgecache.control.budget import Extras
from edgecache.control.chain import Chain
from edgecache.control.routes import Route
from edgecache.control.upstream import Patience, Upstreams


def route(upstreams: Upstreams, chain: sources.Chain | None = None) -> Route:
    parents = Chain(chain or sources.Chain(), Patience())
    extras = Extras(retries=20, hedges=5)
    return Route(sources.Route(), upstreams, parents, extras, "edgecache-e-00000000")
