"""The access-log ring: in order, bounded, lossy when full (native/log.pxd)."""

from __future__ import annotations

from tests.native._probe import RING_SLOTS, RING_TARGET, RingOf


def test_records_come_out_as_they_went_in() -> None:
    ring = RingOf()
    assert ring.read() is None
    for turn in range(3):
        for i in range(RING_SLOTS // 2 + 7):
            assert ring.write(200 + i % 300, b"/%d/%d" % (turn, i))
        for i in range(RING_SLOTS // 2 + 7):
            assert ring.read() == (200 + i % 300, b"/%d/%d" % (turn, i))
        assert ring.read() is None


def test_a_full_ring_refuses_and_keeps_the_oldest() -> None:
    ring = RingOf()
    assert all(ring.write(200, b"/%d" % i) for i in range(RING_SLOTS))
    assert not ring.write(200, b"/late")
    assert ring.read() == (200, b"/0")
    assert ring.write(200, b"/now")
    assert not ring.write(200, b"/late")


def test_long_targets_are_cut() -> None:
    ring = RingOf()
    for length in (0, RING_TARGET - 1, RING_TARGET, RING_TARGET + 1, 5000):
        ring.write(200, b"x" * length)
        assert ring.read() == (200, b"x" * min(length, RING_TARGET))


def test_a_ring_that_is_off_is_empty() -> None:
    assert RingOf(False).read() is None
