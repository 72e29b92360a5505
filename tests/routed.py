"""A route by itself, as the parts that fill by it are given one."""

from __future__ import annotations

from edgecache import config
from edgecache.control.chain import Chain
from edgecache.control.routes import Route
from edgecache.control.upstream import Patience, Upstreams


def route(upstreams: Upstreams, chain: config.Chain | None = None) -> Route:
    parents = Chain(chain or config.Chain(), Patience())
    return Route(config.Route(), upstreams, parents, "edgecache-e-00000000")
