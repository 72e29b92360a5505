"""Blocks of one size: zeroed, distinct, reused (native/pool.pxd)."""

from __future__ import annotations

import itertools

import pytest

from tests.native._probe import CHUNK_BLOCKS, PoolOf, alive


@pytest.mark.parametrize("size", [1, 16, 17, 500])
def test_blocks_are_zeroed_and_do_not_overlap(size: int) -> None:
    before = alive()
    pool = PoolOf(size)
    assert pool.block_bytes % 16 == 0
    assert pool.block_bytes >= size
    blocks = [pool.take() for _ in range(CHUNK_BLOCKS * 3 + 1)]
    assert all(zero for _, zero in blocks)
    places = sorted(place for place, _ in blocks)
    assert all(b - a >= pool.block_bytes for a, b in itertools.pairwise(places))
    assert all(place % 16 == 0 for place in places)
    assert pool.used == len(blocks)
    for place, _ in blocks:
        pool.give(place)
    assert pool.take()[1], "zeroed again"
    assert alive()["chunks"] - before["chunks"] == 4
    pool.give(blocks[-1][0])
    pool.destroy()
    assert alive() == before


def test_the_last_block_given_is_the_next_one_taken() -> None:
    """It is the one that is warm in the cache."""
    pool = PoolOf(64)
    a, b = pool.take()[0], pool.take()[0]
    pool.give(a)
    pool.give(b)
    assert [pool.take()[0], pool.take()[0]] == [b, a]
    pool.give(a)
    pool.give(b)
    pool.destroy()
