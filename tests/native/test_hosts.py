"""Which names we go by (native/hosts.pxd): RFC 9110 15.5.20, RFC 9112 3.2."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgecache._core import Plane
from edgecache.hosts import host_is_among
from tests.native.kit import Edge, get
from tests.native.test_again import LIVE, move

OURS = ("edge.test", "*.live.test", "192.0.2.1", "[2001:db8::1]")


def asked(host: str, target: str = "/a", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.fixture
def named(edges: Callable[..., Edge]) -> Edge:
    """It has /a."""
    edge = edges(hosts=OURS)
    edge.put("/a", b"x")
    return edge


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("edge.test", True),
        ("EDGE.Test:8080", True),
        ("edge.test:", True),
        ("a.live.test", True),
        ("b.A.LIVE.test:1", True),
        ("192.0.2.1:80", True),
        ("[2001:db8::1]:80", True),
        ("[2001:DB8::1]", True),
        ("other.test", False),
        ("edge.test.other.test", False),
        ("xedge.test", False),
        ("sub.edge.test", False),
        ("edge.tes", False),
        ("edge.test:80:80", False),
        ("edge.test:x", False),
        ("live.test", False),
        (".live.test", False),
        ("xlive.test", False),
        ("192.0.2.11", False),
        ("2001:db8::1", False),
        ("live.test.", False),
        ("80", False),
        (":80", True),
    ],
)
def test_a_request_that_names_another_is_told_so_and_may_go_on(
    named: Edge, host: str, ours: bool
) -> None:
    with named.viewer() as viewer:
        viewer.send(asked(host) + asked("edge.test") + asked(host, method="HEAD"))
        found = [viewer.answer().status, viewer.answer().status]
        assert [*found, viewer.answer(head_only=True).status] == (
            [200, 200, 200] if ours else [421, 200, 421]
        )
    assert named.count("misdirected") == (0 if ours else 2)
    assert named.plane.misses() == []
    assert host_is_among(host, OURS) == ours, "routes of kind http judge alike"


def test_an_absolute_target_is_what_counts(named: Edge) -> None:
    with named.viewer() as viewer:
        for target, host, status in (
            ("http://edge.test/a", "other.test", 200),
            ("https://x.live.test:8443/a", "other.test", 200),
            ("http://other.test/a", "edge.test", 421),
            ("http://other.test:80/a?http://edge.test/", "edge.test", 421),
        ):
            viewer.send(asked(host, target))
            assert viewer.answer().status == status, target
        viewer.send(asked("other.test", "http://edge.test@other.test/a"))
        assert viewer.answer().status == 400, "malformed before misdirected, and the last one"
        assert viewer.at_end()


def test_who_names_nobody_names_no_other(named: Edge) -> None:
    (answer,) = named.raw(b"GET /a HTTP/1.0\r\n\r\n")
    assert answer.status == 200


def test_preflights_are_judged_too(named: Edge) -> None:
    with named.viewer() as viewer:
        for target in ("*", "/a"):
            for host, status in (("edge.test", 204), ("other.test", 421)):
                viewer.send(asked(host, target, "OPTIONS"))
                assert viewer.answer().status == status


def test_without_names_any_will_do(edges: Callable[..., Edge]) -> None:
    edge = edges()
    edge.put("/a", b"x")
    with edge.viewer() as viewer:
        viewer.send(asked("other.test") + asked("edge.test", "http://third.test/a"))
        assert [viewer.answer().status, viewer.answer().status] == [200, 200]


def test_who_waited_before_a_takeover_was_let_in(edges: Callable[..., Edge]) -> None:
    """Its request is written once more, by a process that knew no names."""
    old, new = edges(), edges(hosts=OURS)
    for edge in (old, new):
        edge.publish(LIVE, (7, 3, 4))
    with old.viewer() as viewer:
        viewer.send(get(f"{LIVE}?_HLS_msn=7", method="GET").replace(b"edge.test", b"other.test"))
        old.await_parked(1)
        move(old, new)
        new.await_parked(1)
        new.publish(LIVE, (8, 0, 4))
        assert viewer.answer().status == 200
        viewer.send(asked("other.test"))
        assert viewer.answer().status == 421


@pytest.mark.parametrize("names", [[b""], [b"x" * 254], [b"a"] * 66])
def test_names_that_do_not_fit(names: list[bytes]) -> None:
    with pytest.raises(ValueError, match="hosts: found"):
        Plane(name=b"pop", budget_bytes=1 << 20, hosts=names)
