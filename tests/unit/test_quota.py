"""Bytes a stream holds by pushes, against time by hand."""

from __future__ import annotations

from edgecache.control.quota import OVERHEAD, Quota


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_stream_is_full_until_something_ends() -> None:
    clock = Clock()
    quota = Quota(3 * (OVERHEAD + 100), monotonic_s=clock)
    for number in range(3):
        key = b"/live/a/%d" % number
        assert quota.takes("a", key, 100)
        quota.charge("a", key, 100, 1000 * (number + 1))
    assert not quota.takes("a", b"/live/a/9", 1)
    assert quota.takes("b", b"/live/b/9", 100)
    clock.now += 1.0
    assert quota.takes("a", b"/live/a/9", 100)
    assert not quota.takes("a", b"/live/a/9", 101)


def test_what_takes_the_place_of_itself_costs_once() -> None:
    clock = Clock()
    quota = Quota(OVERHEAD + 100, monotonic_s=clock)
    for version in range(50):
        assert quota.takes("a", b"/live/a/p.m3u8", 100)
        quota.charge("a", b"/live/a/p.m3u8", 100, 1000)
        clock.now += 0.3 if version % 2 else 0.0
    assert quota.held("a") == OVERHEAD + 100
    clock.now += 0.6
    assert not quota.takes("a", b"/live/a/other", 0)
    clock.now += 0.2
    assert quota.takes("a", b"/live/a/other", 100)
    assert quota.held("a") == 0


def test_small_names_are_bounded_too() -> None:
    quota = Quota(100 * OVERHEAD)
    taken = 0
    while quota.takes("a", b"/%d" % taken, 0):
        quota.charge("a", b"/%d" % taken, 0, 60_000)
        taken += 1
    assert taken == 100


def test_removed_and_forgotten() -> None:
    clock = Clock()
    quota = Quota(10 * OVERHEAD, monotonic_s=clock)
    quota.charge("a", b"/1", 100, 1000)
    quota.release("a", b"/1")
    quota.release("nobody", b"/1")
    assert quota.held("a") == 0
    quota.charge("a", b"/1", 100, 5000)  # its first end is still to come, and is not this one's
    clock.now += 2
    quota.sweep()
    assert quota.held("a") == OVERHEAD + 100
    clock.now += 4
    quota.sweep()
    assert quota.held("a") == 0
