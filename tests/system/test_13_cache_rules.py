"""Rules of caching, as an origin and a viewer see them: whose word counts, what is one object, how
long an answer lives, what is served stale (RFC 9111, 9213, 5861; RFC 8216bis B.1)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from tests.running import LIMIT_S, Edge, ScriptedOrigin, ok

VIEWERS = ("Accept-Encoding", "Accept-Language", "Cookie", "Origin")

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin) -> Iterator[Edge]:
    """Without followers: what a cache does by itself."""
    options = (f"origin.urls={origin.url}", "cache.target_duration=2s", "http.workers=1")
    with Edge(
        (*options, "origin.breaker_failures=1000", 'route=[{prefix="/", kind="vod"}]')
    ) as daemon:
        yield daemon
        assert daemon.stop() == 0


def until(edge: Edge, path: str, word: str) -> dict[str, str]:
    """Ask until `Cache-Status` has `word`; the fields of that answer."""
    deadline = time.monotonic() + LIMIT_S
    while word not in (fields := edge.get(path).fields)["cache-status"]:
        assert time.monotonic() < deadline, fields
        time.sleep(0.01)
    return fields


def test_cdn_cache_control_is_for_us_alone(edge: Edge, origin: ScriptedOrigin) -> None:
    lines = ("CDN-Cache-Control: max-age=60", "Cache-Control: no-store", "Content-Type: video/mp4")
    origin.says("/targeted.m4s", ok(b"x", *lines))
    first, second = edge.get("/targeted.m4s"), edge.get("/targeted.m4s")
    assert origin.count("/targeted.m4s") == 1
    for answer in (first, second):
        assert answer.fields["cache-control"] == "no-store"
        assert "cdn-cache-control" not in answer.fields


def test_age_counts_what_came_with_the_answer(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/aged.m4s", ok(b"x", "Cache-Control: max-age=600", "Age: 100"))
    # a worker's clock may be a turn old: 99.99 s
    assert int(edge.get("/aged.m4s").fields["age"]) in range(99, 120)
    assert int(edge.get("/aged.m4s").fields["age"]) in range(100, 120)


def test_the_time_that_an_answer_took_is_part_of_its_age(
    edge: Edge, origin: ScriptedOrigin
) -> None:
    """RFC 9111 4.2.3: it may be as old as the request."""
    origin.says("/slow.m4s", 1.1, ok(b"x", "Cache-Control: max-age=60"))
    assert int(edge.get("/slow.m4s").fields["age"]) >= 1


def test_an_origin_whose_clock_is_off_is_kept_all_the_same(
    edge: Edge, origin: ScriptedOrigin
) -> None:
    origin.says(
        "/off.m4s", ok(b"x", "Cache-Control: max-age=60", f"Date: {formatdate(1e9, usegmt=True)}")
    )
    assert [edge.get("/off.m4s").body for _ in range(3)] == [b"x"] * 3
    assert origin.count("/off.m4s") == 1


def test_there_is_one_variant_of_what_is_pulled(edge: Edge, origin: ScriptedOrigin) -> None:
    """What selects a representation is our request, which is always the same: no viewer's field
    reaches the origin, so none of them makes a second variant, and none gets another's."""
    origin.scripts["/vary.m4s"] = lambda asked: [
        ok(
            repr([asked.fields.get(name.lower()) for name in VIEWERS]).encode(),
            "Cache-Control: max-age=60", f"Vary: {', '.join(VIEWERS)}",
        )
    ]  # fmt: skip
    mine, yours, nobodys = (
        edge.get("/vary.m4s", dict.fromkeys(VIEWERS, value) if value else {})
        for value in ("en", "de", "")
    )
    assert mine.body == yours.body == nobodys.body == repr(["identity", None, None, None]).encode()
    assert "vary" not in yours.fields, "it does not"
    assert origin.count("/vary.m4s") == 1


