"""Routes of kind `http` through a real daemon: one connection serves media and pages alike."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

from tests.running import Edge, ScriptedOrigin, ask, ok, read_all, read_head

ROUTES = 'route=[{prefix="/live/"},{prefix="/",kind="http"}]'
FRESH = "Cache-Control: max-age=60"
LEDGER = ("edge_accepted_total", "edge_closed_total", "edge_connections_now")


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin) -> Iterator[Edge]:
    with Edge([f"origin.urls={origin.url}", ROUTES, "http.workers=2"]) as found:
        yield found
        accepted, closed, now = (found.metrics()[name] for name in LEDGER)
        assert accepted == closed + now
        handed, back = (
            found.metrics()[f"edge_{name}_total"] for name in ("handed_over", "taken_back")
        )
        assert handed >= back > 0


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: h", *fields, "", "")).encode()


def test_one_connection_for_media_and_pages(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/live/a.m4s", ok(b"media", FRESH))
    origin.says("/page", ok(b"page", FRESH))
    with edge.raw() as viewer:
        for _ in range(20):
            for path, body in (("/live/a.m4s", b"media"), ("/page", b"page")):
                viewer.sendall(get(path))
                head, rest = read_head(viewer)
                assert head.startswith(b"HTTP/1.1 200")
                while len(rest) < len(body):
                    rest += viewer.recv(100)
                assert rest == body
    assert origin.count("/live/a.m4s") == origin.count("/page") == 1


def test_pipelined_over_both_planes_in_order(edge: Edge, origin: ScriptedOrigin) -> None:
    for n in range(40):
        origin.says(f"/live/{n}", ok(b"m%d" % n, FRESH))
        origin.says(f"/p{n}", ok(b"p%d" % n, FRESH))
    asked = b"".join(get(f"/live/{n}") + get(f"/p{n}") for n in range(40))
    with edge.raw() as viewer:
        viewer.sendall(asked + get("/p0", "Connection: close"))
        answers = read_all(viewer)
    bodies = [part.partition(b"HTTP/1.1")[0] for part in answers.split(b"\r\n\r\n")[1:]]
    assert bodies == [b"%c%d" % (c, n) for n in range(40) for c in b"mp"] + [b"p0"]


def test_any_method_on_a_site_and_only_there(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.scripts["/form"] = lambda asked: [ok(asked.method.encode())]
    assert ask(edge.http, "POST", "/form", {}, b"x=1").body == b"POST"
    assert ask(edge.http, "DELETE", "/form", {}).body == b"DELETE"
    assert ask(edge.http, "POST", "/live/a.m4s", {}, b"x").status == 405
    with edge.raw() as viewer:
        viewer.sendall(b"GET /form HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        assert read_all(viewer).startswith(b"HTTP/1.1 400 ")
    with edge.raw() as viewer:
        viewer.sendall(b"GET /../form HTTP/1.1\r\nHost: h\r\n\r\n")
        assert read_all(viewer).startswith(b"HTTP/1.1 400 ")


def test_a_slow_site_does_not_slow_media(edge: Edge, origin: ScriptedOrigin) -> None:
    gate = threading.Event()
    origin.says("/slow", gate, ok(b"late"))
    origin.says("/live/b.m4s", ok(b"media", FRESH))
    assert edge.get("/live/b.m4s").status == 200
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(edge.get, f"/slow?{n}") for n in range(20)]
        edge.settled("edge_site_requests", 20)
        assert all(edge.get("/live/b.m4s").body == b"media" for _ in range(50))
        gate.set()
        assert {each.result().body for each in waiting} == {b"late"}


def test_purged_by_key_prefix_and_tag(edge: Edge, origin: ScriptedOrigin) -> None:
    for name in ("one", "two", "three"):
        origin.says(f"/tags/{name}", ok(b"x", FRESH, f"Cache-Tag: {name}, all"))
        edge.get(f"/tags/{name}")
    assert (
        ask(edge.admin, "POST", "/purge?key=/tags/one", {}).body.split()
        == b'{ "purged": 1 }'.split()
    )
    assert b'"purged": 1' in ask(edge.admin, "POST", "/purge?tag=two", {}).body
    assert b'"purged": 1' in ask(edge.admin, "POST", "/purge?prefix=/tags/", {}).body
    assert ask(edge.admin, "POST", "/purge?tag=a&key=b", {}).status == 400
    edge.get("/tags/one")
    assert origin.count("/tags/one") == 2


def test_drain_answers_what_was_asked(origin: ScriptedOrigin) -> None:
    gate = threading.Event()
    origin.says("/drained", gate, ok(b"answered"))
    options = [f"origin.urls={origin.url}", "origin.kind=http"]
    with Edge(options) as edge, concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(edge.get, "/drained")
        edge.settled("edge_site_requests", 1)
        edge.process.terminate()
        edge.logged("draining")
        gate.set()
        assert waiting.result().body == b"answered"
        assert edge.process.wait(15) == 0
