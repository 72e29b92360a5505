"""For every test: what is under test stands in the header, native objects do not leak, and figures
are said at the end of the run."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator

import pytest

SETTLE_S = 2.0
_measured: list[str] = []


def live_objects() -> dict[str, int]:
    """Native objects alive in this process; nothing unless a test has loaded the core."""
    core = sys.modules.get("edgecache._core")
    return core.live_objects() if core else {}


def leaked(before: dict[str, int]) -> dict[str, int]:
    now = live_objects()
    return {kind: n - before.get(kind, 0) for kind, n in now.items() if n > before.get(kind, 0)}


def pytest_configure() -> None:
    """A run that is asked to end ends what it has started, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """What is left is collected now, and not while the summary is made: as for each report."""
    gc.collect()
    gc.disable()


def pytest_report_header(config: pytest.Config) -> str:
    try:
        build = importlib.import_module("edgecache._core").BUILD
    except ImportError as error:
        return f"edgecache._core: not built ({error}); run: make build"
    return "edgecache._core: " + ", ".join(f"{key} {value}" for key, value in build.items())


@pytest.fixture(autouse=True)
def native_objects_are_freed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Workers free in their own time, so a difference has a moment to go away."""
    before = live_objects()
    yield
    if request.node.funcargs:  # none after Ctrl-C
        request.node.funcargs.clear()  # what the test was given would live on until its report
    deadline = time.monotonic() + SETTLE_S
    while left := leaked(before):
        if time.monotonic() > deadline:
            pytest.fail(f"native objects leaked: {left}")
        gc.collect()
        time.sleep(0.01)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Without collecting garbage: a report of a failure parses sources, and when a finalizer comes
    in between whose own traceback is printed, which parses as well, CPython 3.11 gives up with a
    SystemError, and the failure is never told."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """measured(name=value, ...): said at the end of the run, because a pass alone says little."""

    def say(**values: object) -> None:
        told = ", ".join(f"{name} {value}" for name, value in values.items())
        _measured.append(f"{request.node.name}: {told}")

    return say


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _measured:
        terminalreporter.section("measured")
        for line in _measured:
            terminalreporter.write_line(line)
