"""Slices, and the keyed hash of base.h (native/types.pxd)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.native._probe import key_hash, same

SEED = (0x1234567890ABCDEF, 0xFEDCBA0987654321, 0x0F1E2D3C4B5A6978, 0x8796A5B4C3D2E1F0)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_equality(a: bytes, b: bytes) -> None:
    assert same(a, b) is (a == b)
    assert same(a, bytes(bytearray(a)))


def test_hashes_spread() -> None:
    """Names that differ in one digit, and names that are prefixes of each other."""
    keys = [b"/live/s/1/360p/%d.%d.m4s" % (i, j) for i in range(2000) for j in range(6)]
    keys += [b"\0" * i for i in range(200)]
    hashes = [key_hash(key, SEED) for key in keys]
    assert len(set(hashes)) == len(keys)
    buckets = [0] * 65536
    for value in hashes:
        buckets[value % 65536] += 1
    assert max(buckets) <= 8


def test_another_seed_is_another_hash() -> None:
    """Keys that collide under one seed do not under the next one: the seed is the process's."""
    keys = [b"/%d" % i for i in range(3000)]
    other = (0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3)
    collided = [k for k in keys if key_hash(k, SEED) % 64 == key_hash(keys[0], SEED) % 64]
    assert len({key_hash(k, other) % 64 for k in collided}) > 20


@given(st.binary(max_size=80), st.integers(0, 79), st.integers(1, 255))
def test_every_byte_counts(key: bytes, at: int, change: int) -> None:
    if key:
        at %= len(key)
        other = key[:at] + bytes([key[at] ^ change]) + key[at + 1 :]
        assert key_hash(key, SEED) != key_hash(other, SEED)
