"""What is past its time may be found good: its body under a new head, without a transfer
(native/store.pxd entry_renew)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from edgecache._core import PUT_CREATED, Fill
from tests.native.kit import TYPE, Edge, Viewer, eventually, get

BIG = b"0123456789" * 10_000  # in a memfd


def stored(edge: Edge, body: bytes = b"old", *, spare_ms: int = 60_000, etag: bytes = b"e") -> None:
    """`/a` holds it, and its time is over."""
    fill = edge.plane.open(b"/a")
    assert fill is not None
    assert fill.begin(
        200, TYPE, length=len(body), etag=etag, ttl_ms=0, spare_ms=spare_ms, age_ms=5000
    )
    assert fill.append(body)
    assert fill.commit(etag=b"" if etag else b"made")


def asked(edge: Edge, viewer: Viewer) -> Fill:
    viewer.send(get("/a"))
    return edge.fill()


@pytest.mark.parametrize("body", [b"old", BIG])
def test_the_same_body_under_a_new_head(edges: Callable[..., Edge], body: bytes) -> None:
    edge = edges(workers=2)
    stored(edge, body)
    with edge.viewer() as viewer, edge.viewer() as other:
        fill = asked(edge, viewer)
        other.send(get("/a"))
        edge.await_parked(2)
        stale = fill.stale
        assert stale is not None
        assert (stale["fields"], stale["etag"]) == (TYPE, b"e")
        assert 5000 <= stale["age_ms"] < 65_000
        assert 0 < stale["left_ms"] <= 60_000
        assert fill.renew(b"X: new\r\n", ttl_ms=60_000)
        for answer in (viewer.answer(), other.answer()):
            assert (answer.status, answer.body) == (200, body)
            assert (answer.fields[b"x"], answer.fields[b"etag"]) == (b"new", b'"e"')
            assert answer.cache.startswith(b"fwd=uri-miss")
    found = edge.ask("/a")
    assert (found.body, found.cache, found.fields[b"age"]) == (body, b"hit", b"0")
    assert edge.ask("/a", "Range: bytes=1-2").body == body[1:3]
    assert not fill.renew(b"", ttl_ms=1), "once"
    assert edge.count("store_entries_now") == 1


def test_a_validator_of_ours_is_nobody_elses(edge: Edge) -> None:
    stored(edge, etag=b"")
    with edge.viewer() as viewer:
        fill = asked(edge, viewer)
        assert fill.stale is not None
        assert fill.stale["etag"] == b""
        assert fill.renew(TYPE, ttl_ms=60_000)
        assert viewer.answer().fields[b"etag"] == b'"made"'


def test_it_stands_in_and_is_asked_about_again(edge: Edge) -> None:
    stored(edge)
    with edge.viewer() as viewer:
        fill = asked(edge, viewer)
        assert fill.renew(TYPE, ttl_ms=0, grace_ms=60_000, age_ms=7000, again_ms=300)
        answer = viewer.answer()
        assert (answer.body, answer.cache) == (b"old", b"hit; detail=stale")
        assert int(answer.fields[b"age"]) >= 7
    assert edge.ask("/a").cache == b"hit; detail=stale"
    assert edge.plane.misses() == []
    eventually(lambda: edge.ask("/a").body == b"old" and edge.count("refreshes") == 1)
    again = edge.fill()
    before = again.stale
    assert before is not None
    again.begin(200, TYPE, length=3, ttl_ms=60_000)
    assert again.stale is None, "once it has other bytes"
    again.append(b"new")
    again.commit()
    assert edge.ask("/a").body == b"new"


def test_what_is_too_old_is_not_kept(edge: Edge) -> None:
    stored(edge, spare_ms=50)
    time.sleep(0.06)
    with edge.viewer() as viewer:
        fill = asked(edge, viewer)
        assert fill.stale is None
        assert not fill.renew(b"", ttl_ms=1)
        fill.fail(502)
        assert viewer.answer().status == 502
    eventually(lambda: edge.count("store_entries_now") == 0)


def test_who_has_it_filled_meanwhile_wins(edge: Edge) -> None:
    """A push, whole or as a view of a segment, while its validation is under way."""
    stored(edge)
    with edge.viewer() as viewer:
        fill = asked(edge, viewer)
        segment = edge.plane.open(b"/s")
        assert segment is not None
        segment.begin(200, TYPE, length=9, ttl_ms=60_000)
        segment.append(b"push")
        assert segment.view(b"/a", 0, 4, TYPE, etag=b"p", ttl_ms=60_000) == PUT_CREATED
        assert not fill.renew(b"", ttl_ms=60_000)
        assert fill.stale is None
        assert viewer.answer().body == b"push"
        segment.fail(502)


def test_a_purge_takes_back_what_was_found_good(edge: Edge) -> None:
    stored(edge)
    with edge.viewer() as viewer:
        fill = asked(edge, viewer)
        assert edge.plane.purge(b"/a")
        assert fill.renew(TYPE, ttl_ms=60_000)  # for who waits
        assert viewer.answer().body == b"old"
    with edge.viewer() as viewer:
        asked(edge, viewer).fail(404)
        assert viewer.answer().status == 404
