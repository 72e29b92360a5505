"""The origin over HTTP: pull as any cache would, control as POPs and operators do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import xxhash
from prometheus_client.parser import text_string_to_metric_families

from edgecache.signing import sign
from origin.config import Config, load_config
from origin.ffmpeg import find
from origin.model import Publication
from origin.server import Origin, StartError
from origin.testpattern import Pattern, argv
from tests.hand_made import HandMade
from tests.looped import eventually, looped
from tests.scripted_pop import KID, SECRET, Pop

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]
SIGN = functools.partial(sign, kid=KID, secret=SECRET)


def config(*overrides: str) -> Config:
    given = (
        "http.listen=127.0.0.1:0",
        f"keys.{KID}.secret={SECRET.decode()}",
        "http.drain=1s",
        *overrides,
    )
    return load_config(None, overrides=given, environ={}).value


@asynccontextmanager
async def serving(*overrides: str) -> AsyncIterator[tuple[Origin, aiohttp.ClientSession]]:
    origin = Origin(config(*overrides))
    await origin.start()
    base = f"http://127.0.0.1:{origin.port}"
    try:
        async with aiohttp.ClientSession(base, auto_decompress=False) as session:
            yield origin, session
    finally:
        await origin.stop()


def publish(origin: Origin, items: Sequence[Publication], stream: str = "cam") -> None:
    for item in items:
        origin.publish(stream, item)


def whole(made: HandMade, msn: int = 10, track: str = "v") -> bytes:
    """The bytes of a segment of `made`."""
    again = HandMade(made.stream, first_msn=msn, size=made.size)
    return b"".join(again.part(track).body for _ in range(made.parts))


# -- pull


@looped
async def test_an_object_and_its_validators() -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        path, body = "/live/cam/abc/v/10.m4s", whole(made)
        async with http.get(path) as answer:
            assert (answer.status, await answer.read()) == (200, body)
            etag = answer.headers["ETag"]
            assert etag == f'"{xxhash.xxh3_128_hexdigest(body)}"'
            assert answer.headers["Cache-Control"].endswith("immutable")
            assert answer.headers["Content-Type"] == "video/mp4"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Age" in answer.headers["Access-Control-Expose-Headers"]
        async with http.head(path) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(body)))
            assert await answer.read() == b""
        for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            async with http.get(path, headers={"If-None-Match": known}) as answer:
                assert answer.status == 304
        async with http.get(path, headers={"If-Match": '"other"'}) as answer:
            assert answer.status == 412
        async with http.options(path) as answer:
            assert answer.status == 204
            assert "Range" in answer.headers["Access-Control-Allow-Headers"]
        async with http.get("/live/cam/abc/v/10.1.m4s") as answer:
            assert await answer.read() == body[64:128]


@pytest.mark.parametrize(
    ("value", "status", "span"),
    [
        ("bytes=0-9", 206, (0, 10)),
        ("bytes=60-70", 206, (60, 71)),
        ("bytes=190-", 206, (190, 192)),
        ("bytes=-5", 206, (187, 192)),
        ("bytes=-500", 206, (0, 192)),
        ("bytes=0-99999999999999", 206, (0, 192)),
        ("bytes=192-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-2", 200, (0, 192)),
        ("bytes=0-1,3-4", 200, (0, 192)),
        ("bytes=a-b", 200, (0, 192)),
        ("lines=0-1", 200, (0, 192)),
        ("bytes=99999999999999999999-", 200, (0, 192)),
    ],
)
@looped
async def test_ranges(value: str, status: int, span: tuple[int, int] | None) -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        async with http.get("/live/cam/abc/v/10.m4s", headers={"Range": value}) as answer:
            assert answer.status == status
            if span is None:
                assert answer.headers["Content-Range"] == "bytes */192"
                return
            assert await answer.read() == whole(made)[slice(*span)]
            if status == 206:
                told = f"bytes {span[0]}-{span[1] - 1}/192"
                assert answer.headers["Content-Range"] == told


@looped
async def test_a_range_of_an_object_that_changed_is_the_whole() -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        headers = {"Range": "bytes=0-9", "If-Range": '"other"'}
        async with http.get("/live/cam/abc/v/10.m4s", headers=headers) as answer:
            assert (answer.status, len(await answer.read())) == (200, 192)


@looped
async def test_a_growing_segment_comes_part_by_part() -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        publish(origin, made.step("v"))
        async with http.get("/live/cam/abc/v/11.m4s") as answer:
            assert answer.status == 200
            assert "Content-Length" not in answer.headers
            assert answer.headers["Cache-Control"] == "no-store"
            chunks = answer.content.iter_chunks()
            assert len((await anext(chunks))[0]) == 64
            publish(origin, made.step("v"))
            assert len((await anext(chunks))[0]) == 64
            publish(origin, made.step("v"))
            assert len((await anext(chunks))[0]) == 64
            assert await answer.content.read() == b""
        async with http.get("/live/cam/abc/v/11.m4s") as answer:
            assert await answer.read() == whole(made, 11)


@looped
async def test_a_playlist_blocks_until_its_version() -> None:
    made = HandMade(hold_ms=200)
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        path = "/live/cam/v.m3u8"
        waiting = asyncio.create_task(http.get(f"{path}?_HLS_msn=11&_HLS_part=1"))
        hinted = asyncio.create_task(http.get("/live/cam/abc/v/11.0.m4s"))
        await eventually(lambda: origin.store.gauges()["waiters"] == 2)
        publish(origin, made.step("v"))
        assert (await (await hinted).read()) == whole(made, 11)[:64]
        assert not waiting.done()
        publish(origin, made.step("v"))
        answer = await waiting
        assert gzip.decompress(await answer.read()) == made.version("v").full
        assert answer.headers["Content-Type"] == "application/vnd.apple.mpegurl"
        async with http.get(path, params={"_HLS_msn": "12", "_HLS_part": "0"}) as late:
            assert late.status == 503
            assert late.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?_HLS_msn=10", 200),
        ("?_HLS_msn=10&_HLS_part=7", 400),
        ("?_HLS_part=1", 400),
        ("?_HLS_msn=99", 400),
        ("?_HLS_msn=x", 400),
        ("?_HLS_msn=-1", 400),
        ("?_HLS_msn=9&_HLS_part=", 400),
        ("?_HLS_skip=NO", 400),
        ("?utm_source=x", 200),
    ],
)
@looped
async def test_directives(query: str, status: int) -> None:
    made = HandMade(hold_ms=50)
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        plain = {"Accept-Encoding": "identity"}
        async with http.get(f"/live/cam/v.m3u8{query}", headers=plain) as answer:
            text = await answer.text()
            if query == "?_HLS_msn=10&_HLS_part=7":  # past the end of 10: part 0 of 11, to come
                assert answer.status == 503
                return
            assert answer.status == status, text
            if status == 400:
                assert text.count("\n") == 1
                assert "allowed" in text


@looped
async def test_variants_of_a_playlist() -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        version = made.version("v")
        seen = set()
        for skip, accepted, body in (
            ("", "identity", version.full),
            ("", "gzip, br", version.full_gzip),
            ("", "gzip;q=0", version.full),
            ("?_HLS_skip=YES", "identity", version.delta),
            ("?_HLS_skip=v2", "gzip", version.delta_gzip),
        ):
            headers = {"Accept-Encoding": accepted}
            async with http.get(f"/live/cam/v.m3u8{skip}", headers=headers) as answer:
                assert await answer.read() == body
                assert answer.headers["Vary"] == "Accept-Encoding"
                zipped = answer.headers.get("Content-Encoding") == "gzip"
                assert zipped == (body in (version.full_gzip, version.delta_gzip))
                seen.add(answer.headers["ETag"])
                headers = {**headers, "If-None-Match": answer.headers["ETag"]}
            async with http.get(f"/live/cam/v.m3u8{skip}", headers=headers) as answer:
                assert answer.status == 304
        assert len(seen) == 4
        async with http.get("/live/cam/master.m3u8?_HLS_msn=5000") as answer:
            assert gzip.decompress(await answer.read()).startswith(b"#EXTM3U")


@pytest.mark.parametrize(
    "path",
    [
        "/live/nobody/master.m3u8",
        "/live/cam/abc/v/99.m4s",
        "/live/cam/abc/v/11.4.m4s",
        "/live/cam/../cam/v.m3u8/x",
        "/live/x",
        "/static/nothing.js",
        "/watch/UPPER",
        "/nothing",
    ],
)
@looped
async def test_unknown_names(path: str) -> None:
    made = HandMade()
    async with serving() as (origin, http):
        publish(origin, made.opening("v"))
        async with http.get(path) as answer:
            assert answer.status == 404
            assert (await answer.text()).count("\n") == 1


@looped
async def test_pages_and_their_files() -> None:
    async with serving() as (_, http):
        async with http.get("/watch/cam") as answer:
            assert answer.status == 200
            assert "cam" in await answer.text()
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            headers = {"If-None-Match": answer.headers["ETag"]}
        async with http.get("/watch/cam", headers=headers) as answer:
            assert answer.status == 304
        async with http.get("/") as answer:
            assert str(answer.url).endswith("/state")
            assert answer.content_type == "text/html"


# -- control


async def post(
    http: aiohttp.ClientSession, target: str, body: object, **headers: str
) -> aiohttp.ClientResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Edge-Digest": xxhash.xxh3_128_hexdigest(data)}
    signed = {**fields, "Authorization": SIGN("POST", target, fields.items()), **headers}
    return await http.post(target, data=data, headers=signed)


@looped
async def test_publish_asks_by_key(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text(f'data.dir = "{tmp_path}"\n')
    create = ("keys", "create", "cam", "-c", str(tmp_path / "o.toml"))
    made = await asyncio.to_thread(run, *create)
    key = made.stdout.strip()
    async with serving(f"data.dir={tmp_path}") as (origin, http):
        answer = await post(http, "/api/publish", {"key": key, "addr": "192.0.2.1"})
        url = f"http://127.0.0.1:{origin.port}/ingest/cam"
        assert (answer.status, await answer.json()) == (200, {"stream": "cam", "ingest": [url]})
        answer = await post(http, "/api/publish", {"key": key[:-1] + "x", "addr": "192.0.2.1"})
        assert answer.status == 403
        assert key not in await answer.text()


@looped
async def test_only_signed_requests_change_anything() -> None:
    async with serving() as (_, http):
        body = {"key": "cam_00", "addr": ""}
        for target in ("/api/publish", "/api/subscriptions"):
            async with http.post(target, json=body) as answer:
                assert answer.status == 401
            bad = SIGN("POST", "/elsewhere")
            async with http.post(target, json=body, headers={"Authorization": bad}) as answer:
                assert answer.status == 403
        replayed = SIGN("POST", "/api/publish")
        statuses = []
        for _ in range(2):
            headers = {"Authorization": replayed}
            async with http.post("/api/publish", json=body, headers=headers) as answer:
                statuses.append(await answer.text())
        assert statuses == ["key: not known here\n", "replayed\n"]
        async with http.put("/ingest/cam", data=b"FLV") as answer:
            assert answer.status == 401


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "body: "),
        (b"[]", 400, "body: "),
        ({"pop": "A B", "push": "http://h:1", "streams": [], "lease_ms": 3000}, 400, "pop: "),
        ({"pop": "a", "push": "ftp://h", "streams": [], "lease_ms": 3000}, 400, "push: "),
        (
            {"pop": "a", "push": "http://h:1", "streams": ["/"], "lease_ms": 3000},
            400,
            "streams.0: ",
        ),
        ({"pop": "a", "push": "http://h:1", "streams": [], "lease_ms": 1}, 400, "lease_ms: "),
        (
            {"pop": "a", "push": "http://h:1", "streams": ["x" * 60] * 2000, "lease_ms": 1},
            413,
            "Req",
        ),
    ],
)
@looped
async def test_bad_subscriptions(body: object, status: int, says: str) -> None:
    async with serving() as (_, http):
        answer = await post(http, "/api/subscriptions", body)
        text = await answer.text()
        assert (answer.status, text.count("\n")) == (status, 1), text
        assert text.startswith(says)


@looped
async def test_a_changed_body_is_refused() -> None:
    async with serving() as (_, http):
        fields = {"Edge-Digest": "0" * 32}
        headers = {**fields, "Authorization": SIGN("POST", "/api/publish", fields.items())}
        async with http.post("/api/publish", json={"key": "x"}, headers=headers) as answer:
            assert answer.status == 422


@looped
async def test_a_subscription_brings_the_window_then_everything() -> None:
    made = HandMade()
    async with Pop() as pop, serving() as (origin, http):
        publish(origin, made.opening("v"))
        ask = {
            "pop": "pop-a",
            "push": pop.url,
            "streams": ["cam", "nobody"],
            "lease_ms": 30_000,
            "viewers": {"cam": 12},
        }
        answer = await post(http, "/api/subscriptions", ask)
        assert await answer.json() == {
            "lease_ms": 30_000,
            "streams": {"cam": "live", "nobody": "unknown"},
        }
        await pop.until(lambda: "master.m3u8" in pop.names() and "10.2.m4s" in pop.names())
        publish(origin, made.step("v"))
        await pop.until(lambda: "11.0.m4s" in pop.names())
        async with http.get("/api/streams") as state:
            told = await state.json()
        assert [(s["name"], s["state"], s["viewers"]) for s in told["streams"]] == [
            ("cam", "live", 12)
        ]
        assert told["pops"][0]["name"] == "pop-a"
        assert told["pops"][0]["acknowledged"] > 0


@looped
async def test_metrics_parse_and_close() -> None:
    made = HandMade()
    async with (
        Pop() as pop,
        serving('pops.a.hot=["*"]', f"pops.a.push={pop.url}") as (origin, http),
    ):
        publish(origin, made.opening("v"))
        await pop.until(lambda: "master.m3u8" in pop.names() and "10.2.m4s" in pop.names())
        async with http.get("/metrics") as answer:
            text = await answer.text()
        found = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        ends = ("acknowledged", "refused", "dropped", "superseded", "lost")
        items = {name: found.get(("origin_push_items_total", "a", name), 0) for name in ends}
        pending = found["origin_push_state", "a", "pending"]
        enqueued = found["origin_push_items_total", "a", "enqueued"]
        assert sum(items.values()) + pending == enqueued > 0
        assert found["origin_store_streams_live",] == 1
        async with http.get("/healthz") as answer:
            assert answer.status == 200
        async with http.get("/readyz") as answer:
            assert await answer.json() == {"ready": True, "reasons": []}


# -- ingest: real FLV, real ffmpeg


async def raw(port: int, head: str, body: bytes = b"") -> bytes:
    """What the origin says to a request with `Expect: 100-continue`, up to its first final line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + body)
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


