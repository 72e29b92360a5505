"""edgecache/control/metrics.py: what a page of metrics costs."""

from __future__ import annotations

from typing import cast

from prometheus_client.core import GaugeMetricFamily, Metric

from edgecache.control.metrics import EdgeCollector, Page


class Counting:
    """A collector that is asked so often."""

    asked = 0

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        self.asked += 1
        return [GaugeMetricFamily("asked", "so often", value=self.asked)]


def test_many_scrapers_cost_as_much_as_one() -> None:
    collector = Counting()
    page = Page(cast(EdgeCollector, collector), 3600.0)
    assert len({page.render() for _ in range(200)}) == 1
    assert collector.asked == 1
    fresh = Page(cast(EdgeCollector, collector), 0.0)
    for _ in range(3):
        fresh.render()
    assert collector.asked == 4
