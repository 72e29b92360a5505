"""Hosts of one POP that ask each other, then a shield POP, then the origin: each object leaves the
origin once, also when one of them is dead, hung, or when the chain was configured as a circle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import pytest

from edgecache.control.chain import ranked
from edgecache.demo_plan import Ports, free_ports
from tests.running import LIMIT_S, Answer, Edge, ScriptedOrigin, ask, ok, read_head
from tests.scripted_packager import Packager

pytestmark = pytest.mark.timeout(90)

BODY = os.urandom(50_000)
VIEWERS = 10  # of each host
SITE = 'route=[{prefix="/site/",kind="http"}]'
KINDS = pytest.mark.parametrize("below", ["", "site/"], ids=["live", "http"])


@dataclass
class Region:
    origin: ScriptedOrigin
    hosts: dict[str, Edge]  # by URL
    shield: Edge

    def owned_by(self, host: str, count: int, folder: str) -> list[str]:
        """Paths that belong to `host`, which the origin has."""
        named = (f"/{folder}/{n}.m4s" for n in range(1000))
        paths = [path for path in named if ranked(list(self.hosts), path.encode())[0] == host]
        for path in paths[:count]:
            self.origin.says(path, 0.1, ok(BODY, "Cache-Control: max-age=600"))
        return paths[:count]

    def crowd(self, path: str, *, without: str = "") -> list[Answer]:
        hosts = [edge for url, edge in self.hosts.items() if url != without]
        with ThreadPoolExecutor(VIEWERS * len(hosts)) as pool:
            return list(pool.map(lambda edge: edge.get(path), VIEWERS * hosts))


def urls(count: int) -> list[str]:
    ports = list(asdict(free_ports(Ports())).values())[:count]
    return [f"http://127.0.0.1:{port}" for port in ports]


def host(url: str, name: str, *options: str) -> Edge:
    own = (f"pop.name={name}", f"http.listen={url.removeprefix('http://')}", "http.workers=1")
    return Edge((*own, "push.listen=", "chain.alive=300ms", *options))


@pytest.fixture(scope="module")
def region(origin: ScriptedOrigin) -> Iterator[Region]:
    *siblings, shield = urls(4)
    common = (
        f"chain.siblings={','.join(siblings)}",
        f"chain.shield={shield}",
        f"origin.urls={origin.url}",
        SITE,
    )
    with contextlib.ExitStack() as stack:
        found = Region(
            origin,
            {
                url: stack.enter_context(host(url, f"host{n}", f"chain.host={url}", *common))
                for n, url in enumerate(siblings)
            },
            stack.enter_context(host(shield, "shield", f"origin.urls={origin.url}", SITE)),
        )
        yield found


@KINDS
def test_a_region_asks_the_origin_once(region: Region, below: str) -> None:
    for owner in region.hosts:
        for path in region.owned_by(owner, 2, f"{below}once"):
            assert {(a.status, a.body) for a in region.crowd(path)} == {(200, BODY)}
            assert region.origin.count(path) == 1


@KINDS
def test_every_hop_is_told(region: Region, below: str) -> None:
    """RFC 9211 2: each cache adds itself behind those that are nearer to the origin."""
    owner, other, *_ = region.hosts
    [path] = region.owned_by(owner, 1, f"{below}hops")
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with region.hosts[other].raw() as viewer:
        viewer.sendall(request)
        head, _ = read_head(viewer)
    told = [
        line.partition(": ")[2]
        for line in head.decode().split("\r\n")
        if line.lower().startswith("cache-status: ")
    ]
    assert [hop.partition(";")[0] for hop in told] == ["shield", "host0", "host1"]
    assert all("fwd=uri-miss" in hop for hop in told)
    explained = ask(region.hosts[other].admin, "GET", f"/explain?url={path}", {}).body
    assert json.loads(explained)["asks"][0] == owner


def test_a_live_playlist_is_followed_through_the_chain(region: Region) -> None:
    packager = Packager(region.origin, "/low/v.m3u8", target_s=4)
    for edge in region.hosts.values():
        assert edge.get(packager.path).status == 200
    for _ in range(3):
        msn, part = packager.version
        wanted = f"{packager.path}?_HLS_msn={msn}&_HLS_part={part}"
        timer = threading.Timer(0.2, packager.advance)
        timer.start()
        texts = {answer.body for answer in region.crowd(wanted)}
        timer.join()
        name = packager.part(msn, part).rpartition("/")[2].encode()
        assert [name in text for text in texts] == [True]
        assert region.crowd(packager.part(msn, part))[0].status == 200
    asked = Counter(a.target for a in region.origin.asked if a.target.startswith("/low/"))
    assert [target for target, count in asked.items() if count > 1] == []


@KINDS
def test_a_hung_host_is_passed_over(region: Region, below: str) -> None:
    hung = list(region.hosts)[1]
    process = region.hosts[hung].process
    process.send_signal(signal.SIGSTOP)
    try:
        for path in region.owned_by(hung, 2, f"{below}hung"):
            started = time.monotonic()
            answers = region.crowd(path, without=hung)
            assert {(a.status, a.body) for a in answers} == {(200, BODY)}
            assert region.origin.count(path) == 1
            assert time.monotonic() - started < LIMIT_S
    finally:
        process.send_signal(signal.SIGCONT)


def test_what_a_page_is_told_reaches_the_origin_once_and_every_cache_on_the_way(
    region: Region,
) -> None:
    """A method that changes something takes the way of a miss, so that who keeps the page for the
    others forgets it (RFC 9111 4.4)."""
    owner, other, _ = region.hosts
    [path] = region.owned_by(owner, 1, "site/form")
    region.origin.scripts[path] = lambda asked: [
        ok(
            b"%d" % region.origin.count(path),
            *([] if asked.method == "POST" else ["Cache-Control: max-age=600"]),
        ),
    ]
    assert region.hosts[other].get(path).body == b"1"
    assert ask(region.hosts[other].http, "POST", path, {}, b"x").body == b"2"
    assert region.hosts[other].get(path).body == b"3"
    assert region.hosts[owner].get(path).body == b"3"
    came = [asked.fields["cdn-loop"] for asked in region.origin.asked if asked.target == path]
    assert [len(loop.split(",")) for loop in came] == [3, 3, 3]


@KINDS
def test_a_dead_host_is_passed_over(region: Region, below: str) -> None:
    dead = list(region.hosts)[2]
    region.hosts[dead].process.kill()
    region.hosts[dead].process.wait(LIMIT_S)
    for path in region.owned_by(dead, 2, f"{below}dead"):
        answers = region.crowd(path, without=dead)
        assert {(a.status, a.body) for a in answers} == {(200, BODY)}
        assert region.origin.count(path) == 1


@KINDS
def test_without_a_shield_the_owner_asks(region: Region, below: str) -> None:
    """Last in this file: from here on the shield and one host are dead."""
    region.shield.process.kill()
    region.shield.process.wait(LIMIT_S)
    first, _, dead = region.hosts
    for path in region.owned_by(first, 2, f"{below}alone"):
        answers = region.crowd(path, without=dead)
        assert {(a.status, a.body) for a in answers} == {(200, BODY)}
        assert region.origin.count(path) == 1


def asked_in_all(*edges: Edge) -> float:
    return sum(
        value
        for edge in edges
        for name, value in edge.metrics().items()
        if name.startswith("edge_upstream_requests_total")
    )


def test_a_circle_of_origins_ends_at_once() -> None:
    """Each is the other's origin: 502 for everybody, and one request each way."""
    here, there = urls(2)
    with (
        host(here, "same", f"origin.urls={there}", "cache.negative=2s") as edge,
        host(there, "same", f"origin.urls={here}", "cache.negative=2s") as other,
    ):
        started = time.monotonic()
        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda _: edge.get("/x.m4s").status, range(30)))
        assert set(answers) == {502}
        assert time.monotonic() - started < LIMIT_S
        edge.settled("edge_looped_total", 1)
        assert asked_in_all(edge, other) == 2


def test_a_circle_of_shields_costs_one_request(origin: ScriptedOrigin) -> None:
    """And no playlist waits for one host that waits for the other."""
    here, there = urls(2)
    origin.says("/circle.m4s", ok(BODY))
    live = Packager(origin, "/circle/v.m3u8", target_s=4)
    with (
        host(here, "same", f"chain.shield={there}", f"origin.urls={origin.url}") as edge,
        host(there, "same", f"chain.shield={here}", f"origin.urls={origin.url}") as other,
    ):
        assert edge.get("/circle.m4s").body == BODY
        edge.settled("edge_looped_total", 1)
        assert asked_in_all(edge, other) == 3
        assert origin.count("/circle.m4s") == 1
        other.logged(f"the chain is a circle: {here} asks this host, and is asked no more")
        for _ in range(3):
            msn, part = live.version
            live.advance()
            for one in (edge, other):
                assert one.get(f"{live.path}?_HLS_msn={msn}&_HLS_part={part}").status == 200
        assert edge.metrics()["edge_looped_total"] == 1
