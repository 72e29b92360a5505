"""In front of somebody else's HLS: what viewers see, and what the origin is asked."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from tests.running import Answer, Edge, ScriptedOrigin, ask, ok
from tests.scripted_packager import PARTS, Packager

pytestmark = pytest.mark.timeout(90)

ROUTES = """route=[
{prefix="/token/", query=["session"]},
{prefix="/stubborn/", cache_control="ignore"},
{prefix="/vod/", kind="vod"},
{prefix="/still/", prefetch=0}]""".replace("\n", "")


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, spare: ScriptedOrigin) -> Iterator[Edge]:
    options = (
        f"origin.urls={origin.url},{spare.url}",
        ROUTES,
        "origin.min_rate=0",
        "origin.breaker_failures=1000",
        "cache.negative=2s",
        "http.workers=2",
    )
    with Edge(options) as daemon:
        yield daemon
        assert daemon.stop() == 0, "".join(daemon.lines[-20:])


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as found:
        yield found


def targets(origin: ScriptedOrigin, path: str) -> list[str]:
    return [asked.target for asked in origin.asked if asked.target.partition("?")[0] == path]


def asking(edge: Edge, pool: ThreadPoolExecutor, *paths: str) -> list[Future[Answer]]:
    """All of them wait at the edge when this returns."""
    found = [pool.submit(edge.get, path) for path in paths]
    deadline = time.monotonic() + 10
    while waiters(edge, paths[0]) < len(paths):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def waiters(edge: Edge, path: str) -> int:
    target = "/explain?" + urlencode({"url": f"http://pop{path}"})
    found = json.loads(ask(edge.admin, "GET", target, {}).body)
    return int((found["entry"] or {}).get("waiters", 0))


def shown(edge: Edge, path: str, text: str) -> Answer:
    """The playlist, as soon as it has `text` in it."""
    deadline = time.monotonic() + 10
    while text not in (answer := edge.get(path)).body.decode():
        assert time.monotonic() < deadline, f"{text} is not in {answer.body!r}"
        time.sleep(0.02)
    return answer


def test_each_version_is_asked_for_once(
    edge: Edge, origin: ScriptedOrigin, pool: ThreadPoolExecutor
) -> None:
    """40 viewers, half of them with delta updates, six versions over a roll-over."""
    live = Packager(origin, "/ll/v.m3u8")
    assert edge.get(live.path).fields["cache-status"] == "edge; fwd=uri-miss; stored"
    for _ in range(6):
        msn, part = live.version
        want = f"{live.path}?_HLS_msn={msn}&_HLS_part={part}&CMCD=bl%3D1"
        waiting = asking(edge, pool, *[want, want + "&_HLS_skip=YES"] * 20)
        live.advance()
        answers = [future.result() for future in waiting]
        assert {a.status for a in answers} == {200}
        assert {a.fields["cache-status"] for a in answers} == {"edge; hit; detail=woken"}
        assert {b"#EXT-X-SKIP" in a.body for a in answers[1::2]} == {True}
        assert all(f"-{msn}.{part}.m4s".encode() in a.body for a in answers)
        assert edge.get(live.part(msn, part)).fields["cache-status"] == "edge; hit"
        assert origin.count(live.part(msn, part)) == 1
    asked = targets(origin, live.path)
    assert len(asked) == len(set(asked)) <= 1 + 2 * 7
    assert all("CMCD" not in target for target in asked)


def test_names_of_one_version_are_one_request(
    edge: Edge, origin: ScriptedOrigin, pool: ThreadPoolExecutor
) -> None:
    """RFC 8216bis 6.2.5.2: part N of M, past the end of M, is part 0 of M+1."""
    live = Packager(origin, "/roll/v.m3u8")
    live.made += PARTS - 1
    edge.get(live.path)
    msn, part = live.version
    first = asking(edge, pool, f"{live.path}?_HLS_msn={msn}&_HLS_part={part}")
    live.advance()
    first[0].result()
    names = (f"_HLS_msn={msn}&_HLS_part={PARTS}", f"_HLS_part=0&_HLS_msn={msn + 1}")
    waiting = asking(edge, pool, *[f"{live.path}?{name}" for name in names])
    live.advance()
    assert len({future.result().body for future in waiting}) == 1
    asked = targets(origin, live.path)
    assert f"{live.path}?_HLS_msn={msn}&_HLS_part={PARTS}" not in asked
    assert len(asked) == len(set(asked))


def test_what_cannot_be_is_refused_at_once(edge: Edge, origin: ScriptedOrigin) -> None:
    live = Packager(origin, "/far/v.m3u8")
    edge.get(live.path)
    msn = live.version[0]
    for query in (f"_HLS_msn={msn + 2}", f"_HLS_msn={msn}&_HLS_part=99", "_HLS_part=1"):
        assert edge.get(f"{live.path}?{query}").status == 400
        assert f"{live.path}?{query}" not in targets(origin, live.path)


def test_a_cold_blocking_request_is_asked_once(
    edge: Edge, origin: ScriptedOrigin, pool: ThreadPoolExecutor
) -> None:
    live = Packager(origin, "/cold/v.m3u8")
    want = "{}?_HLS_msn={}&_HLS_part={}".format(live.path, *live.version)
    waiting = asking(edge, pool, *[want] * 20)
    live.advance()
    assert {future.result().status for future in waiting} == {200}
    assert targets(origin, live.path).count(want) == 1


def test_a_route_names_what_is_in_the_key(edge: Edge, origin: ScriptedOrigin) -> None:
    lives = [Packager(origin, f"{base}/v.m3u8") for base in ("/token", "/plain")]
    for live in lives:
        for query in ("b=2&session=x", "session=x&b=3", "session=y"):
            edge.get(f"{live.path}?{query}")
    asked = [
        [target for target in targets(origin, live.path) if "_HLS" not in target] for live in lives
    ]
    assert asked == [["/token/v.m3u8?session=x", "/token/v.m3u8?session=y"], ["/plain/v.m3u8"]]
    held = [target for target in targets(origin, "/token/v.m3u8") if "_HLS_part" in target]
    assert all("?session=" in target for target in held)


def test_an_ended_stream_holds_nobody(
    edge: Edge, origin: ScriptedOrigin, pool: ThreadPoolExecutor
) -> None:
    live = Packager(origin, "/end/v.m3u8")
    edge.get(live.path)
    msn, part = live.version
    waiting = asking(edge, pool, f"{live.path}?_HLS_msn={msn}&_HLS_part={part}")
    live.end()
    assert b"#EXT-X-ENDLIST" in waiting[0].result().body
    assert b"#EXT-X-ENDLIST" in edge.get(f"{live.path}?_HLS_msn={msn + 9}").body


def test_a_stream_that_starts_anew_is_shown(
    edge: Edge, origin: ScriptedOrigin, pool: ThreadPoolExecutor
) -> None:
    live = Packager(origin, "/anew/v.m3u8")
    edge.get(live.path)
    waiting = asking(edge, pool, "{}?_HLS_msn={}&_HLS_part={}".format(live.path, *live.version))
    live.made = 9 * PARTS
    live.end()  # releases what is held; the playlist it gets is of the new start
    waiting[0].result()
    assert b"MEDIA-SEQUENCE:1\n" in shown(edge, live.path, "MEDIA-SEQUENCE:1\n").body


def test_a_stream_without_viewers_is_let_go(edge: Edge, origin: ScriptedOrigin) -> None:
    live = Packager(origin, "/idle/v.m3u8", parts=False, target_s=1)
    before = edge.metrics().get('edge_follow_ended_total{reason="idle"}', 0.0)
    edge.get(live.path)
    deadline = time.monotonic() + 10
    while edge.metrics().get('edge_follow_ended_total{reason="idle"}', 0.0) == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(targets(origin, live.path)) <= 6
    assert edge.get(live.path).fields["cache-status"] == "edge; fwd=uri-miss; stored"


def test_a_stream_that_is_gone_is_gone_here(edge: Edge, origin: ScriptedOrigin) -> None:
    live = Packager(origin, "/gone/v.m3u8", parts=False, target_s=1)
    edge.get(live.path)
    del origin.scripts[live.path]
    deadline = time.monotonic() + 10
    while edge.get(live.path).status == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert edge.get(live.path).status == 404


def test_no_cache_is_obeyed(edge: Edge, origin: ScriptedOrigin) -> None:
    """Those who ask while it arrives share it; who comes later has it asked for again."""
    live = Packager(origin, "/strict/v.m3u8", fields=("Cache-Control: private, no-cache",))
    deadline = time.monotonic() + 10
    while origin.count(live.path) < 3:
        answer = edge.get(live.path)
        assert answer.fields["cache-control"] == "private, no-cache"
        assert answer.fields["cache-status"] != "edge; hit"
        assert time.monotonic() < deadline
    assert all("?" not in target for target in targets(origin, live.path))


def test_no_cache_is_ignored_where_a_route_says_so(edge: Edge, origin: ScriptedOrigin) -> None:
    live = Packager(origin, "/stubborn/v.m3u8", fields=("Cache-Control: private, no-cache",))
    fields = [edge.get(live.path).fields for _ in range(3)]
    assert fields[2]["cache-status"] == "edge; hit"
    assert fields[2]["cache-control"] == "max-age=1"
    assert [target for target in targets(origin, live.path) if "?" not in target] == [live.path]


@pytest.mark.parametrize("base", ["/vod", "/still"])
def test_other_routes_fetch_what_is_asked_for(
    edge: Edge, origin: ScriptedOrigin, base: str
) -> None:
    live = Packager(origin, f"{base}/v.m3u8", parts=False)
    edge.get(live.path)
    edge.get(live.segment(11))
    asked = [asked.target for asked in origin.asked if asked.target.startswith(base)]
    assert asked == [live.path, live.segment(11)]


def test_no_playlist_is_shown_before_what_it_names(edge: Edge, origin: ScriptedOrigin) -> None:
    live = Packager(origin, "/slow/v.m3u8", parts=False, media_s=0.3)
    edge.get(live.path)
    live.advance()
    shown(edge, live.path, "v-12.m4s")
    assert edge.get(live.segment(12)).fields["cache-status"] == "edge; hit"
    assert origin.count(live.segment(12)) == 1


def test_too_early_is_forgotten_when_it_is_named(edge: Edge, origin: ScriptedOrigin) -> None:
    live = Packager(origin, "/early/v.m3u8", parts=False, target_s=1)
    edge.get(live.path)
    assert edge.get(live.segment(12)).status == 404
    live.advance()
    shown(edge, live.path, "v-12.m4s")
    assert edge.get(live.segment(12)).status == 200


def test_ranges_are_of_the_whole_object(edge: Edge, origin: ScriptedOrigin) -> None:
    body = bytes(range(200))
    origin.says("/range/all.mp4", ok(body, "Cache-Control: max-age=60"))
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", '#EXT-X-MAP:URI="all.mp4",BYTERANGE="10@0"']
    lines += ["#EXTINF:2,", "#EXT-X-BYTERANGE:90@10", "all.mp4", "#EXTINF:2,"]
    origin.says(
        "/range/v.m3u8", ok("\n".join([*lines, "#EXT-X-BYTERANGE:100@100", "all.mp4"]).encode())
    )
    edge.get("/range/v.m3u8")
    for first, last in ((0, 9), (10, 99), (100, 199)):
        answer = edge.get("/range/all.mp4", {"Range": f"bytes={first}-{last}"})
        assert (answer.status, answer.body) == (206, body[first : last + 1])
    assert origin.count("/range/all.mp4") == 1


def test_a_compressed_playlist_is_read_and_served_both_ways(
    edge: Edge, origin: ScriptedOrigin
) -> None:
    live = Packager(origin, "/packed/v.m3u8", parts=False)
    text = live.text().encode() + b"#" * 600 + b"\n"
    origin.says(live.path, ok(gzip.compress(text), "Content-Encoding: gzip"))
    edge.get(live.path)
    plain, packed = edge.get(live.path), edge.get(live.path, {"Accept-Encoding": "gzip"})
    assert plain.body == text
    assert "content-encoding" not in plain.fields
    assert gzip.decompress(packed.body) == text


def test_redirects_stay_within_the_origins(
    edge: Edge, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    for name, where in {
        "same": "/moved/there.m4s",
        "spare": f"{spare.url}/moved/there.m4s",
        "away": "http://169.254.169.254/moved/there.m4s",
        "loop": "/moved/loop.m4s",
    }.items():
        origin.says(f"/moved/{name}.m4s", ok(b"", f"Location: {where}", status="302 Found"))
        spare.says(f"/moved/{name}.m4s", ok(b"", f"Location: {where}", status="302 Found"))
    origin.says("/moved/there.m4s", ok(b"here"))
    spare.says("/moved/there.m4s", ok(b"spare"))
    assert edge.get("/moved/same.m4s").body == b"here"
    assert edge.get("/moved/spare.m4s").body == b"spare"
    assert edge.get("/moved/away.m4s").status == 502
    assert edge.get("/moved/loop.m4s").status == 502
    assert origin.count("/moved/loop.m4s") == 4


def test_a_late_text_says_its_age(edge: Edge, origin: ScriptedOrigin) -> None:
    live = Packager(origin, "/aged/v.m3u8", fields=("Age: 3", "Cache-Control: max-age=6"))
    edge.get(live.path)
    assert edge.get(live.path).fields["age"] == "3"


def test_media_is_there_before_it_is_asked_for(
    edge: Edge, origin: ScriptedOrigin, pool: ThreadPoolExecutor, measured: object
) -> None:
    """Twenty players on a classic playlist whose origin takes 150 ms for a segment: they poll each
    half target duration and fetch what is new at once, as hls.js does."""
    live = Packager(origin, "/steady/v.m3u8", parts=False, media_s=0.15, target_s=1)
    stop = threading.Event()

    def player(number: int) -> list[str]:
        found: list[str] = []
        known: set[str] = set()
        stop.wait(number / 40)
        while not stop.is_set():
            lines = edge.get(live.path).body.decode().splitlines()
            names = [line for line in lines if line and not line.startswith("#")]
            fresh = [name for name in names if name not in known] if known else []
            answers = [edge.get(f"{live.base}/{name}") for name in fresh]
            found += [answer.fields["cache-status"] for answer in answers]
            known |= set(names)
            stop.wait(0.5)
        return found

    players = [pool.submit(player, number) for number in range(20)]
    for _ in range(8):
        stop.wait(1.0)
        live.advance()
    stop.wait(1.5)
    stop.set()
    statuses = [status for future in players for status in future.result()]
    waited = sum(not status.startswith("edge; hit") for status in statuses)
    assert callable(measured)
    measured(media_requests=len(statuses), waited_for_the_origin=waited)
    assert len(statuses) >= 20 * 7
    assert waited == 0
    assert all(origin.count(live.segment(msn)) == 1 for msn in range(12, 19))


def test_a_playlist_purged_while_it_is_asked_for_reaches_who_asked(
    edge: Edge, origin: ScriptedOrigin, pool: ThreadPoolExecutor
) -> None:
    """It is published under a new entry then; those on the old one were once answered 502."""
    live = Packager(origin, "/purged/v.m3u8")
    gate, script = threading.Event(), origin.scripts[live.path]
    origin.scripts[live.path] = lambda asked: [gate, *script(asked)]
    waiting = asking(edge, pool, *[live.path] * 3)
    assert ask(edge.admin, "POST", f"/purge?key={live.path}", {}).status == 200
    gate.set()
    answers = [future.result() for future in waiting]
    assert {answer.status for answer in answers} == {200}
    assert {answer.body for answer in answers} == {edge.get(live.path).body}


def test_a_playlist_held_in_vain_is_a_503_and_closes_no_origin(
    origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    """RFC 8216bis 6.2.5.2; a silent stream says nothing about the origin's other ones."""
    for server in (origin, spare):
        server.says("/vain/v.m3u8", ok(b"", status="503 Service Unavailable"))
    origin.says("/vain/a.m4s", ok(b"media"))
    options = (f"origin.urls={origin.url},{spare.url}", "origin.breaker_failures=2")
    with Edge(options) as edge:
        for n in range(6):
            assert edge.get(f"/vain/v.m3u8?_HLS_msn={n}").status == 503
        assert edge.get("/vain/a.m4s").status == 200


def test_operators_name_objects_by_what_a_route_keeps(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/token/kept.m4s", ok(b"x"))
    edge.get("/token/kept.m4s?b=1&session=s1")
    edge.complete("/token/kept.m4s?session=s1&c=2")
    for query, count in (("session=s2", 0), ("a=1%26session=s1", 1), ("session=s1", 0)):
        purged = ask(edge.admin, "POST", f"/purge?key=/token/kept.m4s?{query}", {})
        assert json.loads(purged.body) == {"purged": count}
