"""The timer wheel: lazy deadlines, none early, none lost (native/timer.pxd)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native._probe import SLOTS, TICK_MS, WheelOf

HORIZON_MS = SLOTS * TICK_MS


@pytest.mark.parametrize(
    "after", [0, 1, 63, 64, 65, 1000, HORIZON_MS - 1, HORIZON_MS, HORIZON_MS * 5]
)
def test_a_deadline_is_met_within_two_ticks(after: int) -> None:
    now = 1_000_003
    wheel = WheelOf(1, now)
    wheel.set(0, now + after)
    assert wheel.expired(now + after - 1) == []
    assert wheel.expired(now + after + 2 * TICK_MS) == [0]
    assert wheel.expired(now + after + 10 * HORIZON_MS) == []


def test_a_deadline_moves_later_and_earlier() -> None:
    wheel = WheelOf(1, 0)
    wheel.set(0, 1000)
    for at in range(0, 5000, 100):
        wheel.set(0, at + 1000)
        assert wheel.expired(at) == []
    wheel.set(0, 5100)
    assert wheel.expired(5100 + 2 * TICK_MS) == [0]


def test_a_cancelled_timer_is_silent() -> None:
    wheel = WheelOf(2, 0)
    wheel.set(0, 100)
    wheel.set(1, 100)
    wheel.cancel(0)
    wheel.cancel(0)
    assert wheel.expired(1000) == [1]
    wheel.set(0, 1100)
    assert wheel.expired(2000) == [0]


def test_a_long_pause_fires_everything_once() -> None:
    """A worker that was stopped for minutes (SIGSTOP, a slow host) catches up in one go."""
    wheel = WheelOf(500, 0)
    for i in range(500):
        wheel.set(i, 1 + i * 1000)
    assert sorted(wheel.expired(10_000_000)) == list(range(500))
    assert wheel.expired(20_000_000) == []


def test_timers_set_while_others_fire() -> None:
    wheel = WheelOf(2, 0)
    wheel.set(0, 100)
    assert wheel.expired(500) == [0]
    wheel.set(1, 100)  # in the past: due at once, within the resolution
    assert wheel.expired(500 + 2 * TICK_MS) == [1]


ACTION = st.tuples(
    st.sampled_from(["set", "cancel", "run"]), st.integers(0, 5), st.integers(0, 3 * HORIZON_MS)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTION, max_size=40), st.integers(1, 10**9))  # a deadline of 0 is none
def test_against_a_dict(actions: list[tuple[str, int, int]], start: int) -> None:
    """Never before its deadline, never more than two ticks after the wheel was run past it."""
    now = start
    wheel = WheelOf(6, now)
    due: dict[int, int] = {}
    for kind, number, value in actions:
        if kind == "set":
            due[number] = now + value
            wheel.set(number, due[number])
        elif kind == "cancel":
            due.pop(number, None)
            wheel.cancel(number)
        else:
            now += value
            fired = wheel.expired(now)
            assert len(fired) == len(set(fired))
            assert all(due.pop(n) <= now for n in fired)
            assert all(deadline > now - 2 * TICK_MS for deadline in due.values())
