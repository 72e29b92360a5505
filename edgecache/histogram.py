"""Durations counted by bucket, in the buckets that all our latencies are read in.

Laws: one owner thread; counts only grow. Knows nothing of what took so long.
"""

from __future__ import annotations

import bisect
from typing import Final

# Chosen for low-latency HLS: publish to acknowledged is a millisecond, a part a third of a second.
BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Histogram:
    """Counts of durations by bucket. One owner thread."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """Upper bound of the bucket that holds quantile `q`, seconds (beyond the last one: the
        last bound); 0 without samples."""
        rank = q * self.count
        seen = 0
        for bound, count in zip((*BUCKETS_S, BUCKETS_S[-1]), self.counts, strict=True):
            seen += count
            if count and seen >= rank:
                return bound
        return 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        """(le, count) rows as Prometheus wants them."""
        rows, seen = [], 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            seen += count
            rows.append((bound, float(seen)))
        return rows
