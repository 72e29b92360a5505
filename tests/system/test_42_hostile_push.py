"""Pushes that mean harm, or come as networks bring them (battery G): floods, lies about sizes,
duplicates and disorder; and the secrets, which nobody finds anywhere."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgecache.signing import sign
from tests.running import KID, SECRET, Edge, ScriptedOrigin, ask, ok
from tests.system.test_40_push_receiver import (
    PARTS,
    WHOLE,
    digest,
    object_fields,
    push_part,
    push_version,
)
from tests.unit.test_rtmp import OPENING

pytestmark = pytest.mark.timeout(60)

HIDDEN = "not-to-be-found-push-secret"
STREAM_KEY = "the-key"
LIMIT = 4 << 20


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Small budgets, and secrets in files as they should be."""
    home = tmp_path_factory.mktemp("secrets")
    (home / "push").write_text(HIDDEN)
    options = (
        f"origin.urls={origin.url}", f"keys.hidden.secret_file={home / 'push'}",
        f"push.stream={LIMIT}B", "push.gap=5s", "cache.memory=16MiB", "cache.object_max=2MiB",
        "ingest.listen=127.0.0.1:0", "log.access=true", "log.level=debug", "http.workers=1",
    )  # fmt: skip
    with Edge(options) as daemon:
        yield daemon
        assert daemon.stop() == 0


def test_a_flood_is_refused_and_harms_nobody_else(edge: Edge, origin: ScriptedOrigin) -> None:
    """G5: all of it valid. What the stream may hold is taken, the rest is refused by its head."""
    other = "/live/other/a/360p/init0.mp4"
    edge.put(other, b"others" * 5000, object_fields(b"others" * 5000))
    junk = os.urandom(1 << 20)
    statuses = []
    for number in range(40):
        body = number.to_bytes(8, "big") + junk[8:]
        path = f"/live/leaked/a/360p/{number}.m4s"
        statuses.append(edge.put(path, body, object_fields(body)).status)
    assert statuses[:3] == [201] * 3
    assert set(statuses[4:]) == {429}
    assert edge.get("/live/leaked/a/360p/39.m4s").status == 404, "of the origin"
    assert edge.metrics()['edge_push_refused_total{reason="stream"}'] == 40 - statuses.count(201)
    assert edge.put("/live/third/a/360p/init0.mp4", junk, object_fields(junk)).status == 201
    assert edge.get(other).fields["cache-status"].startswith("edge; hit")
    assert origin.count(other) == 0
    assert edge.put("/live/leaked/a/360p/0.m4s", b"", {}, method="DELETE").status == 204
    path = "/live/leaked/a/360p/40.m4s"
    assert edge.put(path, junk[:-8], object_fields(junk[:-8])).status == 201


def test_what_is_refused_by_its_head_costs_no_memory(edge: Edge) -> None:
    """The body of a refused push is read past, and the connection goes on."""
    path, body = "/live/headonly/a/360p/0.m4s", b"x"
    too_large = "/live/headonly/a/360p/1.m4s"
    with edge.raw(edge.push) as pusher:
        for target, data in ((too_large, bytes(2 << 20)),) * 3 + ((path, body),):
            fields = object_fields(data)
            fields["Authorization"] = sign(
                "PUT", target, fields.items(), kid=KID, secret=SECRET.encode()
            )
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            length = f"Content-Length: {len(data)}\r\n"
            pusher.sendall(
                f"PUT {target} HTTP/1.1\r\nHost: a\r\n{length}{lines}\r\n".encode() + data
            )
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 4:
            answers += pusher.recv(65536)
    statuses = [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"201", b"200", b"200", b"201"], "the same bytes are the same object"


@pytest.mark.parametrize("seed", range(3))
def test_any_order_and_twice_makes_the_same_segment(edge: Edge, seed: int) -> None:
    """G6: every part twice, all at once, in any order, on connections of their own."""
    track = f"/live/shuffled/a/t{seed}"
    order = [*range(len(PARTS))] * 2
    random.Random(seed).shuffle(order)
    assert push_part(edge, track, 1, 0).status == 201
    with ThreadPoolExecutor(len(order)) as pool:
        answers = list(pool.map(lambda index: push_part(edge, track, 1, index), order))
    assert {answer.status for answer in answers} <= {200, 201}
    for index, part in enumerate(PARTS):
        assert edge.get(f"{track}/1.{index}.m4s").body == part
    whole = edge.get(f"{track}/1.m4s")
    assert whole.body == WHOLE
    assert whole.fields["etag"] == f'"{digest(WHOLE)}"'


def test_a_block_that_lies_about_its_size_is_not_unpacked(edge: Edge) -> None:
    """G4: what lz4 may unpack is bounded by what is announced, and that by a constant."""
    bomb = b"\x1f\x00\x01\x00" + b"\xff" * 60_000 + b"\x00" * 16
    for length, status in ((100, 400), (1 << 30, 413), (0, 400)):
        fields = object_fields(bomb) | {
            "Edge-Version": "1.0.0", "Edge-Hold": "0", "Edge-Advance": "0", "Edge-Ended": "0",
            "Edge-Coding": "lz4", "Edge-Variants": f"full={length}",
        }  # fmt: skip
        assert edge.put("/live/bomb/360p.m3u8", bomb, fields).status in (status, 400)
    assert edge.get("/live/bomb/360p.m3u8").status == 404


