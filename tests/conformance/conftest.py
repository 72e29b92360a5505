"""The broadcast that all tests of this directory share, in the states it passes through.

Order matters here, as in the stream's life: what is asked of a live stream comes first (files
10 to 50), then it is silent, loses its encoder and ends, and what was seen all along is judged.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.broadcast import (
    Broadcast,
    Door,
    is_over,
    on_air,
    restart_is_past,
    window_is_full,
)
from tests.system.conftest import ledgers_close as ledgers_close


@pytest.fixture(scope="session")
def broadcast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broadcast]:
    with on_air(tmp_path_factory.mktemp("broadcast")) as running:
        yield running


@pytest.fixture
def door(request: pytest.FixtureRequest, broadcast: Broadcast) -> Door:
    """The way to the stream that a test is run through; see rules.py for which."""
    return broadcast.doors[request.param]


@pytest.fixture(scope="session")
def windowed(broadcast: Broadcast) -> Broadcast:
    """The window is full: segments have left it."""
    broadcast.until(window_is_full)
    return broadcast


@pytest.fixture(scope="session")
def silenced(windowed: Broadcast) -> Broadcast:
    """The publisher was silent until waiting requests were given up at every door."""
    windowed.fall_silent()
    return windowed


@pytest.fixture(scope="session")
def restarted(silenced: Broadcast) -> Broadcast:
    """The encoder was killed, and the window has moved past that."""
    silenced.kill_encoder()
    silenced.until(restart_is_past)
    return silenced


@pytest.fixture(scope="session")
def ended(restarted: Broadcast) -> Broadcast:
    """The publisher is gone for good; the record at every door is whole."""
    restarted.end()
    restarted.until(is_over)
    return restarted
