"""Which caches a request came through (native/loop.pxd): RFC 8586."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.native.kit import Edge, get

OWN = "edgecache-edge-0123abcd"


@pytest.fixture
def looped(edges: Callable[..., Edge]) -> Edge:
    return edges(id=OWN.encode())


@pytest.mark.parametrize(
    "lines",
    [
        (f"CDN-Loop: {OWN}",),
        (f"cdn-loop: other.example, {OWN}",),
        (f"CDN-Loop: other; a=1,\t{OWN} ; hops=3",),
        ("CDN-Loop: other", "X-Else: 1", f"CDN-Loop: {OWN}"),
        ("CDN-Loop: " + ", ".join(f"edgecache-p{n}-00000000" for n in range(9)),),
        (f"CDN-Loop: edgecache-{'x' * 64}-00000000",) * 7,
    ],
)
def test_what_has_been_here_is_answered_508(looped: Edge, lines: tuple[str, ...]) -> None:
    with looped.viewer() as viewer:
        viewer.send(get("/a", *lines) + get("/a", *lines))
        assert [viewer.answer().status for _ in range(2)] == [508, 508]
    assert looped.plane.misses() == []
    assert looped.count("looped") == 2


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((), b""),
        (("CDN-Loop: edgecache-a-00000001",), b"edgecache-a-00000001"),
        (("CDN-Loop: edgecache-a-00000001, edgecache-b-00000002; x",),
         b"edgecache-a-00000001, edgecache-b-00000002"),
        (("CDN-Loop: edgecache-a-00000001", "CDN-Loop: edgecache-b-00000002"),
         b"edgecache-a-00000001, edgecache-b-00000002"),
        ((f"CDN-Loop: {OWN}x, x{OWN}",), OWN.encode() + b"x"),
        (("CDN-Loop: evil, edgecache-\"q\", edgecache-, edgecache-A-1, ,",), b""),
        (("CDN-Loops: edgecache-a-00000001", "X: cdn-loop: edgecache-a-00000001"), b""),
    ],
)  # fmt: skip
def test_of_the_others_only_our_own_form_is_passed_on(
    looped: Edge, lines: tuple[str, ...], told: bytes
) -> None:
    with looped.viewer() as viewer:
        viewer.send(get("/a", *lines))
        fill = looped.fill()
        assert fill.loop == told
        fill.fail(404)
        assert viewer.answer().status == 404


def test_a_cache_without_a_name_is_nobodys_loop(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send(get("/a", "CDN-Loop: , ,"))
        edge.fill().fail(404)
        assert viewer.answer().status == 404


def test_a_playlist_without_versions_keeps_the_way_it_came(looped: Edge) -> None:
    with looped.viewer() as viewer:
        viewer.send(get("/p.m3u8?_HLS_msn=1", "CDN-Loop: edgecache-a-00000001"))
        by_path = looped.fill()
        assert by_path.begin(200, b"", length=1, ttl_ms=60_000)
        by_path.append(b"x")
        by_path.commit()
        full = looped.fill()
        assert (full.key, full.loop) == (b"/p.m3u8?_HLS_msn=1", b"edgecache-a-00000001")
        full.fail(404)
        assert viewer.answer().status == 404
