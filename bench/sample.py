"""What one measurement yields; what each figure is called, its unit, and which way is good.

A sample with a problem is shown but never counted: a median is over the sound samples of a cell.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Sample:
    """`series`: percentiles 0..100 of a distribution, by title."""

    figures: Mapping[str, float]
    problems: tuple[str, ...] = ()
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    name: str
    title: str
    unit: str
    less_is_better: bool = True
    digits: int = 1


FIGURES: Final = {
    figure.name: figure
    for figure in (
        Figure("cpu_us", "server CPU", "µs/request"),
        Figure("core_us", "whole core", "µs/request"),
        Figure("p50_ms", "p50", "ms", digits=2),
        Figure("p99_ms", "p99", "ms", digits=2),
        Figure("p999_ms", "p99.9", "ms", digits=2),
        Figure("retransmits", "retransmitted", "segments", digits=0),
        Figure("pss_mib", "memory (PSS)", "MiB"),
        Figure("client_cpu", "client", "of a core", digits=2),
        Figure("first_p50_ms", "first byte p50", "ms", digits=2),
        Figure("first_p99_ms", "first byte p99", "ms", digits=2),
        Figure("first_max_ms", "first byte max", "ms", digits=2),
        Figure("chunk_p50_ms", "behind each chunk p50", "ms", digits=2),
        Figure("chunk_p99_ms", "behind each chunk p99", "ms", digits=2),
        Figure("last_p50_ms", "last byte p50", "ms", digits=2),
        Figure("last_p99_ms", "last byte p99", "ms", digits=2),
        Figure("last_max_ms", "last byte max", "ms", digits=2),
        Figure("hits_before_p99_ms", "hits' p99 before", "ms", digits=2),
        Figure("hits_p99_ms", "hits' p99 meanwhile", "ms", digits=2),
        Figure("hits_max_ms", "hits' max meanwhile", "ms", digits=2),
        Figure("held", "viewers held", "", less_is_better=False, digits=0),
        Figure("viewers_core", "viewers a whole core", "", less_is_better=False, digits=0),
        Figure("server_core", "server", "of its core", digits=2),
        Figure("viewer_mbit", "a viewer", "Mb/s", less_is_better=False, digits=2),
        Figure("viewer_requests", "a viewer", "requests/s", less_is_better=False, digits=1),
        Figure("origin_requests", "origin requests", "", digits=0),
        Figure("cpu_ms", "server CPU", "ms"),
        Figure("private_b", "own memory a connection", "B", digits=0),
        Figure("pss_b", "PSS a connection", "B", digits=0),
        Figure("idle_cpu_ms", "CPU a second of idling", "ms", digits=2),
        Figure("slow_b", "memory a slow viewer", "B", digits=0),
        Figure("alone_p50_ms", "p50 without them", "ms", digits=2),
        Figure("alone_p99_ms", "p99 without them", "ms", digits=2),
        Figure("harm", "p99 ÷ without them", "", digits=2),
        Figure("kernel_kib", "kernel memory of each", "KiB", digits=0),
        Figure("hit_ratio", "hit ratio", "", less_is_better=False, digits=4),
    )
}


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def spreads(samples: Sequence[Sample]) -> dict[str, Spread]:
    """Median, least and most of every figure over the sound samples."""
    sound = [sample for sample in samples if not sample.problems]
    names = dict.fromkeys(name for sample in sound for name in sample.figures)
    return {
        name: spread([sample.figures[name] for sample in sound if name in sample.figures])
        for name in names
    }


def ratio(ours: float, theirs: float) -> float | None:
    """How many times `theirs` the figure is; None when that says nothing."""
    return ours / theirs if theirs > 0 else None
