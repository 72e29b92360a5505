"""How what healthy viewers feel of others is counted, and at which rate harm is offered."""

from __future__ import annotations

import socket
import time

import pytest

from bench.clients.bystanders import owed_ms
from bench.clients.exhaustion import HARMS, Asked


def test_a_stall_counts_for_everybody_who_would_have_asked_in_it() -> None:
    assert list(owed_ms([10.0, 1.0], 0.004)) == [10.0, 6.0, 2.0, 1.0]


@pytest.mark.parametrize("harm", ["heads", "silent", "pipelines", "resets", "flood"])
def test_harm_keeps_to_its_rate_whatever_the_server_does(harm: str) -> None:
    """This one accepts nobody."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        began = time.monotonic()  # before its own clock
        going = HARMS[harm](Asked(server.getsockname(), "127.0.0.1", "/", 40, 1000))
        while going.done < 20:
            going.step()
        assert time.monotonic() - began >= 0.02
        going.step()
        assert going.done <= (time.monotonic() - began) * 1000
        while going.leave():
            pass
