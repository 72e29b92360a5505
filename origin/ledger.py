"""The latency ledger: when the media of each part passed each door, and how long it took between.

Doors, in order: *captured* (the publisher's bytes of its last frame arrived), *encoded* (that
frame, encoded, was read from ffmpeg), *packaged* (the part and its playlist are ready to be stored
and pushed). What comes after is the pushers' and the POPs' to measure. A hop is the time between
two doors; the hop `capture` is by how much the bytes came later than the publisher's own time
stamps promised, against the most punctual of the last minute, since its clock is not ours.
Beside it, `Tally`: what became of tags and frames, whoever counted them (bench/ledger.py).
Laws: durations run on the monotonic clock. Bounds: arrivals, recent parts. Sans-IO; knows nothing
of FLV, playlists or POPs.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from edgecache.histogram import Histogram

from .model import Hops, PartObject, PlaylistVersion, Publication

HOPS: Final = ("capture", "encode", "package")
_ARRIVALS: Final = 4096  # tags of one kind: of video more than a GOP may last
_PUNCTUAL_S: Final = 30.0  # half of how long the most punctual arrival is the measure
_RECENT: Final = 256  # parts


class Arrivals:
    """Of one kind of media: add() as it comes in, at() for a media time. Times of media in ms."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, float, float]] = deque(maxlen=_ARRIVALS)
        self._least = self._before = float("inf")  # of arrival less media time, s
        self._since_s = 0.0

    def add(self, media_ms: int, now_s: float) -> None:
        """A frame of time `media_ms` is here, at `now_s` of the monotonic clock."""
        offset = now_s - media_ms / 1000
        if now_s - self._since_s > _PUNCTUAL_S:
            self._least, self._before, self._since_s = offset, self._least, now_s
        self._least = min(self._least, offset)
        late_s = offset - min(self._least, self._before)
        self._seen.append((media_ms, now_s, late_s))

    def at(self, until_ms: float) -> tuple[float, float] | None:
        """(monotonic s, s late) of the newest frame that begins before `until_ms`."""
        for media_ms, arrived_s, late_s in reversed(self._seen):
            if media_ms < until_ms:
                return arrived_s, late_s
        return None


class Ledger:
    """All parts of all streams by hop and track, as histograms; tracks are the ladder's."""

    def __init__(self) -> None:
        self.hops: dict[tuple[str, str], Histogram] = defaultdict(Histogram)

    def add(self, track: str, hops: Hops) -> None:
        for name in HOPS:
            self.hops[name, track].add(getattr(hops, f"{name}_s"))


class Tally:
    """Counts of many that come and go, as one that never goes back. Each is a function that gives
    all it has counted by now."""

    def __init__(self) -> None:
        self._gone: Counter[str] = Counter()
        self._there: set[Callable[[], Counter[str]]] = set()

    def add(self, counts: Callable[[], Counter[str]]) -> None:
        self._there.add(counts)

    def settle(self, counts: Callable[[], Counter[str]]) -> None:
        """It counts no more. Idempotent."""
        if counts in self._there:
            self._there.remove(counts)
            self._gone.update(counts())

    def total(self) -> Counter[str]:
        told = Counter(self._gone)
        for counts in self._there:
            told.update(counts())
        return told


class Counted(Protocol):
    """Whatever keeps books."""

    def counts(self) -> Counter[str]: ...


def counted(*books: Counted | None) -> dict[str, int]:
    """All of them as one, for the API: of a stream, its newest publisher's tags and its frames."""
    return {name: n for each in books if each for name, n in each.counts().items()}


class Recent:
    """The newest parts of one stream, or one POP: durations by hop, for the state page."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}

    def add(self, durations_s: Mapping[str, float]) -> None:
        for name, seconds in durations_s.items():
            self._seen.setdefault(name, deque(maxlen=_RECENT)).append(seconds)

    def describe(self) -> dict[str, dict[str, float]]:
        """hop -> {"p50": ms, "p95": ms}; JSON values."""
        return {name: _spread(seen) for name, seen in self._seen.items()}


def durations(hops: Hops) -> dict[str, float]:
    """hop -> seconds, in order."""
    return {name: getattr(hops, f"{name}_s") for name in HOPS}


def stamped(
    made: Iterable[Publication], hops_of: Callable[[PartObject], Hops | None]
) -> list[Publication]:
    """The same in the same order with their hops; a playlist has those of the part before it."""
    out: list[Publication] = []
    hops: Hops | None = None
    for item in made:
        if isinstance(item, PartObject):
            hops = hops_of(item)
        if hops is not None and isinstance(item, PartObject | PlaylistVersion):
            item = replace(item, hops=hops)
        out.append(item)
    return out


def _spread(seen: Iterable[float]) -> dict[str, float]:
    values = [1000 * each for each in seen]
    cuts = statistics.quantiles(values, n=20) if len(values) > 1 else values * 19
    return {"p50": round(cuts[9], 1), "p95": round(cuts[18], 1)}
