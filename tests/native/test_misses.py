"""Requests for what is not there yet: parked, coalesced, released (native/exchange.pxd)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.native.kit import TYPE, Edge, get
from tests.native.waiting import BODY, ask_all, closing


def test_two_hundred_waiters_are_one_miss(edges: Callable[..., Edge]) -> None:
    edge = edges(workers=2)
    viewers = ask_all(edge, 200, "/a")
    edge.await_parked(200)
    fill = edge.fill()
    assert fill.waiters == 200
    assert edge.plane.misses() == []
    fill.begin(200, TYPE, length=5, ttl_ms=60_000)
    fill.append(b"hello")
    fill.commit()
    answers = closing(viewers)
    assert {(a.status, a.body) for a in answers} == {(200, b"hello")}
    words = [a.cache for a in answers]
    assert words.count(b"fwd=uri-miss; stored") == 1
    assert words.count(b"fwd=uri-miss; collapsed") == 199
    assert (edge.count("misses"), edge.count("collapsed")) == (1, 199)
    assert edge.count("woken") == edge.count("parked") >= 200  # more: starved between two appends


@pytest.mark.parametrize("status", [404, 403, 502, 503, 504])
def test_a_failed_fill_answers_everybody(edge: Edge, status: int) -> None:
    viewers = ask_all(edge, 20, "/a")
    edge.await_parked(20)
    edge.fill().fail(status)
    answers = closing(viewers)
    assert {a.status for a in answers} == {status}
    assert {a.fields[b"cache-control"] for a in answers} == {b"no-store"}
    assert {b"retry-after" in a.fields for a in answers} == {status in (503, 504)}
    again = edge.viewer()
    again.send(get("/a"))
    edge.fill().fail(404)
    assert again.answer().status == 404, "nothing was remembered"
    again.close()


def test_a_negative_entry_answers_at_once_for_its_time(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        edge.fill().fail(404, ttl_ms=400)
        assert viewer.answer().status == 404
        assert [viewer.ask("/a").status for _ in range(3)] == [404] * 3
        assert edge.count("misses") == 1
        time.sleep(0.45)
        viewer.send(get("/a"))
        edge.fill().fail(410)
        assert viewer.answer().status == 410


def test_a_fill_that_never_comes_is_a_504(edges: Callable[..., Edge]) -> None:
    edge = edges(fill_ms=200)
    viewers = ask_all(edge, 10, "/a")
    answers = closing(viewers)
    assert {(a.status, a.fields[b"retry-after"]) for a in answers} == {(504, b"1")}
    assert edge.count("park_timeout") == 10


def test_a_dropped_fill_is_a_502(edge: Edge) -> None:
    viewers = ask_all(edge, 3, "/a")
    edge.await_parked(3)
    edge.fill()
    assert {a.status for a in closing(viewers)} == {502}


def test_a_parked_condition_is_kept(edge: Edge) -> None:
    with edge.viewer() as viewer, edge.viewer() as other:
        viewer.send(get("/a", 'If-None-Match: "0123456789abcdef0123456789abcdef"'))
        fill = edge.fill()
        assert other.ask("/x//", "X: " + "y" * 5000).status == 400
        etag = b"0123456789abcdef0123456789abcdef"
        fill.begin(200, TYPE, length=1, etag=etag, ttl_ms=60_000)
        assert viewer.answer().status == 304
        fill.append(b"x")
        fill.commit()


def test_a_validator_learnt_late(edge: Edge) -> None:
    """The digest of a body is known at its end; the head for answers to come has it."""
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        fill = edge.fill()
        fill.begin(200, TYPE, ttl_ms=60_000)
        fill.append(b"hello")
        assert b"etag" not in viewer.head()[1]
        fill.commit(etag=b"late")
        assert viewer.chunk() + viewer.chunk() == b"hello"
        answer = viewer.ask("/a")
        assert answer.fields[b"etag"] == b'"late"'
        assert answer.fields[b"content-length"] == b"5"
        assert viewer.ask("/a", 'If-None-Match: "late"').status == 304


def test_a_validator_of_the_origin_is_kept(edge: Edge) -> None:
    """It came with the head; the length came with the end."""
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        fill = edge.fill()
        fill.begin(200, TYPE, etag=b"early", ttl_ms=60_000)
        fill.append(b"hello")
        fill.commit()
        assert viewer.answer().fields[b"etag"] == b'"early"'
        assert viewer.ask("/a").fields[b"etag"] == b'"early"'


def test_too_many_parked_are_shed(edges: Callable[..., Edge]) -> None:
    edge = edges(max_parked=5)
    viewers = ask_all(edge, 5, "/a")
    edge.await_parked(5)
    assert edge.ask("/a").status == 503
    assert edge.count("shed") == 1
    edge.fill().fail(404)
    assert {a.status for a in closing(viewers)} == {404}


def test_an_object_pushed_while_viewers_wait_for_it(edge: Edge) -> None:
    """The preload hint: viewers ask before the part is made."""
    viewers = ask_all(edge, 20, "/a")
    edge.await_parked(20)
    fill = edge.fill()
    edge.put("/a", BODY)
    answers = closing(viewers)
    assert {(a.status, a.body, a.cache) for a in answers} == {(200, BODY, b"hit; detail=woken")}
    assert not fill.begin(200, TYPE, ttl_ms=1)


def test_a_push_that_overtakes_a_fill_in_flight(edge: Edge) -> None:
    """Who streams from the fill finishes on the fill; who comes later gets the push."""
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=6, ttl_ms=60_000)
        fill.append(b"old")
        assert viewer.head()[0] == 200
        assert viewer.read(3) == b"old"
        edge.put("/a", b"pushed")
        assert edge.ask("/a").body == b"pushed"
        fill.append(b"old")
        fill.commit()
        assert viewer.read(3) == b"old"
        assert viewer.ask("/a").body == b"pushed"
