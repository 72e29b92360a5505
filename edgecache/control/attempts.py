"""Whom a fill asks, and whom after a failure: parents in their order, each once, then the origins.

Law: an open breaker is passed over. What a parent answers is final unless it is about the parent
itself, for it has asked already; an origin that hung or failed is not asked again for the same
object (reliability.md R3). Bounds: `attempts` of the origins, and the budget that all fills share
for asking again before anything came; what was cut is continued without it. A hedge goes from
origin to origin, never past a parent, or it would undo what the chain is for. Does not know
requests or bodies.
"""

from __future__ import annotations

from time import monotonic

from ..errors import UpstreamError
from . import policy
from .routes import Route
from .upstream import Origin


class Attempts:
    """next() until it works or there is nobody left; failed() in between."""

    def __init__(
        self, route: Route, key: bytes, loop: bytes, limit: int, *, again: bool = True
    ) -> None:
        """`again`: an origin that cuts may be asked twice."""
        self._upstreams = route.upstreams
        self._extras = route.extras
        self._parents = route.parents(key, loop)
        self._left = limit
        self._again = again
        self._tried: list[Origin] = []
        self._avoid: list[Origin] = []
        self._continues = False

    def next(self) -> Origin | None:
        while self._parents:
            parent = self._parents.pop(0)
            if parent.breaker.allow(monotonic()):
                return parent
        origin = self._pick(self._avoid)
        if origin is None:
            return None
        if not self._tried:
            self._extras.first()
        elif not self._continues and not self._extras.may("retried"):
            return None
        return self._take(origin)

    def failed(self, origin: Origin, error: UpstreamError, *, began: bool) -> None:
        self._continues = began
        if not origin.parent:
            elsewhere = policy.tries_elsewhere(error.reason, began=began)
            self._avoid = self._tried if elsewhere or not self._again else []

    def late_s(self, origin: Origin) -> float | None:
        """When hedge() is worth trying beside `origin`; None: never."""
        others = len(self._upstreams.origins) > len(self._tried)
        return origin.pace.late_s if self._left and others and not origin.parent else None

    def hedge(self) -> Origin | None:
        other = self._pick(self._tried)
        if other is None or not self._extras.may("hedged"):
            return None
        return self._take(other)

    def _pick(self, avoid: list[Origin]) -> Origin | None:
        return self._upstreams.pick(avoid) if self._left else None

    def _take(self, origin: Origin) -> Origin:
        self._left -= 1
        self._tried.append(origin)
        return origin
