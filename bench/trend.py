"""Does it grow? Series of samples over time, their slope, and a verdict with a bound. Pure.

The slope is Theil and Sen's: the median over all pairs of samples, so that a crowd that comes and
goes, or a few samples in bad moments, do not tilt it. What is held to the bound is the slope times
the time that was watched, which is what would have been lost.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

Series = Sequence[tuple[float, float]]  # seconds, value

KINDS: Final = {"rss": "MiB", "fds": "", "threads": "", "processes": ""}
_SHARE: Final = 0.02  # of memory; allocators keep what once was needed
_LEAST_MIB: Final = 1.0
_LEAST: Final = 0.5  # of what is counted: less than one more


def slope(series: Series) -> float:
    """Per second; 0 of fewer than two samples."""
    steps = [
        (later - earlier) / (after - before)
        for (before, earlier), (after, later) in combinations(series, 2)
        if after > before
    ]
    return statistics.median(steps) if steps else 0.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Of one kind of thing in one process. grown and allowed: over the time that was watched."""

    process: str
    kind: str
    least: float
    median: float
    most: float
    per_hour: float
    grown: float
    allowed: float

    @property
    def flat(self) -> bool:
        return self.grown <= self.allowed


def judge(process: str, kind: str, series: Series) -> Verdict:
    """series: two samples or more."""
    values = [value for _, value in series]
    median = statistics.median(values)
    grade = slope(series)
    return Verdict(
        process=process,
        kind=kind,
        least=min(values),
        median=median,
        most=max(values),
        per_hour=3600 * grade,
        grown=grade * (series[-1][0] - series[0][0]),
        allowed=max(_LEAST_MIB, _SHARE * median) if kind == "rss" else _LEAST,
    )


def judged(samples: Mapping[str, Mapping[str, Series]], settle_s: float) -> list[Verdict]:
    """process -> kind -> series, each judged by what came after `settle_s`."""
    return [
        judge(process, kind, settled)
        for process, kinds in samples.items()
        for kind, series in kinds.items()
        if len(settled := [each for each in series if each[0] >= settle_s]) > 1
    ]


def table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| process | of | least | median | most | slope an hour | grown | allowed | |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for v in verdicts:
        what = f"{v.kind}, {KINDS[v.kind]}" if KINDS[v.kind] else v.kind
        digits = 1 if KINDS[v.kind] else 0
        levels = " | ".join(f"{each:.{digits}f}" for each in (v.least, v.median, v.most))
        yield (
            f"| {v.process} | {what} | {levels} | {v.per_hour:+.2f} | {v.grown:+.2f} | "
            f"{v.allowed:.1f} | {'flat' if v.flat else '**grows**'} |"
        )
