"""One request and its answer: methods, conditions, log, drain (native/exchange.pxd)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

import pytest

from tests.native.kit import TYPE, Cut, Edge, get
from tests.native.waiting import BODY, SMALL_AND_LARGE, ask_all, closing

# ---------------------------------------------------------------- hits


@SMALL_AND_LARGE
def test_a_hit(edges: Callable[..., Edge], heap: int) -> None:
    edge = edges(heap_max_bytes=heap)
    edge.put("/a", BODY, etag=b"tag")
    answer = edge.ask("/a")
    assert (answer.status, answer.body, answer.cache) == (200, BODY, b"hit")
    assert answer.fields[b"cache-status"] == b"pop-a; hit"
    assert answer.fields[b"content-type"] == b"video/mp4"
    assert answer.fields[b"etag"] == b'"tag"'
    assert answer.fields[b"accept-ranges"] == b"bytes"
    assert answer.fields[b"access-control-allow-origin"] == b"*"
    assert int(answer.fields[b"age"]) < 60
    day = rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} 20\d\d \d\d:\d\d:\d\d GMT"
    assert re.fullmatch(day, answer.fields[b"date"])


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 3_000_001])
def test_bodies_of_any_size(edge: Edge, size: int) -> None:
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    edge.put("/a", body)
    with edge.viewer() as viewer:
        assert viewer.ask("/a").body == body
        assert viewer.ask("/a", method="HEAD").fields[b"content-length"] == b"%d" % size
        assert viewer.ask("/a").body == body


@SMALL_AND_LARGE
def test_head_is_get_without_the_body(edges: Callable[..., Edge], heap: int) -> None:
    edge = edges(heap_max_bytes=heap)
    edge.put("/a", BODY)
    with edge.viewer() as viewer:
        full = viewer.ask("/a")
        head = viewer.ask("/a", method="HEAD")
        ranged = viewer.ask("/a", "Range: bytes=0-1", method="HEAD")
        assert viewer.ask("/l.m3u8?_HLS_part=1", method="HEAD").status == 400
        assert viewer.ask("/a").body == BODY, "no body was left in between"
    drop = {b"date", b"age"}
    assert [{k: v for k, v in a.fields.items() if k not in drop} for a in (head, ranged)] == [
        {k: v for k, v in full.fields.items() if k not in drop}
    ] * 2


@pytest.mark.parametrize("target", ["*", "/a", "/nothing", "/a?x"])
def test_options_is_a_preflight(edge: Edge, target: str) -> None:
    answer = edge.ask(target, "Origin: https://player.test", method="OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.fields[b"allow"] == b"GET, HEAD, OPTIONS"
    assert answer.fields[b"access-control-allow-origin"] == b"*"
    assert b"Range" in answer.fields[b"access-control-allow-headers"]
    assert b"content-length" not in answer.fields  # RFC 9110 8.6: none in a 204
    assert edge.count("misses") == 0


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ('"tag"', 304),
        ('W/"tag"', 304),
        ("*", 304),
        ('"x", "tag"', 304),
        ('"x",W/"tag" ,"y"', 304),
        (',,"tag"', 304),
        ('"x"', 200),
        ("tag", 200),
        ('"ta"', 200),
        ('"tag', 200),
        ("", 200),
        ('w/"tag"', 200),
        ("**", 200),
    ],
)
def test_if_none_match(edge: Edge, value: str, status: int) -> None:
    """RFC 9110 13.1.2, weak comparison."""
    edge.put("/a", BODY, etag=b"tag")
    answer = edge.ask("/a", f"If-None-Match: {value}")
    assert (answer.status, answer.body) == (status, BODY if status == 200 else b"")
    assert answer.fields[b"etag"] == b'"tag"'
    assert edge.count("not_modified") == (status == 304)


def test_a_condition_comes_before_a_range(edge: Edge) -> None:
    """RFC 9110 13.2.2: Range is looked at when nothing else ended the matter."""
    edge.put("/a", BODY, etag=b"tag")
    ask = ('If-None-Match: "tag"', "Range: bytes=0-1")
    assert edge.ask("/a", *ask).status == 304
    assert edge.ask("/a", *ask, method="HEAD").status == 304


def test_without_a_validator_nothing_matches(edge: Edge) -> None:
    edge.put("/a", BODY, etag=b"")
    answer = edge.ask("/a", "If-None-Match: *")
    assert answer.status == 200
    assert b"etag" not in answer.fields


# ---------------------------------------------------------------- what a log line says


def test_the_access_log(edges: Callable[..., Edge]) -> None:
    edge = edges(log=True)
    edge.put("/a", BODY)
    with edge.viewer() as viewer:
        viewer.ask("/a")
        viewer.ask("/a?query=is&not=logged", method="HEAD")
        viewer.ask("/b.m3u8?_HLS_msn=x")
        viewer.ask("/a", method="OPTIONS")
        viewer.send(get("/miss"))
        edge.fill().fail(404)
        viewer.answer()
        assert edge.raw(b"no request\r\n\r\n")[0].status == 400
    records: list[tuple[int, int, int, int, int, bytes, bytes, bytes]] = []
    while len(records) < 6:
        records += edge.plane.log_records(1)
    shown = [(status, cache, *rest[:2]) for _, _, status, _, cache, *rest in records]
    assert shown == [
        (200, 0, b"GET", b"/a"), (200, 0, b"HEAD", b"/a"), (400, 5, b"GET", b""),
        (204, 0, b"OPTIONS", b""), (404, 5, b"GET", b"/miss"), (400, 5, b"-", b""),
    ]  # fmt: skip
    assert abs(records[0][0] / 1e9 - time.time()) < 60
    assert sum(record[3] for record in records) == edge.count("bytes_out")
    assert records[0][3] > len(BODY)


def test_a_full_log_drops_and_counts(edges: Callable[..., Edge]) -> None:
    edge = edges(log=True)
    edge.put("/a", b"x")
    with edge.viewer() as viewer:
        sender = threading.Thread(target=viewer.send, args=(get("/a") * 8300,))
        sender.start()
        for _ in range(8300):
            viewer.answer()
        sender.join()
    assert len(edge.plane.log_records(10_000)) + edge.count("log_dropped") == 8300
    assert edge.count("log_dropped") == 8300 - 8192


# ---------------------------------------------------------------- stop and drain


def test_drain_releases_who_is_parked(edge: Edge) -> None:
    edge.put("/a", BODY)
    with edge.viewer() as idle:
        assert not idle.ask("/a").closes
        viewers = ask_all(edge, 10, "/miss")
        edge.await_parked(10)
        edge.plane.drain()
        assert {(a.status, a.closes) for a in closing(viewers)} == {(503, True)}
        assert edge.count("park_drained") == 10
        assert idle.at_end()
    edge.plane.drain()
    # the kernel completes handshakes for as long as the socket is open: its owner closes it
    edge.sockets[0].close()
    with pytest.raises(ConnectionError):
        edge.viewer()


def test_drain_ends_idle_connections_and_lets_requests_finish(edge: Edge) -> None:
    """Those without a request stayed for all of keep-alive (75 s), and a drain waits for them. Who
    has just come is answered: closed at once, in a restart some saw a connection that had been
    accepted end without an answer."""
    edge.put("/a", BODY)
    silent, fresh, half = edge.viewer(), edge.viewer(), edge.viewer()
    with edge.viewer() as idle, silent, fresh, half:
        idle.ask("/a")
        half.send(get("/a")[:10])
        edge.await_count("bytes_in", len(get("/a")) + 10)
        edge.await_count("accepted", 4)
        edge.plane.drain()
        assert idle.at_end()
        answer = fresh.ask("/a")
        assert (answer.status, answer.closes) == (200, True)
        assert silent.at_end()
        half.send(get("/a")[10:])
        answer = half.answer()
        assert (answer.status, answer.closes) == (200, True)
        assert half.at_end()


def test_stop_cuts_what_is_under_way(edge: Edge) -> None:
    parked, half = edge.viewer(), edge.viewer()
    parked.send(get("/a"))
    half.send(get("/b"))
    fills = {fill.key: fill for fill in (edge.fill(), edge.fill())}
    fills[b"/b"].begin(200, TYPE, length=10, ttl_ms=60_000)
    fills[b"/b"].append(b"12345")
    half.head()
    edge.plane.stop()
    with pytest.raises(Cut):
        parked.answer()
    with pytest.raises(Cut, match="reset"):
        half.read(10)
    fills.clear()
    parked.close()
    half.close()


def test_a_refusal_may_be_kept_as_long_as_we_do(edge: Edge) -> None:
    """RFC 8216bis B.1; what is not there yet, and what failed, may not."""
    for number, (status, ttl_ms, told) in enumerate(
        ((404, 12_000, b"max-age=12"), (404, 300, b"no-store"), (502, 12_000, b"no-store"))
    ):
        with edge.viewer() as viewer:
            viewer.send(get(f"/none{number}"))
            edge.fill().fail(status, ttl_ms=ttl_ms)
            assert viewer.answer().fields[b"cache-control"] == told
