"""origin/rows_nats.py: what a catalogue in NATS begins with."""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.js import JetStreamContext

from origin.rows_nats import NatsRows
from origin.rows_sqlite import SqliteRows
from tests.nats_server import Nats


def test_what_has_not_been_looked_at_yet_is_not_taken_for_nothing(
    tmp_path: Path, nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may say that nothing is there when all is on its way: once in 150 times, here
    nearly each time."""
    place = nats.place(tmp_path.name)
    first = NatsRows(place, SqliteRows(None))
    first.put("keys.cam", b"a key", 0)
    first.close()
    monkeypatch.setattr(JetStreamContext.PushSubscription, "delivered", 0)
    for _ in range(10):
        again = NatsRows(place, SqliteRows(None))
        found = again.get("keys.cam")
        again.close()
        assert found is not None
        assert found.value == b"a key"
