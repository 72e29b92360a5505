"""Timer wheel with 10,000 connections on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bench.micro._loops import WheelOf
from bench.micro.conftest import OPERATIONS

_TIMERS: Final = 10_000
_AFTER_MS: Final = 30_000


def test_set_later(per_op: Callable[..., Any]) -> None:
    """The lazy way: one word, no link."""
    assert per_op(WheelOf(_TIMERS, _AFTER_MS).loop_later) == 0


def test_set_earlier(per_op: Callable[..., Any]) -> None:
    """Ten a timer, two ticks each: every one relinks."""
    answer = per_op(WheelOf(_TIMERS, 60_000).loop_earlier, n=2 * _TIMERS)
    assert answer == 2 * _TIMERS


def test_nothing_due(per_op: Callable[..., Any]) -> None:
    assert per_op(WheelOf(_TIMERS, _AFTER_MS).loop_idle) == 0


def test_expire_and_set(per_op: Callable[..., Any]) -> None:
    """31 s pass at once: all fire, each once, and are set again."""
    rounds = OPERATIONS // _TIMERS
    wheel = WheelOf(_TIMERS, _AFTER_MS)
    assert per_op(wheel.loop_expire, n=rounds, operations=OPERATIONS) == OPERATIONS
