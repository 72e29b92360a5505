"""h2load's words are read right, and a load that was not what it claims is found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.load import Offer, Report, _problems, parse_report, percentiles, read_latencies

SAID = """
finished in 3.88s, 1031.56 req/s, 1.10MB/s
requests: 4000 total, 4000 started, 4000 done, 3990 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 3990 2xx, 0 3xx, 0 4xx, 10 5xx
traffic: 4.26MB (4468000) total, 242KB (248000) headers (savings 0.00%), 3.91MB (4096000) data
"""


def offer(**changed: float) -> Offer:
    load = {"connections": 4, "rate": 100, "duration_s": 1.0} | changed
    return Offer(
        base="http://127.0.0.1:1",
        uris=["/a", "/b"],
        body_bytes=10.0,
        connections=int(load["connections"]),
        rate=int(load["rate"]),
        duration_s=load["duration_s"],
        churn=bool(load.get("churn", False)),
    )


def test_report() -> None:
    assert parse_report(SAID) == Report(4000, 3990, 3.88, 4096000)
    assert parse_report(SAID.replace("3.88s", "880.5ms")).elapsed_s == pytest.approx(0.8805)


def test_report_of_something_else() -> None:
    with pytest.raises(BenchError, match="something else: connection refused"):
        parse_report("connection refused")


def test_requests_are_whole_turns() -> None:
    assert offer().requests == 96  # 12 turns of 4 connections x 2 objects
    assert offer(duration_s=0.001).requests == 8  # never less than one turn
    assert offer(churn=1).requests == 100


@pytest.mark.parametrize(
    ("report", "client_cpu", "problem"),
    [
        (Report(96, 96, 0.96, 960), 0.2, None),
        (Report(96, 95, 0.96, 950), 0.2, "offered 96 requests, 95 succeeded"),
        (Report(96, 96, 0.96, 959), 0.2, "expected 960 body bytes, got 959"),
        (Report(96, 96, 1.90, 960), 0.2, "overloaded: 1.0 s of load took 1.9 s"),
        (Report(96, 96, 0.96, 960), 0.9, "client saturated: 90% of a core"),
    ],
)
def test_problems(report: Report, client_cpu: float, problem: str | None) -> None:
    assert list(_problems(offer(), report, client_cpu)) == ([problem] if problem else [])


def test_percentiles_are_nearest_rank() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert percentiles(values) == (50.0, 90.0, 99.0, 100.0)
    assert percentiles([7.0], (0, 50, 100)) == (7.0, 7.0, 7.0)


def test_latencies(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("1795370690664799\t200\t1500\n1795370690664899\t200\t250\n")
    assert read_latencies(log) == [1.5, 0.25]
