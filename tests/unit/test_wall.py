"""The wall clock, where something is judged too old by it."""

from __future__ import annotations

import time

import pytest

from edgecache.wall import earlier_s

HOUR = 3600.0


@pytest.mark.parametrize(
    ("set_by", "passes", "expected"),
    [
        (0.0, 60.0, 60.0),
        (HOUR, 60.0, 60.0),  # ahead: time that has passed counts
        (-HOUR, 60.0, 60.0 - HOUR),  # back: it was wrong before, or is now; nothing is older
    ],
)
def test_a_clock_that_is_set_ages_nothing(
    monkeypatch: pytest.MonkeyPatch, set_by: float, passes: float, expected: float
) -> None:
    wall, passed = time.time(), time.monotonic()
    began = earlier_s()
    monkeypatch.setattr(time, "time", lambda: wall + set_by + passes)
    monkeypatch.setattr(time, "monotonic", lambda: passed + passes)
    assert earlier_s() - began == pytest.approx(expected, abs=1.0)
