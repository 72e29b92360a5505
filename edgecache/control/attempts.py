"""Whom a fill asks, and whom after a failure: parents in their order, each once, then the origins.

Law: an open breaker is passed over. What a parent answers is final unless it is about the parent
itself, for it has asked already; an origin that hung or failed is not asked again for the same
object (reliability.md R3). Bound: `attempts` of the origins. Does not know requests or bodies.
"""

from __future__ import annotations

from time import monotonic

from ..errors import UpstreamError
from . import policy
from .routes import Route
from .upstream import Origin


class Attempts:
    """next() until it works or there is nobody left; failed() in between."""

    def __init__(self, route: Route, key: bytes, loop: bytes, limit: int) -> None:
        self._upstreams = route.upstreams
        self._parents = route.parents(key, loop)
        self._left = limit
        self._tried: list[Origin] = []
        self._avoid: list[Origin] = []

    def next(self) -> Origin | None:
        while self._parents:
            parent = self._parents.pop(0)
            if parent.breaker.allow(monotonic()):
                return parent
        origin = self._upstreams.pick(self._avoid) if self._left else None
        if origin is not None:
            self._left -= 1
            self._tried.append(origin)
        return origin

    def failed(self, origin: Origin, error: UpstreamError, *, began: bool) -> None:
        if not origin.parent:
            elsewhere = policy.tries_elsewhere(error.reason, began=began)
            self._avoid = self._tried if elsewhere else []