def test_an_older_version_changes_nothing(edge: Edge) -> None:
    """G3: a replayed or delayed playlist is taken note of, and not shown."""
    path = "/live/old/360p.m3u8"
    push_version(edge, path, b"#EXTM3U 9\n", "9.0.6")
    for version in ("9.0.6", "8.5.6", "0.0.0"):
        assert push_version(edge, path, b"#EXTM3U old\n", version).status == 204
    assert edge.get(path).body == b"#EXTM3U 9\n"


def test_two_origins_that_disagree_are_never_mixed(edge: Edge, origin: ScriptedOrigin) -> None:
    """D12: other bytes under one name are a conflict, whoever came first, and counted as one; who
    is in the middle of the one body is not given a byte of the other."""
    pulled, pushed, go = os.urandom(200_000), os.urandom(200_000), threading.Event()
    first, second, late = (f"/live/split/a/v/{number}.m4s" for number in range(3))
    whole = ok(pulled, "Cache-Control: max-age=600")
    origin.says(first, whole)
    origin.says(second, whole)
    origin.says(late, whole[:100_000], go, whole[100_000:])
    conflicts = 'edge_push_refused_total{reason="conflict"}'
    before = edge.metrics().get(conflicts, 0)

    assert edge.get(first).body == pulled
    edge.complete(first)
    assert edge.put(first, pushed, object_fields(pushed)).status == 409
    assert edge.put(first, pulled, object_fields(pulled)).status == 200
    assert edge.put(second, pushed, object_fields(pushed)).status == 201
    assert edge.put(second, pulled, object_fields(pulled)).status == 409
    assert [edge.get(path).body for path in (first, second)] == [pulled, pushed]
    assert origin.count(second) == 0
    assert edge.metrics()[conflicts] == before + 2

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(edge.get, late)
        while not origin.count(late):
            time.sleep(0.005)
        assert edge.put(late, pushed, object_fields(pushed)).status == 201
        assert edge.get(late).body == pushed
        go.set()
        assert watching.result().body in (pulled, pushed)
    edge.settled("edge_fills_running", 0)
    assert edge.get(late).body == pushed


def test_names_do_not_become_labels(edge: Edge) -> None:
    """H2: streams, tracks, paths and agents of any number leave the metrics as they were."""
    edge.put("/live/first/a/v/init0.mp4", b"x", object_fields(b"x"))
    edge.get("/first.m4s", {"User-Agent": "first"})
    before = edge.metrics().keys()
    for number in range(100):
        edge.put(f"/live/s{number}/a/v{number}/init0.mp4", b"x", object_fields(b"x"))
        edge.get(f"/{number}/x.m4s", {"User-Agent": f'agent-{number}"}} 1'})
    assert edge.metrics().keys() == before


def test_numbers_beyond_32_bits(edge: Edge) -> None:
    """H6: of media sequences, on the wire and in the store."""
    path, msn = "/live/long/360p.m3u8", 5 << 32
    assert push_version(edge, path, b"#EXTM3U 1", f"{msn}.1.6", hold_ms=3000).status == 204
    assert push_version(edge, path, b"#EXTM3U 0", "7.1.6", hold_ms=3000).status == 204
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(edge.get, f"{path}?_HLS_msn={msn}&_HLS_part=1")
        edge.settled("edge_parked_now", 1)
        assert edge.get(f"{path}?_HLS_msn={msn + 3}").status == 400
        push_version(edge, path, b"#EXTM3U 2", f"{msn}.2.6", hold_ms=3000)
        assert waiting.result().body == b"#EXTM3U 2"


def test_secrets_are_nowhere(edge: Edge, origin: ScriptedOrigin) -> None:
    """G12: used rightly and wrongly, then looked for in every place that people look at."""
    path, fields = "/live/hide/a/360p/init0.mp4", object_fields(b"x")
    signed = sign("PUT", path, fields.items(), kid="hidden", secret=HIDDEN.encode())
    signature = signed.rpartition("sig=")[2]
    request = {**fields, "Authorization": signed}
    assert ask(edge.push, "PUT", path, request, b"x").status == 201
    replayed = ask(edge.push, "PUT", path, request, b"x")
    assert replayed.status == 403
    odd = ask(edge.push, "PUT", f"{path}?secret={HIDDEN}", {**fields, "Authorization": HIDDEN})
    origin.says("/api/publish", ok(b"{}", status="403 Forbidden"))
    ingest = str(edge.ready["ingest"])
    with edge.raw(ingest) as publisher:
        publisher.sendall(OPENING)
        while publisher.recv(65536):
            pass
    assert any(asked.target == "/api/publish" for asked in origin.asked)
    pages = [ask(edge.admin, "GET", page, {}).body for page in ("/metrics", "/state", "/readyz")]
    edge.process.send_signal(signal.SIGUSR1)
    edge.logged("state end")
    process = Path(f"/proc/{edge.process.pid}")
    seen = {
        "log": "".join(edge.lines).encode(),
        "answers": replayed.body + odd.body,
        "pages": b"".join(pages),
        "arguments": (process / "cmdline").read_bytes(),
        "environment": (process / "environ").read_bytes(),
    }
    assert b"push refused" in seen["log"]
    for secret in (HIDDEN, signature, STREAM_KEY):
        found = [where for where, text in seen.items() if secret.encode() in text]
        assert found == [], secret
