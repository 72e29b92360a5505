"""The index: first write wins, views, budget, expiry, purge (native/store.pxd)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native._probe import EntryRef, StoreOf, alive

CREATED, SAME, CONFLICT, NO_SPACE, STALE = range(5)
RESERVED, FILLING, COMPLETE, FAILED, LIVE = range(5)
OBJECT_BYTES = 100_000


def entry(store: StoreOf, key: bytes, *, reserve: bool = False, now_ms: int = 1) -> EntryRef:
    ref, _ = store.acquire(key, reserve, now_ms)
    assert ref is not None
    return ref


def there(store: StoreOf, key: bytes) -> bool:
    return store.acquire(key)[0] is not None


def test_reserve_once() -> None:
    store = StoreOf(1 << 20)
    first, created = store.acquire(b"/a", reserve=True)
    again, created_again = store.acquire(b"/a", reserve=True)
    assert (created, created_again) == (True, False)
    assert first is not None
    assert again is not None
    assert (first.state, first.refs) == (RESERVED, 3)
    assert store.acquire(b"/b") == (None, False)


def test_the_states_of_a_fill() -> None:
    store = StoreOf(1 << 20)
    ref = entry(store, b"/a", reserve=True)
    assert ref.begin()
    assert not ref.begin()
    assert (ref.state, ref.filled) == (FILLING, 0)
    ref.append(b"12345")
    assert ref.filled == 5
    ref.commit()
    assert (ref.state, ref.filled) == (COMPLETE, 5)
    ref.fail(502)
    assert ref.state == COMPLETE, "what is complete stays"


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("expires_ms", [0, 1000])
def test_a_failed_fill_leaves_or_is_remembered(begun: bool, expires_ms: int) -> None:
    store = StoreOf(1 << 20)
    ref = entry(store, b"/a", reserve=True)
    if begun:
        ref.begin()
    ref.fail(404, expires_ms)
    assert ref.state == FAILED
    assert ref.dead is (expires_ms == 0)
    assert there(store, b"/a") is (expires_ms != 0)


def test_who_is_late_finds_nothing() -> None:
    """An entry past its time is replaced by the one who asks; readers keep the old one."""
    store = StoreOf(1 << 20)
    store.put(b"/a", b"old", expires_ms=100)
    old = entry(store, b"/a", now_ms=99)
    fresh, created = store.acquire(b"/a", reserve=True, now_ms=100)
    assert created
    assert fresh is not None
    assert (old.dead, fresh.dead) == (True, False)
    assert store.figures()["expired"] == 1


def test_a_reserved_entry_does_not_age() -> None:
    store = StoreOf(1 << 20)
    ref = entry(store, b"/a", reserve=True)
    store.expire(1 << 60)
    assert entry(store, b"/a", reserve=True, now_ms=1 << 60).refs == ref.refs == 3


# ---------------------------------------------------------------- views


def test_views_live_and_leave_with_their_segment() -> None:
    store = StoreOf(1 << 20)
    segment = entry(store, b"/s", reserve=True)
    segment.begin()
    segment.append(b"0123456789")
    parts = [b"/s.%d" % i for i in range(5)]
    for i, key in enumerate(parts):
        assert store.put(key, b"01", parent=segment, offset=2 * i) == CREATED
    assert store.figures()["entries"] == 6
    view = entry(store, parts[0])
    assert segment.refs == 2 + 5
    assert store.purge(parts[1])
    assert segment.refs == 2 + 4
    assert store.purge(b"/s")
    assert (view.dead, view.filled) == (True, 2)
    assert not any(there(store, key) for key in parts)
    assert store.figures()["entries"] == 0
    assert store.put(b"/s.9", b"01", parent=segment) == NO_SPACE


def test_a_view_takes_a_reserved_place() -> None:
    """Viewers asked for the part before it was there: they wait on the same entry."""
    store = StoreOf(1 << 20)
    waiting = entry(store, b"/s.0", reserve=True)
    segment = entry(store, b"/s", reserve=True)
    segment.begin()
    segment.append(b"0123456789")
    assert store.put(b"/s.0", b"01", parent=segment) == CREATED
    assert (waiting.state, waiting.filled) == (COMPLETE, 2)
    assert store.purge(b"/s")
    assert waiting.dead


def test_a_view_may_not_take_the_name_of_its_segment() -> None:
    store = StoreOf(1 << 20)
    segment = entry(store, b"/s", reserve=True)
    segment.begin()
    segment.append(b"0123456789")
    assert store.put(b"/s", b"01", parent=segment) == CONFLICT
    assert not segment.dead


def test_views_are_not_evicted_apart() -> None:
    store = StoreOf(OBJECT_BYTES * 6)
    for i in range(20):
        store.put(b"/%d" % i, b"x" * OBJECT_BYTES)
        ref, _ = store.acquire(b"/%d" % i)
        if ref is not None:
            store.put(b"/%d.0" % i, b"x", parent=ref)
    for i in range(20):
        assert there(store, b"/%d" % i) == there(store, b"/%d.0" % i)


# ---------------------------------------------------------------- budget


def test_the_budget_holds() -> None:
    store = StoreOf(OBJECT_BYTES * 10)
    for i in range(100):
        assert store.put(b"/%d" % i, b"x" * OBJECT_BYTES) == CREATED
        assert store.figures()["used"] <= OBJECT_BYTES * 10 * 17 // 16 + OBJECT_BYTES
    assert store.figures()["evicted"] >= 89
    assert there(store, b"/99")


def test_what_is_asked_for_stays() -> None:
    """One hit saves an object from one round."""
    store = StoreOf(OBJECT_BYTES * 10)
    store.put(b"/hot", b"x" * OBJECT_BYTES)
    for i in range(60):
        entry(store, b"/hot").visit()
        store.put(b"/%d" % i, b"x" * OBJECT_BYTES)
    assert there(store, b"/hot")


def test_what_is_being_filled_or_waited_for_is_not_evicted() -> None:
    store = StoreOf(OBJECT_BYTES * 4)
    filling = entry(store, b"/filling", reserve=True)
    filling.begin()
    reserved = entry(store, b"/reserved", reserve=True)
    for i in range(50):
        store.put(b"/%d" % i, b"x" * OBJECT_BYTES)
    assert (filling.dead, reserved.dead) == (False, False)


def test_no_room_is_said() -> None:
    store = StoreOf(OBJECT_BYTES)
    pinned = entry(store, b"/filling", reserve=True)
    pinned.begin()
    pinned.append(b"x" * OBJECT_BYTES * 2)
    assert store.put(b"/a", b"x") == NO_SPACE
    assert store.publish(b"/l", 1, 1) == NO_SPACE
    assert store.acquire(b"/b", reserve=True) == (None, False)
    assert not store.make_room(1)
    assert store.figures()["refused"] >= 3
    pinned.fail(502)
    del pinned
    assert store.put(b"/a", b"x") == CREATED


def test_what_is_read_counts_until_it_is_let_go() -> None:
    store = StoreOf(OBJECT_BYTES * 4)
    store.put(b"/a", b"x" * OBJECT_BYTES)
    reader = entry(store, b"/a")
    store.purge(b"/a")
    assert store.figures()["used"] > OBJECT_BYTES
    del reader
    assert store.figures()["used"] == 0


def test_one_write_never_walks_the_whole_index() -> None:
    """EVICT_ROUNDS × EVICT_STEPS entries at most, even if all of them were visited."""
    store = StoreOf(20_000 * 1000)
    for i in range(10_000):
        store.put(b"/%d" % i, b"")
        entry(store, b"/%d" % i).visit()
    store.make_room(19_000 * 1000)
    assert store.figures()["evicted"] <= 4096


# ---------------------------------------------------------------- expiry and purge


def test_expiry_walks_in_bounded_steps() -> None:
    store = StoreOf(1 << 24)
    for i in range(100):
        store.put(b"/%d" % i, b"", expires_ms=100 if i % 2 else 200)
    for _ in range(10):
        store.expire(150, steps=10)
    assert store.figures()["expired"] == 50
    store.expire(150)
    assert store.figures()["expired"] == 50
    store.expire(200)
    assert store.figures()["entries"] == 0


def test_grace_keeps_an_entry_in_the_index() -> None:
    store = StoreOf(1 << 20)
    store.put(b"/a", b"x", expires_ms=100, drop_ms=300)
    store.expire(200)
    assert store.figures()["entries"] == 1
    store.expire(300)
    assert store.figures()["entries"] == 0


def test_purge_by_prefix() -> None:
    store = StoreOf(1 << 24)
    for i in range(300):
        store.put(b"/live/%d/x" % (i % 3), b"") if i < 3 else store.put(
            b"/live/%d/%d" % (i % 3, i), b""
        )
    assert store.purge_prefix(b"/live/1/") == 100
    assert store.purge_prefix(b"/live/1/") == 0
    assert store.purge_prefix(b"/liv") == 200
    assert store.purge_prefix(b"x" * 1000) == 0
    assert store.figures()["purged"] == 300


def test_colliding_buckets_keep_their_keys_apart() -> None:
    store = StoreOf(1 << 30)
    keys = [b"/k%d" % i for i in range(150_000)]
    for key in keys:
        store.acquire(key, reserve=True)
    assert store.figures()["entries"] == len(keys)
    assert all(store.purge(key) for key in keys[::7])
    assert store.figures()["entries"] == len(keys) - len(keys[::7])


# ---------------------------------------------------------------- all of it together

KEYS = [b"/a", b"/b", b"/c"]
STEP = st.tuples(st.integers(0, 9), st.sampled_from(KEYS), st.integers(0, 3))


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_whatever_happens_everything_is_given_back(steps: list[tuple[int, bytes, int]]) -> None:
    """Any order of writes, fills, views, ends and leaves: no leak, no crash, the counts close."""
    before = alive()
    store = StoreOf(1 << 22)
    held: list[EntryRef] = []
    clock = 1
    for kind, key, which in steps:
        ref = held[which % len(held)] if held else None
        if kind == 0:
            store.put(key, b"x" * 1000 * which, etag=b"%d" % which, expires_ms=clock + 10 * which)
        elif kind == 1:
            taken, _ = store.acquire(key, reserve=bool(which % 2), now_ms=clock)
            held += [taken] if taken is not None else []
        elif kind == 2 and ref is not None:
            ref.begin()
        elif kind == 3 and ref is not None and ref.state == FILLING:
            ref.append(b"y" * 5000)
            if which % 2:
                ref.commit()
        elif kind == 4 and ref is not None:
            ref.fail(404, (clock + 5) * (which % 2))
        elif kind == 5 and ref is not None and ref.state in (FILLING, COMPLETE) and ref.filled:
            store.put(key + b".v", b"y", parent=ref)
        elif kind == 6:
            store.publish(key, which, which, expires_ms=clock + 20)
        elif kind == 7:
            store.purge(key) if which % 2 else store.purge_prefix(key)
        elif kind == 8:
            clock += 5 * which
            store.expire(clock, steps=which + 1)
        elif kind == 9 and held:
            held.pop(which % len(held))
    held.clear()
    ref = None
    taken = None
    store.purge_prefix(b"")
    assert store.figures()["entries"] == 0
    assert store.figures()["used"] == 0
    assert alive() == before
