"""edgecache/control/site.py and what it is made of, between real sockets and a scripted origin."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.looped import eventually, looped
from tests.running import ScriptedOrigin, Step, ok
from tests.site_front import KEEP_MAX, front

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FRESH = "Cache-Control: max-age=60"
STALE = "Cache-Control: max-age=0, stale-while-revalidate=60"


@pytest.fixture
def origin() -> Iterator[ScriptedOrigin]:
    server = ScriptedOrigin()
    yield server
    server.close()


def then(*answers: bytes) -> Callable[[object], list[bytes]]:
    """One answer after the other, the last one for ever."""
    left = list(answers)
    return lambda _: [left.pop(0) if len(left) > 1 else left[0]]


@looped
async def test_a_hit_says_so_and_ages(origin: ScriptedOrigin) -> None:
    origin.says("/a", ok(b"hello", FRESH, "Age: 7", "X-Own: 1", "Connection: X-Hop", "X-Hop: 1"))
    async with front(origin.url) as edge:
        first, second = await edge.get("/a"), await edge.get("/a")
    assert (first.body, second.body) == (b"hello", b"hello")
    assert first.fields["cache-status"] == "edge; fwd=uri-miss; fwd-status=200; stored"
    assert second.fields["cache-status"].startswith("edge; hit; ttl=5")
    assert int(second.fields["age"]) in (7, 8)
    assert second.fields["x-own"] == "1"
    assert "x-hop" not in second.fields
    assert origin.count("/a") == 1


@looped
async def test_many_at_once_are_one_request(origin: ScriptedOrigin) -> None:
    gate = threading.Event()
    head, _, body = ok(b"x" * 3000, FRESH).partition(b"\r\n\r\n")
    origin.says("/a", head + b"\r\n\r\n" + body[:1000], gate, body[1000:])
    async with front(origin.url) as edge:
        request = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
        asked = [asyncio.create_task(edge.raw(request)) for _ in range(50)]
        await eventually(lambda: edge.site.counts["collapsed"] == 49)
        gate.set()
        answers = await asyncio.gather(*asked)
    assert {answer.partition(b"\r\n\r\n")[2] for answer in answers} == {b"x" * 3000}
    assert origin.count("/a") == 1
    assert sum(b"; collapsed" in answer for answer in answers) == 49


@looped
async def test_what_is_not_for_all_is_asked_for_again(origin: ScriptedOrigin) -> None:
    gate = threading.Event()
    origin.scripts["/a"] = lambda asked: [
        gate, ok(asked.fields["lang"].encode(), FRESH, "Vary: Lang"),
    ]  # fmt: skip
    async with front(origin.url) as edge:
        asked = [asyncio.create_task(edge.get("/a", {"Lang": lang})) for lang in ("de", "fr", "de")]
        await eventually(lambda: edge.site.counts["forwarded"])
        gate.set()
        answers = await asyncio.gather(*asked)
        assert [answer.body for answer in answers] == [b"de", b"fr", b"de"]
        assert (await edge.get("/a", {"Lang": "fr"})).fields["cache-status"].startswith("edge; hit")
    assert origin.count("/a") in (2, 3)


@looped
async def test_private_answers_are_never_shared(origin: ScriptedOrigin) -> None:
    origin.scripts["/me"] = lambda asked: [
        0.05, ok(asked.fields["cookie"].encode(), "Cache-Control: private, max-age=60"),
    ]  # fmt: skip
    async with front(origin.url) as edge:
        names = [f"user={n}" for n in range(8)]
        answers = await asyncio.gather(*(edge.get("/me", {"Cookie": n}) for n in names))
    assert [answer.body.decode() for answer in answers] == names


@looped
async def test_stale_while_it_is_validated_blocks_nobody(origin: ScriptedOrigin) -> None:
    gate = threading.Event()
    answers = iter([[ok(b"old", STALE, 'ETag: "1"')]])
    origin.scripts["/a"] = lambda _: next(answers, [gate, ok(b"new", FRESH)])
    async with front(origin.url) as edge:
        await edge.get("/a")
        stale = [await edge.get("/a") for _ in range(3)]
        assert {answer.body for answer in stale} == {b"old"}
        gate.set()
        await eventually(lambda: edge.site.counts["stored"] == 2)
        assert (await edge.get("/a")).body == b"new"
    assert origin.count("/a") == 2
    assert origin.asked[1].fields["if-none-match"] == '"1"'


@looped
async def test_a_304_makes_it_fresh_again(origin: ScriptedOrigin) -> None:
    valid = b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nX-New: 2\r\n\r\n"
    origin.scripts["/a"] = then(ok(b"it", "Cache-Control: no-cache", 'ETag: "1"', "X: 1"), valid)
    async with front(origin.url) as edge:
        await edge.get("/a")
        second = await edge.get("/a")
        third = await edge.get("/a")
    assert (second.status, second.body, second.fields["x-new"]) == (200, b"it", "2")
    assert second.fields["cache-status"] == "edge; fwd=stale; fwd-status=304; stored"
    assert (third.body, third.fields["x"]) == (b"it", "1")
    assert third.fields["cache-status"].startswith("edge; hit")
    assert origin.count("/a") == 2


@pytest.mark.parametrize("failure", ["fin", "status"])
@looped
async def test_stale_if_the_origin_fails(origin: ScriptedOrigin, failure: str) -> None:
    answers = iter([[ok(b"old", "Cache-Control: max-age=0", 'ETag: "1"')]])
    broken: list[bytes | str] = ["fin"] if failure == "fin" else [ok(b"", status="503 Busy")]
    origin.scripts["/a"] = lambda _: next(answers, broken)
    origin.scripts["/strict"] = then(
        ok(b"old", "Cache-Control: max-age=0, must-revalidate", 'ETag: "1"'),
        ok(b"", status="503 Busy"),
    )
    async with front(origin.url) as edge:
        await edge.get("/a")
        stale = await edge.get("/a")
        assert (stale.status, stale.body) == (200, b"old")
        assert stale.fields["cache-status"] == "edge; hit; fwd=stale; detail=error"
        await edge.get("/strict")
        assert (await edge.get("/strict")).status == 503


@looped
async def test_an_unsafe_method_that_succeeds_forgets_what_it_names(
    origin: ScriptedOrigin,
) -> None:
    for path in ("/a", "/b", "/c"):
        origin.says(path, ok(path.encode(), FRESH))
    origin.scripts["/a"] = lambda asked: [
        ok(b"done", "Location: /b", f"Content-Location: {origin.url}/c")
        if asked.method == "POST"
        else ok(b"/a", FRESH)
    ]
    origin.says("/failed", ok(b"", status="500 Oops"))
    async with front(origin.url) as edge:
        for path in ("/a", "/b", "/c"):
            await edge.get(path)
        posted = await edge.ask("POST", "/a", body=b"news")
        assert posted.fields["cache-status"] == "edge; fwd=method; fwd-status=200"
        for path in ("/a", "/b", "/c"):
            await edge.get(path)
    assert origin.count("/a") == 3
    assert origin.count("/b") == 2
    assert origin.count("/c") == 1  # another host's
    asked = next(each for each in origin.asked if each.method == "POST")
    assert asked.fields["content-length"] == "4"


@looped
async def test_conditions_and_ranges_are_answered_here(origin: ScriptedOrigin) -> None:
    origin.says("/a", ok(b"0123456789", FRESH, 'ETag: "1"'))
    async with front(origin.url) as edge:
        first = await edge.get("/a", {"If-None-Match": '"1"', "If-Modified-Since": "x"})
        assert first.status == 304
        assert "if-none-match" not in origin.asked[0].fields
        part = await edge.get("/a", {"Range": "bytes=2-4"})
        assert (part.status, part.body) == (206, b"234")
        assert part.fields["content-range"] == "bytes 2-4/10"
        assert (await edge.get("/a", {"Range": "bytes=-3"})).body == b"789"
        beyond = await edge.get("/a", {"Range": "bytes=10-"})
        assert (beyond.status, beyond.fields["content-range"]) == (416, "bytes */10")
        other = await edge.get("/a", {"Range": "bytes=2-4", "If-Range": '"2"'})
        assert (other.status, other.body) == (200, b"0123456789")
        head = await edge.ask("HEAD", "/a")
        assert (head.status, head.fields["content-length"], head.body) == (200, "10", b"")
    assert origin.count("/a") == 1


@looped
async def test_a_range_that_is_not_held_is_fetched_and_kept(origin: ScriptedOrigin) -> None:
    part = ok(b"56789", FRESH, "Content-Range: bytes 5-9/10", status="206 Partial Content")
    origin.says("/a", part)
    async with front(origin.url) as edge:
        assert (await edge.get("/a", {"Range": "bytes=5-"})).body == b"56789"
        inside = await edge.get("/a", {"Range": "bytes=6-7"})
        assert (inside.status, inside.body) == (206, b"67")
        assert inside.fields["content-range"] == "bytes 6-7/10"
    assert [each.fields.get("range") for each in origin.asked] == ["bytes=5-"]


@looped
async def test_a_body_that_is_cut_never_looks_whole_and_is_not_kept(
    origin: ScriptedOrigin,
) -> None:
    whole = ok(b"x" * 1000, FRESH)
    origin.says("/cut", whole[:-500], "fin")
    origin.says(
        "/chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "fin"
    )
    async with front(origin.url) as edge:
        for path in ("/cut", "/chunks"):
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                await edge.get(path)
        assert len(edge.site.shelf) == 0
    assert edge.site.counts["failed.cut"] == 2


@looped
async def test_what_is_too_large_to_keep_passes_through(origin: ScriptedOrigin) -> None:
    body = bytes(range(256)) * (3 * KEEP_MAX // 256)
    origin.says("/large", ok(body, FRESH))
    async with front(origin.url) as edge:
        answer = await edge.get("/large")
        assert answer.body == body
        assert "stored" not in answer.fields["cache-status"]
        assert len(edge.site.shelf) == 0


@looped
async def test_chunks_both_ways(origin: ScriptedOrigin) -> None:
    origin.says(
        "/a",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    )
    request = (
        b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    async with front(origin.url) as edge:
        answer = await edge.raw(request)
        old = await edge.raw(b"POST /a HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
    framed = answer.partition(b"\r\n\r\n")[2]
    assert framed in (
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
    )
    assert old.endswith(b"\r\n\r\nhello")
    assert b"connection: close" in old.lower()
    assert origin.asked[0].fields["content-length"] == "5"
    assert "x-trailer" not in origin.asked[0].fields
    assert "transfer-encoding" not in origin.asked[0].fields


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"0\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n", 413),
        (b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n"
         + b"x" * 2000, 413),
        (b"TRACE /a HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nCdn-Loop: other, edgecache-edge-00000000\r\n\r\n", 508),
    ],
)  # fmt: skip
@looped
async def test_what_never_reaches_the_origin(
    origin: ScriptedOrigin, head: bytes, status: int
) -> None:
    async with front(origin.url) as edge:
        answer = await edge.raw(head)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert origin.asked == []


@looped
async def test_viewers_cannot_send_the_cache_to_the_origin(origin: ScriptedOrigin) -> None:
    origin.says("/a", ok(b"x", FRESH))
    async with front(origin.url) as edge:
        assert (await edge.get("/a", {"Cache-Control": "only-if-cached"})).status == 504
        await edge.get("/a")
        for value in ("no-cache", "max-age=0", "no-store"):
            await edge.get("/a", {"Cache-Control": value, "Pragma": "no-cache"})
    assert origin.count("/a") == 1


@looped
async def test_early_hints_reach_who_asked(origin: ScriptedOrigin) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n"
    origin.says("/a", hint, ok(b"x", FRESH))
    async with front(origin.url) as edge:
        asked = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
        first, second = await edge.raw(asked), await edge.raw(asked)
        old = await edge.raw(b"GET /a?2 HTTP/1.0\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </s.css>\r\n\r\nHTTP/1.1 200 OK")
    assert second.startswith(b"HTTP/1.1 200 OK")
    assert old.startswith(b"HTTP/1.1 200 OK")


@looped
async def test_the_next_origin_is_asked_when_one_is_away(origin: ScriptedOrigin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        away = f"http://127.0.0.1:{gone.getsockname()[1]}"
    origin.says("/a", ok(b"x"))
    async with front(away, origin.url) as edge:
        assert (await edge.get("/a")).body == b"x"
        assert (await edge.ask("POST", "/a", body=b"y")).body == b"x"  # it was not sent before
    async with front(away) as edge:
        answer = await edge.get("/a")
        assert answer.status == 502
        assert answer.fields["cache-status"] == "edge; fwd=miss; detail=refused"


@looped
async def test_a_connection_goes_on_after_an_answer_with_what_was_behind_the_request(
    origin: ScriptedOrigin,
) -> None:
    origin.says("/a", ok(b"a", FRESH))
    origin.says("/b", ok(b"b"))
    asked = (
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
        b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nGET"
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
        b"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    async with front(origin.url) as edge:
        answer = await edge.raw(asked)
        split = await edge.raw(*(asked[at : at + 7] for at in range(0, len(asked), 7)))
    for got in (answer, split):
        bodies = [part.partition(b"HTTP/1.1")[0] for part in got.split(b"\r\n\r\n")[1:]]
        assert bodies == [b"a", b"b", b"a", b"b"]
        assert b"Connection: close" in got.rpartition(b"HTTP/1.1 200")[2]
    assert origin.count("/never") == 0


@looped
async def test_what_was_asked_before_a_purge_is_neither_kept_nor_joined(
    origin: ScriptedOrigin,
) -> None:
    gate = threading.Event()
    answers: Iterator[list[Step]] = iter([[gate, ok(b"old", FRESH)]])
    origin.scripts["/a"] = lambda _: next(answers, [ok(b"new", FRESH)])
    async with front(origin.url) as edge:
        early = asyncio.create_task(edge.get("/a"))
        await eventually(lambda: origin.count("/a") == 1)
        edge.site.shelf.invalidate("/a")
        assert (await edge.get("/a")).body == b"new"
        gate.set()
        assert (await early).body == b"old"
        assert (await edge.get("/a")).body == b"new"
    assert origin.count("/a") == 2


@looped
async def test_tags_name_what_is_purged(origin: ScriptedOrigin) -> None:
    origin.says("/a", ok(b"x", FRESH, "Surrogate-Key: red blue"))
    origin.says("/b", ok(b"x", FRESH, "Cache-Tag: red,green"))
    async with front(origin.url) as edge:
        await edge.get("/a")
        await edge.get("/b")
        assert edge.site.shelf.purge(tag="green") == 1
        assert edge.site.shelf.purge(tag="blue") == 1
