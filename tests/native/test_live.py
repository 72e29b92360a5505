"""Playlists as versioned values: RFC 8216bis 6.2.5, decided and shown (native/live.pxd)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from tests.native._probe import alive, rendering, version_judge, version_newer
from tests.native.kit import Edge, Viewer, eventually, get

READY, WAIT, BAD = 0, 1, 2
KEY = "/live/s/360p.m3u8"
CLOSE = "Connection: close"


def wait_for(edge: Edge, number: int, query: str, *fields: str) -> list[Viewer]:
    """So many viewers, parked on `query`."""
    before = edge.count("parked_now")
    viewers = [edge.viewer() for _ in range(number)]
    for viewer in viewers:
        viewer.send(get(f"{KEY}?{query}", *fields))
    edge.await_parked(before + number)
    return viewers


def bodies(viewers: list[Viewer]) -> list[tuple[int, bytes]]:
    found = []
    for viewer in viewers:
        answer = viewer.answer()
        found.append((answer.status, answer.body))
        viewer.close()
    return found


# ---------------------------------------------------------------- the decision

# Version (10, 2, 6): segment 9 is complete and had 6 parts, segment 10 has parts 0 and 1.
# Advance Part Limit 9.
DECISIONS = [
    # what is listed
    ((0, None), READY), ((9, None), READY), ((9, 0), READY), ((9, 5), READY), ((8, 99), READY),
    ((10, 0), READY), ((10, 1), READY), ((9, 6), READY), ((9, 99), READY),
    # what comes next
    ((10, None), WAIT), ((10, 2), WAIT), ((10, 5), WAIT), ((11, None), WAIT), ((11, 0), WAIT),
    ((11, 1), WAIT),
    # 6.2.5.2: the Advance Part Limit: parts 2..10 counted from the end of the list
    ((10, 10), WAIT), ((10, 11), BAD), ((11, 4), WAIT), ((11, 5), BAD), ((10, 1 << 20), BAD),
    # 6.2.5.2: the last Media Segment is 9; more than two past it
    ((12, None), BAD), ((12, 0), BAD), ((10**18 - 1, None), BAD), ((10**18 - 1, 1 << 20), BAD),
]  # fmt: skip


@pytest.mark.parametrize(("want", "verdict"), DECISIONS)
def test_what_a_request_may_wait_for(want: tuple[int, int | None], verdict: int) -> None:
    assert version_judge((10, 2, 6, 9), want) == verdict


@pytest.mark.parametrize(
    ("numbers", "want", "verdict"),
    [
        ((10, 0, 6, 9), (9, 6), WAIT),  # part 6 of 9 is part 0 of 10: not there yet
        ((10, 0, 6, 9), (9, 5), READY),
        ((10, 0, 6, 9), (10, 0), WAIT),
        ((0, 0, 0, 9), (0, 0), WAIT),
        ((0, 0, 0, 9), (0, None), WAIT),
        ((0, 0, 0, 9), (1, None), WAIT),
        ((0, 0, 0, 9), (2, None), BAD),
        ((0, 1, 0, 9), (0, 0), READY),
        ((10, 2, 6, 0), (10, 99), WAIT),
        ((1, 0, 0, 9), (0, 0), WAIT),
        ((1, 1, 0, 9), (0, 0), READY),
    ],
)
def test_edges_of_the_decision(
    numbers: tuple[int, int, int, int], want: tuple[int, int | None], verdict: int
) -> None:
    assert version_judge(numbers, want) == verdict


@pytest.mark.parametrize("want", [(0, None), (10, 5), (99, 0), (10**17, None)])
def test_directives_mean_nothing_to_a_value_that_ended(want: tuple[int, int | None]) -> None:
    assert version_judge((10, 2, 6, 9), want, ended=True) == READY
    assert version_judge((10, 2, 6, 9), want, hold_ms=0) == READY


def test_a_want_is_monotone() -> None:
    """What a version satisfies, every newer version satisfies; nothing that waits turns bad."""
    timeline = [(msn, parts, 3, 9) for msn in range(5, 9) for parts in range(3)]
    wants = [(msn, part) for msn in range(4, 12) for part in (None, 0, 1, 2, 3, 9)]
    rank = {READY: 2, WAIT: 1, BAD: 0}
    for want in wants:
        verdicts = [rank[version_judge(numbers, want)] for numbers in timeline]
        assert verdicts == sorted(verdicts), want


@pytest.mark.parametrize(
    ("new", "than", "newer"),
    [
        ((1, 0, False), (0, 9, 1000, False), True), ((1, 0, False), (1, 0, 1000, False), False),
        ((1, 1, False), (1, 0, 1000, False), True), ((1, 0, False), (1, 1, 1000, False), False),
        ((0, 99, False), (1, 0, 1000, False), False), ((1, 0, True), (1, 0, 1000, False), True),
        ((0, 0, True), (5, 5, 1000, False), True), ((9, 9, False), (1, 0, 1000, True), False),
        ((9, 9, True), (1, 0, 1000, True), False), ((0, 0, False), (9, 9, 0, False), True),
    ],
)  # fmt: skip
def test_which_version_is_newer(
    new: tuple[int, int, bool], than: tuple[int, int, int, bool], newer: bool
) -> None:
    assert version_newer(*new, than) is newer


@pytest.mark.parametrize(
    ("offered", "delta", "gzip", "found"),
    [
        ("f", False, False, "f"), ("f", True, True, "f"), ("fz", False, True, "z"),
        ("fz", True, True, "z"), ("fd", True, False, "d"), ("fd", True, True, "d"),
        ("fzd", True, True, "d"), ("fzdy", True, True, "y"), ("fzdy", True, False, "d"),
        ("fzdy", False, True, "z"), ("fzdy", False, False, "f"), ("fy", True, True, "f"),
        ("fzy", True, True, "z"),
    ],
)  # fmt: skip
def test_the_best_variant_on_offer(offered: str, delta: bool, gzip: bool, found: str) -> None:
    """Bit 0 gzip, bit 1 delta. What was not accepted is never sent."""
    before = alive()
    variants = tuple(name.encode() if name in offered else None for name in "fzdy")
    body, used = rendering(variants, delta, gzip)
    assert body == found.encode()
    assert (used, alive()) == (0, before), "all of it was given back"


@pytest.mark.parametrize(
    ("offered", "gzip", "found"),
    [
        ("fzdyvw", True, "w"), ("fzdyvw", False, "v"), ("fzdyv", True, "v"), ("fzdy", True, "y"),
        ("fzd", True, "d"), ("fz", True, "z"), ("fzyw", True, "z"), ("f", False, "f"),
    ],
)  # fmt: skip
def test_a_delta_without_dates_falls_back_to_what_there_is(
    offered: str, gzip: bool, found: str
) -> None:
    """_HLS_skip=v2: that, else the delta update of _HLS_skip=YES, else the whole playlist."""
    variants = tuple(name.encode() if name in offered else None for name in "fzdyvw")
    assert rendering(variants, True, gzip, v2=True)[0] == found.encode()
    if "d" in offered:
        assert rendering(variants, True, False)[0] == b"d"


# ---------------------------------------------------------------- over sockets


def test_the_newest_version_is_served_at_once(edge: Edge) -> None:
    edge.publish(KEY, (10, 2, 6))
    answer = edge.ask(KEY)
    assert (answer.status, answer.body, answer.cache) == (200, b"v10.2", b"hit")
    assert answer.fields[b"content-type"] == b"application/vnd.apple.mpegurl"
    edge.publish(KEY, (10, 3, 6))
    assert edge.ask(KEY + "?token=secret").body == b"v10.3"
    assert (edge.count("live_hits"), edge.count("misses"), edge.count("hits")) == (2, 0, 0)


def test_a_request_waits_for_its_part(edge: Edge) -> None:
    edge.publish(KEY, (10, 2, 6))
    viewers = wait_for(edge, 5, "_HLS_msn=10&_HLS_part=3&tok=1")
    edge.publish(KEY, (10, 3, 6))
    assert all(viewer.silent(0.01) for viewer in viewers)
    edge.publish(KEY, (10, 4, 6))
    assert bodies(viewers) == [(200, b"v10.4")] * 5
    assert edge.count("woken") == edge.count("parked") == 5
    assert sum(edge.plane.histograms()["live_wait"][0]) == 5


def test_each_waits_for_what_it_asked(edge: Edge) -> None:
    """One publish wakes those it satisfies, and no others."""
    edge.publish(KEY, (10, 2, 6))
    waits = ["_HLS_msn=10&_HLS_part=2", "_HLS_msn=10&_HLS_part=3", "_HLS_msn=10", "_HLS_msn=11"]
    waiting = [wait_for(edge, 3, query) for query in waits]
    steps = [(10, 3, 6), (10, 4, 6), (11, 0, 6), (12, 0, 6)]
    for viewers, step in zip(waiting, steps, strict=True):
        edge.publish(KEY, step)
        assert bodies(viewers) == [(200, b"v%d.%d" % step[:2])] * 3
        eventually(lambda: edge.count("parked_now") % 3 == 0)
    assert edge.count("woken") == 12


def test_wakes_come_in_the_order_of_waiting(edges: Callable[..., Edge]) -> None:
    """First come, first served: the log has the order of the answers, the methods spell it."""
    edge = edges(log=True)
    edge.publish(KEY, (10, 2, 6))
    dice = random.Random(7)
    order = [dice.choice(["GET", "HEAD"]) for _ in range(80)]
    viewers = []
    for parked, method in enumerate(order, start=1):
        viewers.append(edge.viewer())
        viewers[-1].send(get(KEY + "?_HLS_msn=10&_HLS_part=2", method=method))
        edge.await_parked(parked)
    edge.publish(KEY, (10, 3, 6))
    for viewer, method in zip(viewers, order, strict=True):
        assert viewer.answer(head_only=method == "HEAD").status == 200
        viewer.close()
    logged: list[str] = []
    while len(logged) < len(order):  # the last record is written behind its answer
        logged += [record[5].decode() for record in edge.plane.log_records()]
    assert logged == order


def test_a_wait_ends_with_503(edge: Edge) -> None:
    """6.2.5.2: after three target durations the server gives up."""
    edge.publish(KEY, (10, 2, 6), hold_ms=200)
    began = time.monotonic()
    answer = edge.ask(KEY + "?_HLS_msn=11")
    assert (answer.status, answer.fields[b"cache-control"]) == (503, b"no-store")
    assert time.monotonic() - began >= 0.19
    assert (edge.count("park_timeout"), edge.count("woken")) == (1, 0)


@pytest.mark.parametrize(
    "query",
    [
        "_HLS_msn=12",
        "_HLS_msn=10&_HLS_part=11",
        "_HLS_part=1",
        "_HLS_msn=x",
        "_HLS_msn=10&_HLS_part=-1",
    ],
)
def test_a_wait_that_may_not_be_is_400_at_once(edge: Edge, query: str) -> None:
    edge.publish(KEY, (10, 2, 6))
    with edge.viewer() as viewer:
        assert viewer.ask(f"{KEY}?{query}").status == 400
        assert viewer.ask(KEY).status == 200
    assert (edge.count("parked"), edge.count("misses")) == (0, 0)


def test_the_end_releases_everybody(edge: Edge) -> None:
    edge.publish(KEY, (10, 2, 6))
    viewers = wait_for(edge, 3, "_HLS_msn=10&_HLS_part=5") + wait_for(edge, 3, "_HLS_msn=11")
    edge.publish(KEY, (10, 3, 6), ended=True)
    assert bodies(viewers) == [(200, b"v10.3.end")] * 6
    assert edge.ask(KEY + "?_HLS_msn=99").status == 200


def test_a_multivariant_playlist_never_blocks(edge: Edge) -> None:
    edge.publish(KEY, (0, 0, 0), hold_ms=0, body=b"one")
    edge.publish(KEY, (0, 0, 0), hold_ms=0, body=b"two")
    assert edge.ask(KEY + "?_HLS_msn=7&_HLS_part=3").body == b"two"


def test_variants_over_the_wire(edge: Edge) -> None:
    edge.publish(KEY, (10, 2, 6), body=b"full", variants=(b"full.gz", b"delta", b"delta.gz"))
    gzip = "Accept-Encoding: gzip, deflate"
    asked = [("", ()), ("", (gzip,)), ("?_HLS_skip=YES", ()), ("?_HLS_skip=v2", (gzip,))]
    found = [edge.ask(KEY + query, *fields).body for query, fields in asked]
    assert found == [b"full", b"full.gz", b"delta", b"delta.gz"]
    waiting = wait_for(edge, 2, "_HLS_msn=10&_HLS_part=2&_HLS_skip=YES", gzip)
    waiting += wait_for(edge, 2, "_HLS_msn=10&_HLS_part=2&_HLS_skip=v2", gzip)
    edge.publish(KEY, (10, 3, 6), variants=(b"F", b"D", b"DZ", b"V", b"VZ"))
    assert bodies(waiting) == [(200, b"DZ")] * 2 + [(200, b"VZ")] * 2


def test_conditions_on_versions(edge: Edge) -> None:
    edge.publish(KEY, (10, 2, 6), variants=(b"z", None, None))
    tag = edge.ask(KEY).fields[b"etag"].decode()
    assert edge.ask(KEY, f"If-None-Match: {tag}").status == 304
    assert edge.ask(KEY, f"If-None-Match: {tag}", "Accept-Encoding: gzip").status == 200
    assert edge.ask(KEY, "Range: bytes=0-1").status == 200
    head = edge.ask(KEY, method="HEAD")
    assert (head.fields[b"content-length"], head.body) == (b"5", b"")


def test_a_playlist_that_was_asked_for_before_its_push(edge: Edge) -> None:
    """A miss is answered by the push; the fill that was under way finds its place taken."""
    with edge.viewer() as plain, edge.viewer() as other:
        plain.send(get(KEY))
        fill = edge.fill()
        assert fill.key == KEY.encode()
        edge.publish(KEY, (10, 2, 6))
        assert plain.answer().body == b"v10.2"
        assert not fill.begin(200, b"", ttl_ms=1)
        del fill
        assert other.ask(KEY).body == b"v10.2"


def test_directives_of_a_playlist_nobody_pushed_are_pulled(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send(get(KEY + "?x=1&_HLS_part=3&_HLS_msn=10&_HLS_skip=YES"))
        plain = edge.fill()
        plain.begin(200, b"", length=0, ttl_ms=60_000)
        plain.commit()
        fill = edge.fill()
        assert fill.key == KEY.encode() + b"?_HLS_msn=10&_HLS_part=3&_HLS_skip=YES"
        fill.begin(200, b"", length=2, ttl_ms=60_000)
        fill.append(b"ok")
        fill.commit()
        assert viewer.answer().body == b"ok"


def test_thousands_wait_on_two_workers(edges: Callable[..., Edge]) -> None:
    """All are released by one publish, while hits go on."""
    edge = edges(workers=2)
    edge.publish(KEY, (10, 2, 6))
    edge.put("/hit", b"x")
    viewers = wait_for(edge, 1500, "_HLS_msn=10&_HLS_part=2")
    edge.publish(KEY, (10, 3, 6))
    assert edge.ask("/hit").status == 200
    assert bodies(viewers) == [(200, b"v10.3")] * 1500
    assert edge.count("woken") == 1500
    assert sum(edge.plane.histograms()["wake_lag"][0]) == 1500


def test_a_long_run_of_versions(edges: Callable[..., Edge]) -> None:
    """Viewers that always ask for the next part see every version once, none twice, in order."""
    edge = edges(workers=2)
    edge.publish(KEY, (0, 1, 3))
    seen: list[list[bytes]] = [[] for _ in range(8)]

    def play(mine: list[bytes]) -> None:
        msn, part = 0, 1
        with edge.viewer() as viewer:
            while True:
                answer = viewer.ask(f"{KEY}?_HLS_msn={msn}&_HLS_part={part}")
                assert answer.status == 200
                mine.append(answer.body)
                if answer.body.endswith(b".end"):
                    return
                at_msn, at_parts = map(int, answer.body[1:].split(b"."))
                msn, part = at_msn, at_parts

    threads = [threading.Thread(target=play, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for msn in range(40):
        for parts in range(1, 4):
            if (msn, parts) != (0, 1):
                edge.publish(KEY, (msn, parts, 3))
                time.sleep(0.002)
    edge.publish(KEY, (40, 0, 3), ended=True)
    for thread in threads:
        thread.join()
    for mine in seen:
        versions = [tuple(map(int, body[1:].split(b"."))) for body in mine[:-1]]
        assert versions == sorted(set(versions))
        assert mine[-1] == b"v40.0.end"


# ---------------------------------------------------------------- leaving


@pytest.mark.parametrize("prefix", [False, True])
def test_a_purge_does_not_strand_who_waits(edge: Edge, prefix: bool) -> None:
    """The next version goes to a new entry, and so do they: one fill, or the next push."""
    edge.publish(KEY, (10, 2, 6))
    viewers = wait_for(edge, 5, "_HLS_msn=10&_HLS_part=2")
    assert edge.plane.purge_prefix(b"/live/") if prefix else edge.plane.purge(KEY.encode())
    fill = edge.fill()
    assert fill.key == KEY.encode()
    edge.publish(KEY, (10, 3, 6))
    assert bodies(viewers) == [(200, b"v10.3")] * 5
    assert edge.ask(KEY + "?_HLS_msn=10&_HLS_part=2").body == b"v10.3"
    assert edge.count("misses") == 1


def test_a_value_that_expired_is_asked_for(edge: Edge) -> None:
    edge.publish(KEY, (10, 2, 6), ttl_ms=150)
    assert edge.ask(KEY).status == 200
    eventually(lambda: edge.plane.lookup(KEY.encode()) is None)
    with edge.viewer() as viewer:
        viewer.send(get(KEY))
        edge.fill().fail(404)
        assert viewer.answer().status == 404


def test_a_value_does_not_expire_under_who_waits(edge: Edge) -> None:
    """They were promised hold_ms; the next version still reaches them."""
    edge.publish(KEY, (10, 2, 6), ttl_ms=100)
    viewers = wait_for(edge, 3, "_HLS_msn=10&_HLS_part=2")
    time.sleep(1.3)  # housekeeping ran at least once
    edge.publish(KEY, (10, 3, 6))
    assert bodies(viewers) == [(200, b"v10.3")] * 3


def test_answers_to_blocking_requests_have_their_own_lifetime(edge: Edge) -> None:
    """RFC 8216bis B.1: one version for good is kept for longer than the newest one."""
    kept = [b"Cache-Control: max-age=%d\r\n" % seconds for seconds in (1, 12)]
    edge.plane.publish(
        KEY.encode(), msn=10, parts=2, last_parts=6, hold_ms=6_000, advance=9, ended=False,
        ttl_ms=60_000, fields=[kept[0]] * 2, waited=[kept[1]] * 2, bodies=[b"text", b"packed"],
        etags=[b"a", b"b"],
    )  # fmt: skip
    gzip = "Accept-Encoding: gzip"
    for query, told in (("", b"max-age=1"), ("?_HLS_msn=9", b"max-age=12")):
        for fields, etag in (((), b'"a"'), ((gzip,), b'"b"')):
            answer = edge.ask(KEY + query, *fields)
            assert (answer.fields[b"cache-control"], answer.fields[b"etag"]) == (told, etag)
            unchanged = edge.ask(KEY + query, *fields, "If-None-Match: *")
            assert (unchanged.status, unchanged.fields[b"cache-control"]) == (304, told)
