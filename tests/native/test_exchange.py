"""One request and its answer: methods, conditions, ranges, parking (native/exchange.pxd)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

import pytest

from tests.native.kit import TYPE, Answer, Cut, Edge, Viewer, get

CLOSE = "Connection: close"
BODY = bytes(range(256)) * 4
SMALL_AND_LARGE = pytest.mark.parametrize("heap", [0, 16384], ids=["memfd", "heap"])


def ask_all(edge: Edge, number: int, target: str, *fields: str) -> list[Viewer]:
    """So many viewers that asked, each on a connection of its own."""
    viewers = [edge.viewer() for _ in range(number)]
    for viewer in viewers:
        viewer.send(get(target, *fields, CLOSE))
    return viewers


def closing(viewers: list[Viewer]) -> list[Answer]:
    try:
        return [viewer.answer() for viewer in viewers]
    finally:
        for viewer in viewers:
            viewer.close()


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
        assert viewer.ask("/nothing//", method="HEAD").status == 400
        assert viewer.ask("/a").body == BODY, "no body was left in between"
    drop = {b"date", b"age"}
    assert [
        {k: v for k, v in a.fields.items() if k not in drop} for a in (head, ranged)
    ] == [{k: v for k, v in full.fields.items() if k not in drop}] * 2


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
        ('"tag"', 304), ('W/"tag"', 304), ("*", 304), ('"x", "tag"', 304), ('"x",W/"tag" ,"y"', 304),
        (',,"tag"', 304), ('"x"', 200), ("tag", 200), ('"ta"', 200), ('"tag', 200), ("", 200),
        ('w/"tag"', 200), ("**", 200),
    ],
)  # fmt: skip
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


# ---------------------------------------------------------------- ranges

SIZE = len(BODY)
RANGES: list[tuple[str, int, tuple[int, int]]] = [
    ("bytes=0-0", 206, (0, 1)),
    ("bytes=0-", 206, (0, SIZE)),
    ("bytes=5-9", 206, (5, 10)),
    ("bytes=1023-", 206, (1023, SIZE)),
    (f"bytes=0-{SIZE - 1}", 206, (0, SIZE)),
    (f"bytes=0-{SIZE}", 206, (0, SIZE)),
    ("bytes=-1", 206, (SIZE - 1, SIZE)),
    ("bytes=-1024", 206, (0, SIZE)),
    ("bytes=-5000", 206, (0, SIZE)),
    ("bytes=0-18446744073709551616", 206, (0, SIZE)),
    ("bytes=0-99999999999999999999999999999999", 206, (0, SIZE)),
    ("bytes=000005-0009", 206, (5, 10)),
    ("bytes=1024-", 416, (0, 0)),
    ("bytes=1024-2000", 416, (0, 0)),
    ("bytes=99999999999999999999-", 416, (0, 0)),
    ("bytes=-0", 416, (0, 0)),
    ("bytes=a-b", 200, (0, SIZE)),
    ("bytes=5-4", 200, (0, SIZE)),
    ("bytes=", 200, (0, SIZE)),
    ("bytes=-", 200, (0, SIZE)),
    ("bytes=5", 200, (0, SIZE)),
    ("bytes=0x1-5", 200, (0, SIZE)),
    ("bytes=+1-5", 200, (0, SIZE)),
    ("bytes=--5", 200, (0, SIZE)),
    ("bytes=1--5", 200, (0, SIZE)),
    ("bytes = 1-5", 200, (0, SIZE)),
    ("bytes=1-5 ", 206, (1, 6)),
    ("bytes=1-5;q=1", 200, (0, SIZE)),
    ("items=0-5", 200, (0, SIZE)),
    ("0-5", 200, (0, SIZE)),
    ("bytes=0-,0-,0-,0-", 200, (0, SIZE)),
    ("bytes=0-1,5-6", 200, (0, SIZE)),
    ("bytes=" + ",".join(f"{i}-{i}" for i in range(1000)), 200, (0, SIZE)),
]


@SMALL_AND_LARGE
def test_ranges(edges: Callable[..., Edge], heap: int) -> None:
    """RFC 9110 14.2: one range is served, past the end is 416, anything else is the whole body."""
    edge = edges(heap_max_bytes=heap)
    edge.put("/a", BODY)
    with edge.viewer() as viewer:
        for value, status, (first, end) in RANGES:
            answer = viewer.ask("/a", f"Range: {value}")
            assert answer.status == status, value
            if status == 416:
                assert answer.fields[b"content-range"] == b"bytes */%d" % SIZE
                continue
            assert answer.body == BODY[first:end], value
            span = b"bytes %d-%d/%d" % (first, end - 1, SIZE)
            assert answer.fields.get(b"content-range") == (span if status == 206 else None)
    assert edge.count("ranges") == sum(status == 206 for _, status, _ in RANGES)


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-5", "bytes=0-0", "bytes=-0"])
def test_no_range_of_an_empty_body(edge: Edge, value: str) -> None:
    edge.put("/a", b"")
    answer = edge.ask("/a", f"Range: {value}")
    assert (answer.status, answer.fields[b"content-range"]) == (416, b"bytes */0")


@pytest.mark.parametrize("tag", ['"tag"', '"old"', 'W/"tag"', "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_if_range_never_mixes_versions(edge: Edge, tag: str) -> None:
    """The whole body is always right; a matching If-Range need not be honoured (RFC 9110 14.2)."""
    edge.put("/a", BODY, etag=b"tag")
    answer = edge.ask("/a", "Range: bytes=0-1", f"If-Range: {tag}")
    assert (answer.status, answer.body) == (200, BODY)


@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_range_of_a_growing_body(edge: Edge, size: int) -> None:
    """What is filled is sent; the rest as it comes; never beyond what is filled."""
    body = bytes(i % 251 for i in range(size))
    with edge.viewer() as viewer, edge.viewer() as late:
        viewer.send(get("/a", "Range: bytes=10-899"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=size, ttl_ms=60_000)
        status, fields = viewer.head()
        assert (status, fields[b"content-range"]) == (206, b"bytes 10-899/%d" % size)
        fill.append(body[:500])
        assert viewer.read(490) == body[10:500]
        late.send(get("/a", "Range: bytes=-100"))
        assert viewer.silent()
        fill.append(body[500:])
        assert viewer.read(400) == body[500:900]
        assert late.answer().body == body[-100:]
        fill.commit()
        assert viewer.ask("/a").body == body


def test_a_parked_range_keeps_its_bounds(edge: Edge) -> None:
    """The head that named it has left the input when the fill begins, and the worker's scratch
    holds somebody else's request by then."""
    with edge.viewer() as viewer, edge.viewer() as other:
        viewer.send(get("/a", "Range: bytes=3-6"))
        fill = edge.fill()
        for _ in range(3):
            other.send(get("/b", "Range: bytes=0-0", "X: " + "bytes=9-9 " * 1000))
            edge.fill().fail(404)
            assert other.answer().status == 404
        fill.begin(200, TYPE, length=10, ttl_ms=60_000)
        fill.append(b"0123456789")
        fill.commit()
        answer = viewer.answer()
        assert (answer.status, answer.body) == (206, b"3456")


