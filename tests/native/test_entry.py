"""An entry's references and states (native/entry.pxd)."""

from __future__ import annotations

import pytest

from tests.native._probe import StoreOf, alive

COMPLETE = 2


def test_the_last_reference_frees_it() -> None:
    before = alive()
    store = StoreOf(1 << 20)
    store.put(b"/a", b"body")
    refs = [store.acquire(b"/a")[0] for _ in range(5)]
    assert refs[0] is not None
    assert refs[0].refs == 6
    store.purge(b"/a")
    assert refs[0].refs == 5
    assert (refs[0].state, refs[0].filled, refs[0].dead) == (COMPLETE, 4, True)
    refs.clear()
    assert store.figures()["used"] == 0
    assert alive() == before


@pytest.mark.parametrize("length", [1, 8, 9, 4096, 50_000])
def test_keys_of_any_length(length: int) -> None:
    store = StoreOf(1 << 24)
    key = b"/" + b"k" * (length - 1)
    store.put(key, b"body")
    assert store.acquire(key)[0] is not None
    assert store.acquire(key + b"k")[0] is None
    assert store.acquire(key[:-1] or b"x")[0] is None


def test_a_view_keeps_its_parent_and_its_bytes() -> None:
    before = alive()
    store = StoreOf(1 << 20)
    parent, _ = store.acquire(b"/s", reserve=True)
    assert parent is not None
    parent.begin()
    parent.append(b"0123456789")
    store.put(b"/s.0", b"01234", parent=parent)
    view, _ = store.acquire(b"/s.0")
    assert view is not None
    store.purge(b"/s")
    del parent
    assert view.filled == 5
    del view
    assert alive() == before


def test_an_entry_is_charged_while_it_lives() -> None:
    store = StoreOf(1 << 20)
    ref, _ = store.acquire(b"/a", reserve=True)
    used = store.figures()["used"]
    assert used > 0
    store.purge(b"/a")
    assert store.figures()["used"] == used
    del ref
    assert store.figures()["used"] == 0
