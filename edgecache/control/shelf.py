"""Stored responses by target, and of each target its variants. Sans-IO.

Law: what is found matches the request by every field its Vary names (RFC 9111 4.1). Bounds: bytes
(the least recently used goes first) and variants a target (the oldest goes first). Does not know
freshness policy, connections, or where responses come from.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from .body import Body
from .caching import Fields, Verdict, joined, variant

_TARGETS_MAX = 4096  # beyond it everything under way counts as taken back
_ENTRY_BYTES = 1024  # bookkeeping, roughly


@dataclass(kw_only=True, eq=False)
class Stored:
    """One response. `answered_s`: monotonic time when it came or was last validated;
    `initial_age_s`: how old it was then. `span`: (first, last, complete length) of a 206."""

    target: str
    status: int
    reason: str
    fields: Fields
    verdict: Verdict
    answered_s: float
    initial_age_s: float
    answered_unix_s: float
    body: Body
    names: tuple[str, ...] = ()
    values: tuple[str | None, ...] = ()
    span: tuple[int, int, int] | None = None
    tags: frozenset[str] = field(default_factory=frozenset)

    def age_s(self, now_s: float) -> float:
        return self.initial_age_s + max(0.0, now_s - self.answered_s)

    def left_s(self, now_s: float) -> float:
        """Freshness left; negative: stale since."""
        return self.verdict.lifetime_s - self.age_s(now_s)

    def matches(self, request: Fields) -> bool:
        return variant(self.names, request) == self.values

    @property
    def holds_its_span(self) -> bool:
        """Are there as many bytes as a 206 says?"""
        return self.span is None or self.body.size == self.span[1] + 1 - self.span[0]

    @property
    def etag(self) -> str | None:
        return joined(self.fields, "etag")

    @property
    def size(self) -> int:
        return self.body.size + _ENTRY_BYTES


class Shelf:
    """A byte budget of stored responses. `counts` is monotonic."""

    def __init__(self, budget: int, *, variants_max: int = 8) -> None:
        self._budget = budget
        self._variants_max = variants_max
        self._targets: OrderedDict[str, list[Stored]] = OrderedDict()  # least recently used first
        self._purges = 0
        self._invalidated: dict[str, int] = {}  # target -> how often, since the last purge
        self.used = 0
        self.evicted = 0

    def __len__(self) -> int:
        return sum(map(len, self._targets.values()))

    def find(self, target: str, request: Fields) -> list[Stored]:
        """What may answer the request, newest first: a whole one and parts of it."""
        found = self._targets.get(target)
        if found is None:
            return []
        self._targets.move_to_end(target)
        return [stored for stored in reversed(found) if stored.matches(request)]

    def put(self, stored: Stored) -> None:
        """Take it; what it replaces leaves. Its body must be whole."""
        found = self._targets.setdefault(stored.target, [])
        self._targets.move_to_end(stored.target)
        for other in [each for each in found if self._replaces(stored, each)]:
            self._drop(stored.target, other)
        found = self._targets.setdefault(stored.target, [])
        found.append(stored)
        self.used += stored.size
        while len(found) > self._variants_max:
            self.used -= found.pop(0).size
            self.evicted += 1
        while self.used > self._budget and self._targets:
            _target, gone = self._targets.popitem(last=False)
            self.used -= sum(each.size for each in gone)
            self.evicted += len(gone)

    @staticmethod
    def _replaces(new: Stored, old: Stored) -> bool:
        same = (new.names, new.values) == (old.names, old.values)
        return same and (new.span is None or new.span == old.span)

    def drop(self, stored: Stored) -> None:
        if stored in self._targets.get(stored.target, ()):
            self._drop(stored.target, stored)

    def invalidate(self, target: str) -> int:
        """All variants of it; how many left."""
        if len(self._invalidated) >= _TARGETS_MAX:
            self._purged()
        self._invalidated[target] = self._invalidated.get(target, 0) + 1
        gone = self._targets.pop(target, [])
        self.used -= sum(each.size for each in gone)
        return len(gone)

    def purge(self, *, prefix: str = "", tag: str = "") -> int:
        """Those whose target begins with `prefix` and that carry `tag` (if one is given)."""
        self._purged()
        doomed = [
            stored
            for target, found in self._targets.items()
            if target.startswith(prefix)
            for stored in found
            if not tag or tag in stored.tags
        ]
        for stored in doomed:
            self._drop(stored.target, stored)
        return len(doomed)

    def epoch(self, target: str) -> tuple[int, int]:
        """Changes with whatever is taken back: what was asked for before may be just that."""
        return self._purges, self._invalidated.get(target, 0)

    def _purged(self) -> None:
        self._purges += 1
        self._invalidated.clear()

    def _drop(self, target: str, stored: Stored) -> None:
        self._targets[target].remove(stored)
        self.used -= stored.size
        if not self._targets[target]:
            del self._targets[target]
