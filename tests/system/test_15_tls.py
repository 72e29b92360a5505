"""Origins and hosts of the chain that speak TLS, by their name, to all kinds of routes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.authority import Authority, serving
from tests.running import Asked, Edge, ScriptedOrigin, Step, ok
from tests.scripted_packager import Packager

FRESH = "Cache-Control: max-age=60"
KINDS = ("live", "vod", "http")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[ScriptedOrigin]:
    """Its certificate is for `localhost`, and not for the address that it is at."""
    server = ScriptedOrigin(serving(authority.signs("localhost")))
    yield server
    server.close()


@pytest.fixture(scope="module")
def by_name(secure: ScriptedOrigin) -> str:
    return f"https://localhost:{secure.port}"


@pytest.fixture(scope="module")
def edge(authority: Authority, secure: ScriptedOrigin, by_name: str) -> Iterator[Edge]:
    """Below /bad/ the same origin is asked by a name that it has no certificate for."""
    routes = [f'{{prefix="/{kind}/",kind="{kind}"}}' for kind in KINDS]
    routes += [
        f'{{prefix="/bad/{kind}/",kind="{kind}",origins=["{secure.url}"]}}' for kind in KINDS
    ]
    options = (
        f"origin.urls={by_name}",
        f"origin.ca_file={authority.file}",
        f"route=[{','.join(routes)}]",
        "origin.breaker_failures=1000",
        "http.workers=1",
    )
    with Edge(options) as daemon:
        yield daemon


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_routes_are_filled(
    kind: str, edge: Edge, secure: ScriptedOrigin, by_name: str
) -> None:
    body = kind.encode() * 100_000
    for path in (f"/{kind}/a.m4s", f"/{kind}/b.m4s"):
        secure.says(path, ok(body, FRESH))
        assert [edge.get(path).body for _ in range(3)] == [body] * 3
        [asked] = [asked for asked in secure.asked if asked.target == path]
        assert f"https://{asked.fields['host']}" == by_name


def test_a_body_that_is_cut_is_resumed(edge: Edge, secure: ScriptedOrigin) -> None:
    body = bytes(range(256)) * 2000
    lines = (FRESH, 'ETag: "a"')

    def script(asked: Asked) -> list[Step]:
        if "range" not in asked.fields:
            return [ok(body, *lines)[:300_000], "rst"]
        first = int(asked.fields["range"].removeprefix("bytes=").rstrip("-"))
        told = f"Content-Range: bytes {first}-{len(body) - 1}/{len(body)}"
        return [ok(body[first:], *lines, told, status="206 Partial Content")]

    secure.scripts["/vod/cut.mp4"] = script
    assert edge.get("/vod/cut.mp4").body == body
    assert secure.count("/vod/cut.mp4") == 2


def test_a_playlist_is_followed(edge: Edge, secure: ScriptedOrigin) -> None:
    live = Packager(secure, "/live/low/v.m3u8", target_s=4)
    assert edge.get(live.path).status == 200
    msn, part = live.version
    live.advance()
    wanted = f"{live.path}?_HLS_msn={msn}&_HLS_part={part}"
    assert live.part(msn, part).rpartition("/")[2].encode() in edge.get(wanted).body


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_certificate_is_a_502_and_one_line(
    kind: str, edge: Edge, secure: ScriptedOrigin
) -> None:
    path = f"/bad/{kind}/a.m4s"
    secure.says(path, ok(b"never", FRESH))
    assert edge.get(path).status == 502
    told = edge.logged_like("fetch failed" if kind == "http" else "fill failed")
    assert str(told["message"]).partition(": ")[2] == (
        "the certificate of 127.0.0.1 is refused: "
        "IP address mismatch, certificate is not valid for '127.0.0.1'."
    )
    assert secure.count(path) == 0
    failures = f'edge_upstream_failures_total{{origin="{secure.url}"'
    found = [value for name, value in edge.metrics().items()
             if name.startswith(failures) and 'reason="certificate"' in name]  # fmt: skip
    assert sum(found) > 0


def test_a_parent_is_asked_over_tls(authority: Authority, secure: ScriptedOrigin) -> None:
    by_name = f"https://localhost:{secure.port}"
    secure.says("/region/a.m4s", ok(b"from the shield", FRESH))
    options = (
        f"chain.shield={by_name}", f"origin.ca_file={authority.file}",
        "origin.urls=http://127.0.0.1:9", "http.workers=1",
    )  # fmt: skip
    with Edge(options) as host:
        assert host.get("/region/a.m4s").body == b"from the shield"
