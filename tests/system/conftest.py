"""What system tests stand on: an origin that counts, one daemon for each file of tests, and the
ledger that each test must leave closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nats_server import nats as nats  # a fixture: what conftest names, its tests are given
from tests.running import Edge, ScriptedOrigin, serving


@pytest.fixture(autouse=True)
def ledgers_close() -> Iterator[None]:
    """Whatever a test was about, afterwards nothing is lost in any daemon that still runs."""
    yield
    for daemon in serving():
        daemon.balanced()


@pytest.fixture(scope="module")
def origin() -> Iterator[ScriptedOrigin]:
    server = ScriptedOrigin()
    yield server
    server.close()


@pytest.fixture(scope="module")
def spare() -> Iterator[ScriptedOrigin]:
    """The second origin."""
    server = ScriptedOrigin()
    yield server
    server.close()


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, spare: ScriptedOrigin) -> Iterator[Edge]:
    """A daemon with short deadlines in front of both origins."""
    options = (
        f"origin.urls={origin.url},{spare.url}",
        "origin.first_byte=400ms",
        "origin.total=2s",
        "origin.min_rate=0",
        "origin.breaker_failures=1000",
        "cache.negative=300ms",
        "cache.memory=32MiB",
        "cache.object_max=4MiB",
        "push.gap=1500ms",
        "http.workers=2",
    )
    with Edge(options) as daemon:
        yield daemon
        assert daemon.stop() == 0, "".join(daemon.lines[-20:])
