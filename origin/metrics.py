"""The origin's counters as Prometheus exposition.

Laws: base units (seconds, bytes), prefix `origin_`, counters end in `_total`. Numbers are read at
the scrape from where they are counted; nothing is counted twice. Does not know how things are
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edgecache import __version__, logs

from .archive.keeper import Keeper
from .ingest import Ingest
from .ledger import Ledger
from .store import Store
from .subscriptions import Subscriptions

Answers = Counter[tuple[str, int]]

_HELP: Final = {
    "streams_live": "Streams that are live.",
    "streams_ended": "Ended streams that are still served.",
    "objects": "Parts, segments and inits held.",
    "archived": "Segments that are listed and on disk only.",
    "memory_bytes": "Media bytes in memory.",
    "spool_bytes": "Bytes that wait for the permanent store.",
    "spool_objects": "Segments and inits that wait for the permanent store.",
    "tags": "Of publishers: received + made (silence) = forwarded + kept + dropped + waiting.",
    "joins": "Of tracks that come each by itself: received = joined + dropped + waiting.",
    "frames": "Of encoders: encoded = packaged + dropped + waiting.",
    "waiters": "Requests that wait for a part or a playlist version.",
}


class OriginCollector(Collector):
    """Reads the live objects at each scrape; no label grows with viewers or paths."""

    def __init__(
        self,
        store: Store,
        subscriptions: Subscriptions,
        answers: Answers,
        ledger: Ledger,
        ingest: Ingest,
        hooks: Mapping[str, int],
        workers: Mapping[str, int],
        keeper: Keeper | None = None,
    ) -> None:
        self._ingest = ingest
        self._hooks = hooks
        self._workers = workers
        self._keeper = keeper
        self._store = store
        self._subscriptions = subscriptions
        self._answers = answers
        self._ledger = ledger

    def describe(self) -> list[Metric]:
        return []  # registering must not scrape

    def render(self) -> bytes:
        """Exposition text 0.0.4."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("origin_build_info", "The running version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        lines = {name.removeprefix("lines_"): number for name, number in logs.counts.items()}
        yield _events("origin_log_lines", "Lines to stderr; dropped: it took none.", lines)
        yield from self._requests()
        yield from self._stored()
        yield from self._made()
        yield from self._pushed()
        yield _events(
            "origin_hook_events",
            "Told = delivered + refused + expired + dropped + waiting; answers about publishers.",
            self._hooks,
        )
        yield _events(
            "origin_worker_events",
            "Of rungs of live streams: offered; came = left + lost + those that are there.",
            self._workers,
        )
        if self._keeper:
            yield from self._kept(self._keeper)

    def _kept(self, keeper: Keeper) -> Iterator[Metric]:
        for name, value in keeper.gauges().items():
            yield GaugeMetricFamily(f"origin_archive_{name}", _HELP[name], value=value)
        told = "Media of recordings: recorded (taken, lost), spool (stored, failed ...), library."
        yield _events("origin_archive_events", told, keeper.events())

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "origin_http_responses", "Answers by route and status.", labels=["route", "status"]
        )
        for (route, status), count in sorted(self._answers.items()):
            requests.add_metric([route, str(status)], count)
        yield requests

    def _stored(self) -> Iterator[Metric]:
        for name, value in self._store.gauges().items():
            yield GaugeMetricFamily(f"origin_store_{name}", _HELP[name], value=value)
        told = "What happened in the store, by kind."
        yield _events("origin_store_events", told, self._store.events())

    def _made(self) -> Iterator[Metric]:
        told = "Streams whose encoder is too slow here and leaves out rungs or pictures."
        yield GaugeMetricFamily("origin_encoders_shedding", told, value=self._ingest.shedding)
        told = "Bodies by how they ended, their bytes; SRT: accepted, closed, rejected by code."
        yield _events("origin_ingest_events", told, self._ingest.counts)
        yield from self._became()
        hops = HistogramMetricFamily(
            "origin_part_hop_seconds",
            "Of each part: capture (late against the publisher's time stamps), encode, package.",
            labels=["hop", "track"],
        )
        for (hop, track), histogram in sorted(self._ledger.hops.items()):
            hops.add_metric([hop, track], histogram.cumulative(), sum_value=histogram.sum_s)
        yield hops

    def _became(self) -> Iterator[Metric]:
        """Tags and frames, and the objects that were made of them."""
        total = self._ingest.tally.total()
        for what in ("joins", "tags", "frames"):
            events = CounterMetricFamily(f"origin_{what}", _HELP[what], labels=["event"])
            dropped = CounterMetricFamily(
                f"origin_{what}_dropped", f"{what.capitalize()} dropped.", labels=["reason"]
            )
            for name, count in sorted(total.items()):
                kind, _, event = name.partition(".")
                reason = event.removeprefix("dropped.")
                if kind == what and event != "waiting":
                    (events if reason == event else dropped).add_metric([reason], count)
            waiting = total[f"{what}.waiting"]
            told = f"{what.capitalize()} on their way."
            yield from (events, dropped)
            yield GaugeMetricFamily(f"origin_{what}_waiting", told, value=waiting)
        made = CounterMetricFamily("origin_made", "Objects made of frames.", labels=["of"])
        for of in ("parts", "segments", "inits"):
            made.add_metric([of], total[f"made.{of}"])
        yield made

    def _pushed(self) -> Iterator[Metric]:
        items = CounterMetricFamily(
            "origin_push_items",
            "enqueued = acknowledged + refused + dropped + superseded + lost + pending.",
            labels=["pop", "event"],
        )
        gauges = GaugeMetricFamily(
            "origin_push_state", "Queue and connections of a POP now.", labels=["pop", "of"]
        )
        statuses = CounterMetricFamily(
            "origin_push_answers", "Answers of a POP by status.", labels=["pop", "status"]
        )
        latency = HistogramMetricFamily(
            "origin_push_latency_seconds", "From publish to acknowledged.", labels=["pop"]
        )
        parts = HistogramMetricFamily(
            "origin_push_part_seconds",
            "Of each part: queue (ready to written), push (written to acknowledged).",
            labels=["pop", "hop"],
        )
        for pusher in self._subscriptions.pushers():
            for hop, taken in pusher.hops.items():
                parts.add_metric([pusher.name, hop], taken.cumulative(), sum_value=taken.sum_s)
            for event, count in sorted(pusher.counters.items()):
                items.add_metric([pusher.name, event], count)
            for name, value in pusher.gauges().items():
                gauges.add_metric([pusher.name, name], value)
            for status, count in sorted(pusher.statuses.items()):
                statuses.add_metric([pusher.name, str(status)], count)
            histogram = pusher.latency
            latency.add_metric([pusher.name], histogram.cumulative(), sum_value=histogram.sum_s)
        yield from (items, gauges, statuses, latency, parts)


def _events(name: str, told: str, counts: Mapping[str, float]) -> Metric:
    """A counter with a label for what is counted."""
    events = CounterMetricFamily(name, told, labels=["event"])
    for event, count in sorted(counts.items()):
        events.add_metric([event], count)
    return events
