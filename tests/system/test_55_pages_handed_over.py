"""A restart beside media: pages of `http` routes, failures that are remembered, signatures."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from edgecache.signing import sign
from tests.running import KID, LIMIT_S, SECRET, Edge, ScriptedOrigin, ask, ok, read_head
from tests.system.test_40_push_receiver import WHOLE, object_fields

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def options(tmp_path: Path, origin: ScriptedOrigin) -> list[str]:
    given = [f"takeover.socket={tmp_path}/socket", f"origin.urls={origin.url}", "http.workers=2"]
    return [*given, "http.drain=10s", 'route=[{prefix="/site/", kind="http"}]']


def body(viewer: socket.socket, length: int) -> bytes:
    """Of the next answer."""
    _, found = read_head(viewer)
    while len(found) < length and (more := viewer.recv(65536)):
        found += more
    return found


def test_what_is_handed_over_of_the_rest_and_what_is_not(
    options: list[str], origin: ScriptedOrigin
) -> None:
    """Signatures that were seen are (battery G2). Pages of `http` routes and remembered failures
    are not: the first are validated at their origin anyway, the second last for a moment."""
    for path, body in (("/site/page", ok(b"page", "Cache-Control: max-age=600")),
                       ("/gone.m4s", ok(b"", status="404 Not Found"))):  # fmt: skip
        origin.says(path, body)
    options = [*options, "cache.negative=2s"]
    path, fields = "/live/r/a/v/init0.mp4", object_fields(WHOLE)
    with Edge(options) as old:
        signed = sign("PUT", path, fields.items(), kid=KID, secret=SECRET.encode())
        signed_fields = {**fields, "Authorization": signed}
        assert ask(old.push, "PUT", path, signed_fields, WHOLE).status == 201
        for _ in range(2):
            assert [old.get("/site/page").status, old.get("/gone.m4s").status] == [200, 404]
        assert origin.count("/site/page") == 1
        failures = origin.count("/gone.m4s")
        with Edge(options) as new:
            assert old.process.wait(LIMIT_S) == 0
            assert ask(new.push, "PUT", path, signed_fields, WHOLE).status == 403
            assert new.get(path).body == WHOLE
            assert [new.get("/site/page").status, new.get("/gone.m4s").status] == [200, 404]
            assert origin.count("/site/page") == 2
            assert origin.count("/gone.m4s") == failures + 1
            assert new.stop() == 0


def test_a_page_under_way_is_answered_and_its_connection_goes_on(
    options: list[str], origin: ScriptedOrigin
) -> None:
    """It was in neither plane's count: the old process ended, and cut it."""
    go = threading.Event()
    origin.says("/site/slow", go, ok(b"slow"))
    origin.says("/after.m4s", ok(b"after"))
    with Edge(options) as old, old.raw() as viewer:
        viewer.sendall(b"GET /site/slow HTTP/1.1\r\nHost: a\r\n\r\n")
        old.settled("edge_site_requests", 1)
        with Edge(options) as new:
            old.logged("handing over")
            go.set()
            assert body(viewer, 4) == b"slow"
            assert old.process.wait(LIMIT_S) == 0
            viewer.sendall(b"GET /after.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
            assert body(viewer, 5) == b"after"
            assert new.logged("took over")["connections"] == 1
            viewer.close()
            assert new.stop() == 0
