"""Prometheus exposition: the native counters as they are, and the control plane's beside them.

Law: one scrape reads each value once; a page is kept for `admin.refresh`, so that many scrapers
cost as much as one. Base units, `edge_` prefix, `_total` for what only grows; names in the native
table that end in `_now` are gauges. Labels come from closed sets only (reasons, kinds, statuses),
never from viewers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from .. import logs
from ..histogram import Histogram
from . import kernel

if TYPE_CHECKING:
    from .._core import Plane
    from .upstream import Origin

Counts = Callable[[], Counter[str]]
Gauges = Callable[[], Mapping[str, float]]


def split_count(name: str) -> tuple[str, str]:
    """`refused.digest` -> (`refused`, `digest`); without a label the second is ""."""
    head, _, label = name.partition(".")
    return head, label


class EdgeCollector(Collector):
    """`counts`: prefix -> where to read a Counter of `<what>` or `<what>.<label>`."""

    def __init__(
        self,
        plane: Plane,
        counts: Mapping[str, Counts],
        gauges: Gauges,
        *,
        origins: Callable[[], Sequence[Origin]],
        hops: Mapping[str, Histogram],
    ) -> None:
        from .. import _core

        self._plane = plane
        self._origins = origins
        self._hops = hops
        self._counts = counts
        self._gauges = gauges
        self._help: Mapping[str, str] = _core.COUNTER_HELP
        self._histogram_help: Mapping[str, str] = _core.HISTOGRAM_HELP
        self._build = _core.BUILD

    def describe(self) -> Sequence[Metric]:
        return []  # registration must not run a collection

    def collect(self) -> Iterator[Metric]:
        yield from self._native()
        yield from self._histograms()
        yield self._parts()
        for prefix, counts in self._counts.items():
            yield from _control(prefix, counts())
        yield from _control("kernel", kernel.counts())
        yield from _control("log", logs.counts)
        yield from _upstreams(self._origins())
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"edge_{name}", f"{name} (control plane)", value=value)
        labels = sorted(self._build)
        info = GaugeMetricFamily("edge_build_info", "how the core was built", labels=labels)
        info.add_metric([self._build[label] for label in labels], 1)
        yield info

    def _native(self) -> Iterator[Metric]:
        for name, value in self._plane.counters().items():
            text = self._help.get(name, f"{name} (store)")
            if name.endswith("_now") or name == "store_budget_bytes":
                yield GaugeMetricFamily(f"edge_{name}", text, value=value)
            else:
                yield CounterMetricFamily(f"edge_{name}", text, value=value)

    def _histograms(self) -> Iterator[Metric]:
        for name, (counts, sum_us) in self._plane.histograms().items():
            yield HistogramMetricFamily(
                f"edge_{name}_seconds",
                self._histogram_help.get(name, name),
                buckets=cumulative(counts),
                sum_value=sum_us / 1e6,
            )

    def _parts(self) -> Metric:
        """Where the time of pushed parts went; wake_lag is the hop that follows."""
        text = "of each pushed part, as its origin told; push: from ready there to visible here"
        family = HistogramMetricFamily("edge_part_hop_seconds", text, labels=["hop"])
        for hop, histogram in self._hops.items():
            family.add_metric([hop], histogram.cumulative(), sum_value=histogram.sum_s)
        return family


def cumulative(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Native buckets (bucket b: below 2^b µs, the last: the rest) as Prometheus wants them."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for index, count in enumerate(counts):
        total += count
        last = index == len(counts) - 1
        buckets.append(("+Inf" if last else str((1 << index) / 1e6), float(total)))
    return buckets


def _control(prefix: str, counts: Counter[str]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily] = {}
    for name, value in sorted(counts.items()):
        what, label = split_count(name)
        if what not in families:
            text = f"{what.replace('_', ' ')} ({prefix})"
            labels = ["reason"] if label else None
            families[what] = CounterMetricFamily(f"edge_{prefix}_{what}", text, labels=labels)
        families[what].add_metric([label] if label else [], value)
    yield from families.values()


def _upstreams(origins: Sequence[Origin]) -> Iterator[Metric]:
    """What each configured origin was asked and did."""
    labels = ["origin"]
    requests = CounterMetricFamily("edge_upstream_requests", "requests to an origin", labels=labels)
    failures = CounterMetricFamily(
        "edge_upstream_failures", "exchanges an origin failed", labels=[*labels, "reason"]
    )
    connections = GaugeMetricFamily("edge_upstream_connections_now", "open", labels=labels)
    probes = CounterMetricFamily(
        "edge_upstream_probes", "exchanges let through an open breaker", labels=labels
    )
    healthy = GaugeMetricFamily("edge_upstream_healthy", "1: its breaker is closed", labels=labels)
    for origin in origins:
        requests.add_metric([origin.url], origin.counts["requests"])
        connections.add_metric([origin.url], origin.connections)
        probes.add_metric([origin.url], origin.breaker.probes)
        healthy.add_metric([origin.url], int(origin.breaker.closed))
        for name, value in sorted(origin.counts.items()):
            what, reason = split_count(name)
            if what == "failures":
                failures.add_metric([origin.url, reason], value)
    yield from (requests, failures, connections, probes, healthy)


class Page:
    """The rendered exposition, at most `refresh_s` old."""

    def __init__(self, collector: EdgeCollector, refresh_s: float) -> None:
        self._refresh_s = refresh_s
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._made_s = 0.0
        self._text = b""

    def render(self) -> bytes:
        now = time.monotonic()
        if not self._text or now - self._made_s >= self._refresh_s:
            self._text = generate_latest(self._registry)
            self._made_s = now
        return self._text
