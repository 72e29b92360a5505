"""What every micro-benchmark gets: built loops, the cost of one operation, a check for leaks.

Law: pytest-benchmark's table is per round of n operations; nanoseconds per operation stand in
extra_info (kept in its JSON) and in the table at the end of the run. No thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.build import build

build()  # the benchmarks import what it makes

from bench.micro import _loops  # noqa: E402

OPERATIONS: Final = 100_000  # a round: 1 ms at 10 ns each, far above one Python call
ROUNDS: Final = 20
_ROWS: Final = pytest.StashKey[dict[str, dict[str, float]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = {}


@pytest.fixture(autouse=True)
def native_objects_are_freed() -> Iterator[None]:
    before = _loops.alive()
    yield
    assert _loops.alive() == before


@pytest.fixture
def timed(benchmark: BenchmarkFixture) -> Callable[..., Any]:
    """benchmark.pedantic, which has no types."""
    pedantic: Callable[..., Any] = benchmark.pedantic
    return pedantic


@pytest.fixture
def note(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Figures by name into extra_info and the closing table."""

    def noted(**figures: float) -> None:
        rounded = {name: round(value, 2) for name, value in figures.items()}
        benchmark.extra_info.update(rounded)
        request.config.stash[_ROWS].setdefault(request.node.name, {}).update(rounded)

    return noted


@pytest.fixture
def per_op(
    benchmark: BenchmarkFixture, timed: Callable[..., Any], note: Callable[..., None]
) -> Callable[..., Any]:
    """per_op(loop, *args, n=…, operations=…): times loop(n, *args) and gives its last answer.

    `operations`: how many loop(n) makes, if not n. The median is of rounds, after a warm-up."""

    def run(loop: Callable[..., Any], *args: Any, n: int = OPERATIONS, operations: int = 0) -> Any:
        answer = timed(loop, args=(n, *args), rounds=ROUNDS, iterations=1, warmup_rounds=2)
        if benchmark.stats is not None:  # None with --benchmark-disable
            times = benchmark.stats.stats
            scale = 1e9 / (operations or n)
            note(ns_per_op=times.median * scale, ns_per_op_min=times.min * scale)
        return answer

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash[_ROWS]
    if not rows:
        return
    terminalreporter.section("per operation")
    width = max(map(len, rows))
    for name, figures in rows.items():
        text = "  ".join(f"{figure} {value:>10,.2f}" for figure, value in figures.items())
        terminalreporter.write_line(f"{name:<{width}}  {text}")
