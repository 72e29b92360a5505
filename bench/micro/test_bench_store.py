"""Lookup, second half: from a key to its entry, on both ways; and a write into the index.

4,096 keys in turn, as of 100 streams with a minute each: entries and names do not stay in L1.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from bench.micro._loops import Shelf
from bench.micro.conftest import OPERATIONS

_KEYS: Final = 4096
_ABSENT: Final = b"/live/s000/s9k2f0/720p/9999.9.m4s"
_PUTS: Final = 10_000


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    names = [b"/live/s%03d/s9k2f0/720p/%d.3.m4s" % (i % 100, i) for i in range(_KEYS)]
    with socket.socket() as listener:
        made = Shelf(listener.fileno(), names)
        yield made
        made.close()


def test_hash(per_op: Callable[..., Any], shelf: Shelf) -> None:
    """Some key has some bit set: all 64 over 4,096 keys, whatever the seed."""
    assert per_op(shelf.loop_hash) == 2**64 - 1


def test_lookup_held(per_op: Callable[..., Any], shelf: Shelf) -> None:
    assert per_op(shelf.loop_held) == OPERATIONS


def test_lookup_not_held(per_op: Callable[..., Any], shelf: Shelf) -> None:
    assert per_op(shelf.loop_acquire) == OPERATIONS


def test_lookup_absent(per_op: Callable[..., Any], shelf: Shelf) -> None:
    assert per_op(shelf.loop_absent, _ABSENT) == 0


def test_put_and_purge(per_op: Callable[..., Any], shelf: Shelf) -> None:
    assert per_op(shelf.loop_put, _ABSENT, n=_PUTS) == (2 * _PUTS, _KEYS)
