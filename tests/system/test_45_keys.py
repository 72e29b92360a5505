"""Stream keys: at the operators' door, over several data centres, and what a revocation does to who
publishes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from origin.server import Origin
from tests.described import exercise
from tests.hand_made import HandMade
from tests.looped import eventually, looped
from tests.nats_server import Nats
from tests.serving_origin import config, operators, post, publish, run, serving
from tests.system.test_22_ingest_to_parts import publisher, site

pytestmark = pytest.mark.timeout(60)

TOKEN: Final = "0123456789abcdef-of-the-door"
BEARER: Final = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def guarded(tmp_path: Path) -> str:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return f"admin.token_file={tmp_path}/token"


async def told(
    door: aiohttp.ClientSession, path: str, body: object = None, status: int = 201
) -> dict[str, str]:
    """The answer to a POST."""
    async with door.post(path, json=body or {}, headers=BEARER) as answer:
        assert answer.status == status, await answer.text()
        return json.loads(await answer.text()) if status < 300 else {}


async def opens(http: aiohttp.ClientSession, key: str) -> bool:
    answer = await post(http, "/api/publish", {"key": key, "addr": "192.0.2.1"})
    assert answer.status in (200, 403)
    return answer.status == 200


@looped
async def test_whatever_is_asked_is_answered_as_described(guarded: str, tmp_path: Path) -> None:
    """G14: with the token and without."""
    archive = f"data.dir={tmp_path}"
    async with serving(guarded, archive) as (origin, _):
        door = f"127.0.0.1:{origin.admin_port}"
        seen = await asyncio.to_thread(exercise, door, TOKEN, examples=200)
    assert seen == {200, 201, 400, 401, 404, 409, 415}


@looped
async def test_keys_are_made_rotated_and_revoked_over_http(
    guarded: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with serving(guarded) as (origin, http), operators(origin) as door:
        first = (await told(door, "/api/keys/cam"))["key"]
        assert await opens(http, first)
        second = (await told(door, "/api/keys/cam/rotate", {"grace": 60}))["key"]
        assert [await opens(http, key) for key in (first, second)] == [True, True]
        third = (await told(door, "/api/keys/cam/rotate"))["key"]
        assert [await opens(http, key) for key in (first, second, third)] == [False, False, True]
        async with door.get("/api/keys", headers=BEARER) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            text = await answer.text()
        rows = json.loads(text)
        assert [row["revoked_s"] is None for row in rows] == [False, False, True]
        await told(door, f"/api/keys/cam/{rows[2]['id']}/revoke", status=200)
        assert not await opens(http, third)
        secrets = [key.rpartition("_")[2] for key in (first, second, third)]
        assert not any(secret in text or secret in caplog.text for secret in secrets)


@looped
async def test_what_keys_cannot_do_is_one_line(guarded: str) -> None:
    async with serving(guarded) as (origin, _), operators(origin) as door:
        await told(door, "/api/keys/cam")
        for path, body, status in (
            ("/api/keys/CAM", {}, 400),
            ("/api/keys/cam/rotate", {"grace": -1}, 400),
            ("/api/keys/cam/rotate", {"secret": "mine"}, 400),
            ("/api/keys/nobody/rotate", {}, 409),
            ("/api/keys/cam/00000000/revoke", {}, 404),
        ):
            async with door.post(path, json=body, headers=BEARER) as answer:
                assert (answer.status, (await answer.text()).count("\n")) == (status, 1), path
        async with door.post("/api/keys/cam", data="{}", headers=BEARER) as answer:
            assert answer.status == 415  # what a page could send unasked


@looped
async def test_the_door_wants_its_token(guarded: str) -> None:
    async with serving(guarded) as (origin, _), operators(origin) as door:
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": TOKEN}):
            for path in ("/api/keys", "/metrics", "/api/streams"):
                async with door.get(path, headers=wrong) as answer:
                    assert answer.status == 401
            async with door.get("/healthz", headers=wrong) as answer:
                assert answer.status == 200
        async with door.get("/metrics", headers=BEARER) as answer:
            assert answer.status == 200
    async with serving() as (origin, _), operators(origin) as door:
        async with door.get("/metrics") as answer:
            assert answer.status == 200
        async with door.get("/api/keys") as answer:
            assert answer.status == 403
            assert "admin.token_file" in await answer.text()


def test_who_publishes_with_a_revoked_key_is_ended_and_told() -> None:
    """ffmpeg at a POP; the other key of the stream goes on to open it."""

    @looped
    async def case() -> None:
        async with site() as at, publisher(at.url) as first:
            await at.until(lambda: len(at.parts("90p")) > 2)
            catalog = at.origin._catalog
            other = catalog.create_key("cam")
            assert catalog.revoke_key(catalog.all_keys()[0].id)
            _, errors = await first.communicate()
            assert b"this stream key was revoked" in errors
            assert at.router.counts["rejected.forbidden"] == 1
            async with publisher(at.url) as again:
                _, errors = await again.communicate()
                assert b"bad stream key" in errors
            before = len(at.parts("90p"))
            async with publisher(at.url.rpartition("/")[0] + "/" + other):
                await at.until(lambda: len(at.parts("90p")) > before + 2)

    case()


@looped
async def test_a_pop_that_remembers_a_key_is_refused_at_the_next_connection() -> None:
    """Its memory stands in for data centres that do not answer; those that do are heard."""
    async with site() as at:
        catalog = at.origin._catalog
        (row,) = catalog.all_keys()
        key = at.url.rpartition("/")[2]
        admitted = await at.router.admission.ask(key, "192.0.2.1")
        assert admitted.urls[0].endswith(f"/ingest/cam/{row.id}")
        assert catalog.revoke_key(row.id)
        at.router.admission._data_centres = {}  # none answers
        assert await at.router.admission.ask(key, "192.0.2.1") == admitted
        async with publisher(at.url) as process:
            _, errors = await process.communicate()
            assert b"this stream key was revoked" in errors
        assert at.items == []


@looped
async def test_data_centres_share_streams_and_keys(
    nats: Nats, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the server is away live streams go on, keys are known, and nothing can be changed."""
    shared = nats.options(tmp_path.name)
    environ = {
        "ORIGIN__CATALOG__NATS": nats.url,
        "ORIGIN__CATALOG__BUCKET": tmp_path.name,
        "ORIGIN__CATALOG__HOME": "command",
        "ORIGIN__CATALOG__TOKEN_FILE": str(nats.folder / "token"),
    }
    async with (
        serving(*shared, "catalog.home=east") as (east, _),
        serving(*shared, "catalog.home=west") as (west, http),
        operators(west) as door,
    ):
        made = await asyncio.to_thread(run, "keys", "create", "cam", **environ)
        assert made.returncode == 0, made.stderr
        key = made.stdout.strip()
        await eventually(lambda: west._catalog.open(key))
        assert await opens(http, key)
        east._notes.set_state("cam", "live", "a1")
        await eventually(lambda: west._catalog.state("cam") == "live")
        nats.stop()
        try:
            assert await opens(http, key)
            publish(west, HandMade().opening("v"))
            async with http.get("/live/cam/v.m3u8") as answer:
                assert answer.status == 200
            east._notes.set_state("cam", "ended", "a1")
            failed = await asyncio.to_thread(run, "keys", "create", "cam", **environ)
            assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
            assert failed.stderr.startswith("error: catalog.nats: found ")
            async with door.get("/healthz") as answer:
                assert answer.status == 200
        finally:
            nats.start()
        await eventually(lambda: west._catalog.state("cam") == "ended")
        assert west._catalog.revoke_key(west._catalog.all_keys()[0].id)
        await eventually(lambda: east._catalog.open(key) is None)
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2, errors  # a line in each data centre


def test_a_shared_catalogue_needs_a_name_for_this_data_centre() -> None:
    with pytest.raises(Exception, match=r"catalog\.home: found none"):
        Origin(config("catalog.nats=nats://127.0.0.1:1"))
    with pytest.raises(Exception, match="without a user"):
        Origin(config("catalog.nats=nats://me:secret@127.0.0.1:1", "catalog.home=a"))
