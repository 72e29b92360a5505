"""What the origin tells operators at their own door, and what it tells everybody."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from origin.ffmpeg import find
from origin.server import Origin
from origin.testpattern import Pattern, argv
from tests.hand_made import HandMade
from tests.looped import eventually, looped
from tests.scripted_pop import Pop
from tests.serving_origin import child, config, operators, post, publish, serving, upload

pytestmark = pytest.mark.timeout(60)

PUBLIC = {
    "bytes", "dropped_frames", "dropped_tags", "encoder", "epoch", "generation", "jumps", "lag_ms",
    "last_tag_age_s", "latency_ms", "name", "out_of_step", "playlists", "publications",
    "queued_bytes", "renditions", "restarts", "shed", "silent_frames", "source", "speed", "state",
    "tags", "title", "viewers", "worker",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
@looped
async def test_what_is_the_operators_is_not_public(path: str) -> None:
    async with serving() as (origin, http), operators(origin) as admin:
        async with http.get(path) as answer:
            assert answer.status == 404
        async with admin.get(path) as answer:
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
        async with admin.get("/live/cam/master.m3u8") as answer:
            assert answer.status == 404


@looped
async def test_metrics_parse_and_close() -> None:
    made = HandMade()
    async with (
        Pop() as pop,
        serving('pops.a.hot=["*"]', f"pops.a.push={pop.url}") as (origin, _),
        operators(origin) as admin,
    ):
        publish(origin, made.opening("v"))
        await pop.until(lambda: "master.m3u8" in pop.names() and "10.2.m4s" in pop.names())
        async with admin.get("/metrics") as answer:
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
        assert found["origin_encoders_shedding",] == 0
        async with admin.get("/readyz") as answer:
            assert await answer.json() == {"ready": True, "reasons": []}


async def told(
    http: aiohttp.ClientSession,
) -> tuple[str, str, dict[str, Any], list[dict[str, Any]]]:
    """(text, Cache-Control, first stream, POPs) of /api/streams."""
    async with http.get("/api/streams") as answer:
        assert answer.status == 200
        found = await answer.json()
        cached = answer.headers["Cache-Control"]
        return await answer.text(), cached, found["streams"][0], found["pops"]


@looped
async def test_the_public_state_has_no_addresses_and_no_processes() -> None:
    pattern = argv(find(), "pipe:1", Pattern(width=320, height=180))
    rungs = "ladder={v={width=320,height=180,bitrate='250kbps'}}"
    async with (
        Pop() as pop,
        serving(rungs) as (origin, http),
        operators(origin) as admin,
        child(*pattern, stdout=asyncio.subprocess.PIPE) as source,
    ):
        sent = asyncio.create_task(upload(http, source))
        await eventually(lambda: origin.store.find_playlist("/live/cam/v.m3u8"), 15)
        ask = {"pop": "pop-a", "push": pop.url, "streams": ["cam"], "lease_ms": 30_000}
        assert (await post(http, "/api/subscriptions", ask)).status == 200
        text, cached, stream, pops = await told(http)
        assert cached == "public, max-age=1"
        assert stream.keys() == PUBLIC
        assert "127.0.0.1" not in text
        _, cached, whole, pops_whole = await told(admin)
        assert cached == "no-store"
        assert whole.keys() == PUBLIC | {"publisher", "encoder_pid", "ledger", "tracks"}
        assert whole["publisher"] == "127.0.0.1"
        os.kill(whole["encoder_pid"], 0)
        assert [one.keys() | {"url"} for one in pops] == [one.keys() for one in pops_whole]
        source.terminate()
        await sent


@looped
async def test_a_browser_that_was_lured_here_is_refused() -> None:
    async with serving() as (origin, _), operators(origin) as admin:
        for host, status in (("evil.example", 421), ("localhost:1", 200), ("[::1]:9", 200)):
            async with admin.get("/healthz", headers={"Host": host}) as answer:
                assert answer.status == status, host


@looped
async def test_the_door_can_be_closed() -> None:
    origin = Origin(config("admin.listen="))
    await origin.start()
    try:
        assert origin.port
        assert origin.admin_port == 0
    finally:
        await origin.stop()
