"""Counters and histograms of one worker (native/stats.pxd, counters.h)."""

from __future__ import annotations

import pytest

from edgecache._core import COUNTER_HELP, HISTOGRAM_HELP
from tests.native._probe import StatsOf, bucket


def test_counters_add_and_gauges_go_back() -> None:
    stats = StatsOf()
    stats.add(3, 5)
    stats.add(3, 1)
    stats.add(3, 2**64 - 2)
    assert [stats.get(i) for i in (2, 3, 4)] == [0, 4, 0]


def test_the_table_fits_its_block() -> None:
    """Stats has room for 64 counters and 4 histograms; the table of names must not outgrow it."""
    assert len(COUNTER_HELP) <= 64
    assert len(HISTOGRAM_HELP) <= 4
    names = list(COUNTER_HELP)
    at = names.index("status_2xx")
    assert names[at : at + 4] == ["status_2xx", "status_3xx", "status_4xx", "status_5xx"]


def test_statuses_by_their_hundreds() -> None:
    counts = StatsOf().statuses([200, 206, 204, 304, 400, 404, 416, 431, 500, 503, 599])
    assert counts == [3, 1, 4, 3]


@pytest.mark.parametrize(
    ("value", "place"),
    [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1023, 10), (1024, 11), (2**30, 31), (2**64 - 1, 31)],
)
def test_durations_by_powers_of_two(value: int, place: int) -> None:
    counts, total = StatsOf().time(1, value)
    assert (sum(counts), counts[place], total) == (1, 1, value)
    assert bucket(value) == value.bit_length()
