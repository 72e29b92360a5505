"""What POPs and operators ask of the origin, and publishers' real media."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from origin.ffmpeg import find
from origin.testpattern import Pattern, argv
from tests.hand_made import HandMade
from tests.looped import eventually, looped
from tests.scripted_pop import Pop
from tests.serving_origin import (
    SIGN,
    child,
    post,
    publish,
    run,
    serving,
    upload,
)
from tests.unit.test_hooks import SECRET, receiver

pytestmark = pytest.mark.timeout(60)


@looped
async def test_publish_asks_by_key(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text(f'data.dir = "{tmp_path}"\n')
    create = ("keys", "create", "cam", "-c", str(tmp_path / "o.toml"))
    made = await asyncio.to_thread(run, *create)
    key = made.stdout.strip()
    async with serving(f"data.dir={tmp_path}") as (origin, http):
        answer = await post(http, "/api/publish", {"key": key, "addr": "192.0.2.1"})
        (known,) = origin._catalog.all_keys()
        url = f"http://127.0.0.1:{origin.port}/ingest/cam/{known.id}"
        told = {"stream": "cam", "ingest": [url], "state": "unknown"}
        assert (answer.status, await answer.json()) == (200, told)
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
        assert statuses == ["bad stream key\n", "replayed\n"]
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
            {"pop": "a", "push": "http://h:1", "streams": ["x" * 60] * 20_000, "lease_ms": 1},
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
    (tmp_path / "secret").write_text(SECRET)
    async with (
        receiver() as there,
        serving(
            rungs,
            "live.reconnect=1s",
            f"data.dir={tmp_path}",
            f"hooks.url={there.url}",
            f"hooks.secret_file={tmp_path}/secret",
        ) as (origin, http),
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
        await eventually(lambda: len(there.got) == 3)
        told = [(one["event"], one["stream"]) for one in there.got]
        events = ("publish_start", "publish_end", "recording_ready")
        assert told == [(event, "cam") for event in events]
        assert there.got[0]["publisher"] == "127.0.0.1"
