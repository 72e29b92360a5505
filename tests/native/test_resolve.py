"""Which entry answers, and who has it filled: stale while refreshed, one fill for a playlist, a
full box (native/resolve.pxd)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from edgecache._core import Fill
from tests.native._probe import UP_SLOTS, StoreOf, Worker
from tests.native.kit import TYPE, Edge, Viewer, eventually, get
from tests.native.waiting import closing

KEY = "/live/s/360p.m3u8"
STALE = b"hit; detail=stale"
FAILED = 3


def put_stale(edge: Edge, *, grace_ms: int = 60_000) -> None:
    """`/a` holds "old" and its time is over."""
    edge.plane.put(b"/a", b"old", TYPE, etag=b"old", ttl_ms=0, grace_ms=grace_ms)


def answer(fill: Fill, body: bytes) -> None:
    assert fill.begin(200, TYPE, length=len(body), ttl_ms=60_000)
    assert fill.append(body)
    assert fill.commit()


# ---------------------------------------------------------------- grace


def test_stale_is_served_while_one_fill_replaces_it(edges: Callable[..., Edge]) -> None:
    edge = edges(workers=2)
    put_stale(edge)
    shown = [edge.ask("/a") for _ in range(20)]
    assert {(a.status, a.body, a.cache) for a in shown} == {(200, b"old", STALE)}
    fill = edge.fill()
    assert edge.plane.misses() == []
    fill.begin(200, TYPE, length=3, ttl_ms=60_000)
    fill.append(b"new")
    assert edge.ask("/a").body == b"old", "until all of it is there"
    fill.commit()
    fresh = edge.ask("/a")
    assert (fresh.body, fresh.cache) == (b"new", b"hit")
    counts = ("stale", "refreshes", "misses", "parked", "store_entries_now")
    assert [edge.count(name) for name in counts] == [21, 1, 0, 0, 1]


def test_stale_is_served_while_the_origin_is_in_trouble(edge: Edge) -> None:
    put_stale(edge)
    assert edge.ask("/a").body == b"old"
    edge.fill().fail(502, ttl_ms=300)
    began = time.monotonic()
    while time.monotonic() < began + 0.2:
        assert edge.ask("/a").cache == STALE
        assert edge.plane.misses() == [], "not asked again before its time"
    eventually(lambda: edge.ask("/a").cache == STALE and edge.count("refreshes") == 2)
    answer(edge.fill(), b"new")
    assert edge.ask("/a").body == b"new"


def test_what_the_origin_says_is_gone_is_gone(edge: Edge) -> None:
    put_stale(edge)
    assert edge.ask("/a").body == b"old"
    edge.fill().fail(404, ttl_ms=60_000)
    assert edge.ask("/a").status == 404
    assert edge.count("refreshes") == 1


def test_after_the_grace_everybody_waits(edge: Edge) -> None:
    put_stale(edge, grace_ms=100)
    time.sleep(0.15)
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        answer(edge.fill(), b"new")
        assert viewer.answer().body == b"new"
    assert edge.count("stale") == 0


def test_a_purge_is_not_undone_by_a_refresh(edge: Edge) -> None:
    put_stale(edge)
    edge.ask("/a")
    fill = edge.fill()
    edge.plane.purge(b"/a")
    answer(fill, b"from before the purge")
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        answer(edge.fill(), b"after")
        assert viewer.answer().body == b"after"


def test_a_push_overtakes_a_refresh(edge: Edge) -> None:
    put_stale(edge)
    edge.ask("/a")
    fill = edge.fill()
    edge.put("/a", b"pushed", etag=b"pushed")
    answer(fill, b"pulled")
    assert edge.ask("/a").body == b"pushed"


def test_a_refresh_that_nobody_takes_frees_what_it_holds(edge: Edge) -> None:
    """What was left in the box at the end is let go with what it was to replace."""
    put_stale(edge)
    edge.ask("/a")
    assert edge.count("refreshes") == 1


# ---------------------------------------------------------------- one fill for a playlist


def ask_versions(edge: Edge, *wanted: str) -> list[Viewer]:
    viewers = [edge.viewer() for _ in wanted]
    for viewer, query in zip(viewers, wanted, strict=True):
        viewer.send(get(f"{KEY}?{query}", "Connection: close"))
    edge.await_parked(len(wanted))
    return viewers


def test_a_playlist_that_nobody_knows_is_one_fill(edges: Callable[..., Edge]) -> None:
    """However many versions of it are asked for; then its version judges each of them."""
    edge = edges(workers=2)
    wanted = [f"_HLS_msn={msn}&_HLS_part={part}" for msn in range(5, 13) for part in (0, 3)]
    viewers = ask_versions(edge, *wanted, "_HLS_skip=YES", "_HLS_msn=3&_HLS_skip=v2")
    fill = edge.fill()
    assert (fill.key, edge.plane.misses()) == (KEY.encode(), [])
    edge.publish(KEY, (10, 2, 6), advance=9)
    edge.await_parked(3)  # (10, 3), (11, 0), (11, 3)
    edge.publish(KEY, (11, 4, 6), advance=9)
    found = [(a.status, a.body) for a in closing(viewers)]
    now, later, ahead = (200, b"v10.2"), (200, b"v11.4"), (400, b"400 Bad Request\n")
    assert found == [now] * 11 + [later] * 3 + [ahead] * 2 + [now] * 2
    assert edge.count("misses") == 1


def test_a_playlist_without_versions_goes_by_its_full_name(edge: Edge) -> None:
    viewers = ask_versions(edge, "_HLS_msn=5", "_HLS_msn=6", "_HLS_msn=5&token=x")
    plain = edge.fill()
    plain.begin(200, TYPE, length=5, ttl_ms=60_000)
    edge.await_parked(3)
    assert edge.plane.misses() == [], "it may still turn out to have versions"
    plain.append(b"plain")
    plain.commit()
    fills = [edge.fill(), edge.fill()]
    assert {fill.key for fill in fills} == {
        KEY.encode() + b"?_HLS_msn=5",
        KEY.encode() + b"?_HLS_msn=6",
    }
    for fill in fills:
        answer(fill, fill.key[-1:])
    assert [a.body for a in closing(viewers)] == [b"5", b"6", b"5"]
    assert edge.ask(KEY).body == b"plain"


def test_a_playlist_that_is_not_there_fails_all_its_versions(edge: Edge) -> None:
    viewers = ask_versions(edge, "_HLS_msn=5", "_HLS_msn=6")
    edge.fill().fail(404, ttl_ms=60_000)
    assert [a.status for a in closing(viewers)] == [404, 404]
    assert edge.ask(f"{KEY}?_HLS_msn=7").status == 404
    assert edge.count("misses") == 1


# ---------------------------------------------------------------- a full box


def test_a_miss_that_finds_no_room_fails_for_every_worker() -> None:
    """Waiters of other workers stayed until their 504: nobody told them."""
    store = StoreOf(1 << 30)
    with socket.socket() as sock:
        one, other = Worker(store, sock.fileno(), index=0), Worker(store, sock.fileno(), index=1)
        one.meet(other)
        filler, _ = store.acquire(b"/filler", reserve=True)
        ref, _ = store.acquire(b"/a", reserve=True)
        assert filler is not None
        assert ref is not None
        assert all(one.ask(filler) for _ in range(UP_SLOTS))
        other.hold(ref)
        other.interest(ref)
        one.miss(ref)
        assert (ref.state, ref.dead) == (FAILED, True)
        assert (other.waiting, one.waiting) == (1, 0)
        other.mail()
        one.close()
        other.close()