def ingest_head(stream: str, *, signed: bool = True, kind: str = "video/x-flv") -> str:
    target = f"/ingest/{stream}"
    lines = [f"PUT {target} HTTP/1.1", "Host: o", f"Content-Type: {kind}"]
    lines += ["Transfer-Encoding: chunked", "Expect: 100-continue"]
    lines += [f"Authorization: {SIGN('PUT', target)}"] if signed else []
    return "\r\n".join(lines) + "\r\n\r\n"


@looped
async def test_a_publisher_is_refused_before_it_sends() -> None:
    async with serving() as (origin, _):
        for head, status in (
            (ingest_head("cam", signed=False), b"401"),
            (ingest_head("CAM"), b"400"),
            (ingest_head("cam", kind="text/html"), b"415"),
            (ingest_head("cam"), b"100"),
        ):
            answer = await raw(origin.port, head)
            assert answer.startswith(b"HTTP/1.1 " + status), (head, answer)


@looped
async def test_what_is_no_flv_is_refused() -> None:
    async with serving() as (_, http):
        fields = {"Content-Type": "video/x-flv", "Authorization": SIGN("PUT", "/ingest/cam")}
        async with http.put("/ingest/cam", data=b"<html>" * 100, headers=fields) as answer:
            assert answer.status == 400
            assert (await answer.text()).count("\n") == 1