def test_a_parked_range_that_is_too_long_to_keep(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send(get("/a", f"Range: bytes={'0' * 100}3-6"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=10, ttl_ms=60_000)
        fill.append(b"0123456789")
        fill.commit()
        assert viewer.answer().status in (200, 206)


def test_a_range_of_an_unknown_length_is_the_whole_body(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send(get("/a", "Range: bytes=3-6"))
        fill = edge.fill()
        fill.begin(200, TYPE, ttl_ms=60_000)
        fill.append(b"0123456789")
        fill.commit()
        assert viewer.answer().body == b"0123456789"
        assert viewer.ask("/a", "Range: bytes=3-6").body == b"3456"


# ---------------------------------------------------------------- misses


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
    assert (edge.count("misses"), edge.count("collapsed"), edge.count("woken")) == (1, 199, 200)


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
        fill.commit(etag=b"late")
        assert b"etag" not in viewer.answer().fields
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


# ---------------------------------------------------------------- what a log line says


def test_the_access_log(edges: Callable[..., Edge]) -> None:
    edge = edges(log=True)
    edge.put("/a", BODY)
    with edge.viewer() as viewer:
        viewer.ask("/a")
        viewer.ask("/a?query=is&not=logged", method="HEAD")
        viewer.ask("/b//")
        viewer.send(get("/miss"))
        edge.fill().fail(404)
        viewer.answer()
    records = []
    while len(records) < 4:
        records += edge.plane.log_records(1)
    shown = [(status, cache, method, target) for _, _, status, _, cache, method, target in records]
    assert shown == [
        (200, 0, b"GET", b"/a"), (200, 0, b"HEAD", b"/a"), (400, 5, b"GET", b""),
        (404, 5, b"GET", b"/miss"),
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
        assert idle.ask("/a").closes, "served once more, and asked to go"
        assert idle.at_end()
    edge.plane.drain()
    with pytest.raises(ConnectionError):
        # the kernel still completes handshakes while the socket is open: close it as the owner does
        edge.sockets[0].close()
        edge.viewer()


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
