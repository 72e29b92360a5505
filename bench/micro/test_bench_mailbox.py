"""Mailboxes between the planes: one thread posts and takes, so no contention is in these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.micro._loops import Boxes
from bench.micro.conftest import OPERATIONS


@pytest.fixture
def boxes() -> Iterator[Boxes]:
    made = Boxes()
    yield made
    made.close()


def test_up(per_op: Callable[..., Any], boxes: Boxes) -> None:
    assert per_op(boxes.loop_up) == OPERATIONS


def test_down(per_op: Callable[..., Any], boxes: Boxes) -> None:
    assert per_op(boxes.loop_down) == OPERATIONS


def test_down_coalesced(per_op: Callable[..., Any], boxes: Boxes) -> None:
    """However often an entry changes before the worker looks, one message says so."""
    assert per_op(boxes.loop_coalesced) == 1


def test_bell(per_op: Callable[..., Any], boxes: Boxes) -> None:
    rings = OPERATIONS // 10
    assert per_op(boxes.loop_bell, n=rings) == rings