@asynccontextmanager
async def child(*command: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is gone at the end."""
    process = await asyncio.create_subprocess_exec(*command, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def upload(
    http: aiohttp.ClientSession, source: asyncio.subprocess.Process
) -> aiohttp.ClientResponse:
    """What `source` prints, as a publisher's body."""
    fields = {"Content-Type": "video/x-flv", "Authorization": SIGN("PUT", "/ingest/cam")}
    return await http.put("/ingest/cam", data=source.stdout, headers=fields)


def listed(playlist: str) -> list[str]:
    """URIs of the segments that are there, not those marked as gaps."""
    found: list[str] = []
    gap = False
    for line in playlist.splitlines():
        if line.startswith("#"):
            gap = gap or line == "#EXT-X-GAP"
        else:
            found += [] if gap or not line else [line]
            gap = False
    return found


@looped
async def test_a_broadcast_from_flv_to_playlists_and_its_end(tmp_path: Path) -> None:
    """ffmpeg's test pattern in, LL-HLS out, ENDLIST when the publisher does not come back."""
    command = argv(find(), "pipe:1", Pattern(width=320, height=180, seconds=4.0))
    rungs = "ladder={v={width=320,height=180,bitrate='250kbps'}}"
    async with (
        serving(rungs, "live.reconnect=1s", f"data.dir={tmp_path}") as (origin, http),
        child(*command, stdout=asyncio.subprocess.PIPE) as source,
    ):
        sent = asyncio.create_task(upload(http, source))
        await eventually(lambda: origin.store.find_playlist("/live/cam/v.m3u8"), 15)
        busy = await raw(origin.port, ingest_head("cam"))
        assert busy.startswith(b"HTTP/1.1 409")
        version = origin.store.find_playlist("/live/cam/v.m3u8")
        assert version is not None
        query = {"_HLS_msn": str(version.msn + 1), "_HLS_part": "0"}
        async with http.get("/live/cam/v.m3u8", params=query) as answer:
            assert answer.status == 200
            assert f"/{version.msn}.m4s" in gzip.decompress(await answer.read()).decode()
        assert (await sent).status == 200
        await eventually(lambda: origin.store.state("cam") == "ended", 15)
        async with http.get("/live/cam/v.m3u8", headers={"Accept-Encoding": "identity"}) as answer:
            text = await answer.text()
        assert "#EXT-X-ENDLIST" in text
        assert len(listed(text)) >= 2
        for name in listed(text):
            async with http.get(f"/live/cam/{name}") as answer:
                assert answer.status == 200
                assert len(await answer.read()) > 1000


# -- the process


def children(pid: int) -> set[int]:
    """Process ids that have `pid` as an ancestor."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@looped
async def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "o.toml").write_text(
        f'http = {{ listen = "127.0.0.1:{port}", drain = "1s" }}\n'
        f'data.dir = "{tmp_path}"\nkeys.{KID}.secret = "{SECRET.decode()}"\n'
        'ladder.v = { width = 320, height = 180, bitrate = "250kbps" }\n'
    )
    serve = (sys.executable, "-m", "origin", "serve", "-c", str(tmp_path / "o.toml"))
    pattern = argv(find(), "pipe:1", Pattern(width=320, height=180))
    async with (
        child(*serve, cwd=ROOT) as origin,
        child(*pattern, stdout=asyncio.subprocess.PIPE) as source,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        await answering(http, "/readyz")
        sent = asyncio.create_task(upload(http, source))
        await answering(http, "/live/cam/v.m3u8")
        born = children(origin.pid)
        assert born
        origin.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await origin.wait() == 0
        await asyncio.gather(sent, return_exceptions=True)
    assert not [pid for pid in born if alive(pid)]
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
    assert "#EXT-X-ENDLIST" in (tmp_path / "window/cam/index.json").read_text()


async def answering(http: aiohttp.ClientSession, path: str) -> None:
    """Until `path` is there."""
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with http.get(path) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "origin", *arguments]
    env = {**os.environ, **environ}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT, env=env)


def test_a_busy_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        got = run("serve", "-o", f"http.listen={address}")
    assert got.returncode == 1
    assert got.stderr.splitlines()[-1] == (
        f"error: http.listen: found {address}, which cannot be listened on: Address already in use"
    )
    assert "Traceback" not in got.stderr


def test_a_wrong_configuration_is_78(tmp_path: Path) -> None:
    bad = tmp_path / "o.toml"
    bad.write_text('http.lisen = "x"\nlive.window = 5\n[pops.a]\npush = "ftp://x"\n')
    got = run("serve", "-c", str(bad), "-t")
    assert got.returncode == 78
    lines = got.stderr.splitlines()
    assert len(lines) == 3
    assert "did you mean listen?" in got.stderr
    assert f"{bad}:2: live.window" in got.stderr
    got = run("serve", "-t", EDGECACHE_FFMPEG="/nowhere/ffmpeg")
    assert got.returncode == 78
    assert "/nowhere/ffmpeg" in got.stderr


def test_a_data_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"data\.dir: found"):
        Origin(config(f"data.dir={tmp_path}/file/deeper"))