def test_what_varies_by_more_than_fields_is_not_kept(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/star.m4s", ok(b"x", "Cache-Control: max-age=60", "Vary: Accept, *"))
    assert [edge.get("/star.m4s").body for _ in range(2)] == [b"x"] * 2
    assert origin.count("/star.m4s") == 2


def test_what_players_add_does_not_split_an_object(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/one.m4s", ok(b"x", "Cache-Control: max-age=600"))
    for query in ("?token=a", "?CMCD=br%3D300%2Csid%3D%22x%22", "?b=1&a=2", ""):
        assert edge.get(f"/one.m4s{query}").body == b"x"
    assert origin.count("/one.m4s") == 1
    assert [asked.target for asked in origin.asked if "/one" in asked.target] == ["/one.m4s"]


def test_one_version_of_a_playlist_is_one_object(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.scripts["/p.m3u8"] = lambda asked: [
        ok(asked.target.encode(), "Cache-Control: max-age=600")
    ]
    wanted = b"/p.m3u8?_HLS_msn=7&_HLS_part=2"
    for query in (
        "_HLS_msn=7&_HLS_part=2",
        "_HLS_part=2&_HLS_msn=7",
        "token=x&_HLS_part=2&CMCD=a&_HLS_msn=007",
        "_HLS%5Fmsn=%37&_HLS_part=2",
    ):
        assert edge.get(f"/p.m3u8?{query}").body == wanted
    assert origin.count("/p.m3u8") == 2, "the playlist, in case it has versions; then this one"


def test_stale_while_revalidate(edge: Edge, origin: ScriptedOrigin) -> None:
    """Nobody waits for the new one, and the origin is asked once for it."""
    go = threading.Event()
    rule = "Cache-Control: max-age=1, stale-while-revalidate=30"
    origin.scripts["/swr.m4s"] = lambda _: (
        [ok(b"old", rule)] if origin.count("/swr.m4s") == 1 else [go, ok(b"new", rule)]
    )
    assert edge.get("/swr.m4s").body == b"old"
    until(edge, "/swr.m4s", "stale")
    assert [edge.get("/swr.m4s").body for _ in range(10)] == [b"old"] * 10
    go.set()
    deadline = time.monotonic() + LIMIT_S
    while edge.get("/swr.m4s").body != b"new":
        assert time.monotonic() < deadline
    assert origin.count("/swr.m4s") == 2


def test_what_is_not_there_yet_is_refused_for_a_moment(edge: Edge, origin: ScriptedOrigin) -> None:
    """What is gone is refused for a target duration, here two seconds; cache.negative is 0.3 s."""
    origin.says("/n/10.m4s", ok(b"x", "Cache-Control: max-age=600"))
    assert edge.get("/n/10.m4s").status == 200
    for path, least, most in (("/n/11.m4s", 0.25, 1.9), ("/n/9.m4s", 1.9, 9.0)):
        started = time.monotonic()
        while origin.count(path) < 2:
            assert edge.get(path).status == 404
            assert time.monotonic() - started < LIMIT_S
        assert least < time.monotonic() - started < most


OLD = "Cache-Control: max-age=1"
TAG, SINCE = 'ETag: "v1"', "Last-Modified: Tue, 01 Sep 2026 10:00:00 GMT"
BUSY = ok(b"", "Retry-After: 2", status="503 Busy")
BROKEN = ok(b"", status="500 No")
PAST = {  # what was stored -> what the origin answers later, what viewers get then
    "/past/tag.m4s": ((OLD, TAG), [b'HTTP/1.1 304 -\r\nETag: "v1"\r\n\r\n'], (200, b"old")),
    "/past/since.m4s": ((OLD, SINCE), [b"HTTP/1.1 304 -\r\n\r\n"], (200, b"old")),
    "/past/renewed.m4s": (
        (OLD, TAG),
        [b"HTTP/1.1 304 -\r\nCache-Control: max-age=600\r\n\r\n"],
        (200, b"old"),
    ),
    "/past/changed.m4s": ((OLD, TAG), [ok(b"new", 'ETag: "v2"')], (200, b"new")),
    "/past/gone.m4s": ((OLD, TAG), [ok(b"", status="404 No")], (404, None)),
    "/past/other.m4s": ((OLD, TAG), [b'HTTP/1.1 304 -\r\nETag: "v2"\r\n\r\n'], (200, b"old")),
    "/past/broken.m4s": ((OLD, TAG), [BROKEN], (200, b"old")),
    "/past/busy.m4s": ((OLD, TAG), [BUSY], (200, b"old")),
    "/past/strict.m4s": ((OLD + ", must-revalidate", TAG), [BROKEN], (502, None)),
    "/past/shared.m4s": (("Cache-Control: s-maxage=1", TAG), [BROKEN], (502, None)),
    "/past/none.m4s": ((OLD + ", stale-if-error=0", TAG), [BROKEN], (502, None)),
    "/past/list.m3u8": ((OLD, TAG), [BROKEN], (502, None)),
    "/past/said.m3u8": ((OLD + ", stale-if-error=60",), [BROKEN], (200, b"old")),
    "/past/swr.m4s": (
        (OLD + ", stale-while-revalidate=60, must-revalidate", TAG),
        [BROKEN],
        (502, None),
    ),
}


def test_what_is_past_its_time_is_asked_about_and_stands_in(
    edge: Edge, origin: ScriptedOrigin
) -> None:
    """RFC 9110 13, RFC 9111 4.2.4 and 4.3, RFC 5861 4."""
    for path, (fields, _, _) in PAST.items():
        origin.says(path, ok(b"old", *fields))
        assert edge.get(path).body == b"old"
        edge.complete(path)
    time.sleep(1.1)
    for path, (_, later, _) in PAST.items():
        origin.says(path, *later)
    answers = {path: edge.get(path) for path in PAST}
    got = {path: (a.status, a.body if a.status == 200 else None) for path, a in answers.items()}
    assert got == {path: wanted for path, (_, _, wanted) in PAST.items()}
    stale = [path for path, a in answers.items() if "stale" in a.fields["cache-status"]]
    assert sorted(stale) == sorted(
        ["/past/other.m4s", "/past/broken.m4s", "/past/busy.m4s", "/past/said.m3u8"]
    )
    asked = {a.target: a.fields for a in origin.asked if a.target in PAST}  # the last of each
    assert asked["/past/tag.m4s"].get("if-none-match") == '"v1"'
    assert "if-modified-since" not in asked["/past/tag.m4s"]
    assert asked["/past/since.m4s"]["if-modified-since"] == SINCE.partition(": ")[2]
    assert "if-none-match" not in asked["/past/since.m4s"], "a validator that we made"
    again = edge.get("/past/renewed.m4s")
    assert again.fields["cache-status"] == "edge; hit"
    assert again.fields["cache-control"] == "max-age=600"
    assert (again.body, again.fields["etag"]) == (b"old", '"v1"')
    assert int(answers["/past/broken.m4s"].fields["age"]) >= 1
    assert int(again.fields["age"]) == 0
    assert edge.get("/past/busy.m4s").body == b"old"
    assert origin.count("/past/busy.m4s") == 2, "it said when to ask again"


def test_who_asks_for_what_stands_in_waits_for_nobody(edge: Edge, origin: ScriptedOrigin) -> None:
    go = threading.Event()
    origin.says("/away.m4s", ok(b"old", OLD, TAG))
    edge.get("/away.m4s")
    time.sleep(1.1)
    origin.says("/away.m4s", BROKEN)
    assert edge.get("/away.m4s").body == b"old"
    origin.says("/away.m4s", go, ok(b"new", 'ETag: "v2"', "Cache-Control: max-age=600"))
    deadline = time.monotonic() + LIMIT_S
    while origin.count("/away.m4s") < 3:
        assert edge.get("/away.m4s").body == b"old"
        assert time.monotonic() < deadline
    go.set()
    while edge.get("/away.m4s").body != b"new":
        assert time.monotonic() < deadline
    assert origin.count("/away.m4s") == 3
