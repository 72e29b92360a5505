"""origin/hooks.py, against a real HTTP server that does as it is told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from origin.catalog import Opened
from origin.config import Config
from origin.hooks import SIGNATURE, Hooks
from tests.looped import eventually, looped
from tests.serving_origin import config, post, serving

SECRET = "a-secret-of-the-hooks"
CAM = Opened("cam", "0123abcd")


class Receiver:
    """Answers as `answers` says, the last of them for ever; a status of 0 never answers."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = [(200, "")]
        self.got: list[dict[str, object]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        said = dict(each.split("=") for each in request.headers[SIGNATURE].split(","))
        mac = hmac.new(SECRET.encode(), f"{said['t']}.".encode() + body, hashlib.sha256)
        assert said["v1"] == mac.hexdigest()
        self.got.append(json.loads(body))
        status, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not status:
            await asyncio.sleep(30)
        return web.Response(status=status, text=text)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.add_routes([web.post("/hook", found.take)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text(SECRET)
    return f"hooks.secret_file={tmp_path}/secret"


@asynccontextmanager
async def hooks(settings: Config) -> AsyncIterator[Hooks]:
    made = Hooks(settings)
    made.start()
    try:
        yield made
    finally:
        await made.stop(0.0)


@looped
async def test_events_are_signed_and_come_in_order(secret: str) -> None:
    async with receiver() as there, hooks(config(secret, f"hooks.url={there.url}")) as made:
        made.turned("cam", "live", "192.0.2.1")
        made.turned("cam", "ended", "192.0.2.1")
        await eventually(lambda: made.counters["delivered"] == 2)
        assert [(one["event"], one["stream"]) for one in there.got] == [
            ("publish_start", "cam"),
            ("publish_end", "cam"),
        ]
        assert there.got[0]["id"] != there.got[1]["id"]


@looped
async def test_what_is_not_taken_comes_again_and_is_the_same(secret: str) -> None:
    """A server error, too many requests, no answer at all; a refusal is final."""
    options = (secret, "hooks.timeout=1s")
    async with receiver() as there, hooks(config(*options, f"hooks.url={there.url}")) as made:
        there.answers = [(500, ""), (429, ""), (0, ""), (200, ""), (410, "gone"), (200, "")]
        made.tell("one")
        made.tell("two")
        made.tell("three")
        await eventually(lambda: made.counters["delivered"] == 2)
        assert [one["event"] for one in there.got] == ["one"] * 4 + ["two", "three"]
        assert len({one["id"] for one in there.got[:4]}) == 1
        counted = {name: made.counters[name] for name in ("retried", "refused", "expired")}
        assert counted == {"retried": 3, "refused": 1, "expired": 0}


@looped
async def test_a_receiver_that_is_away_costs_a_bounded_queue(
    secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = (secret, "hooks.url=http://127.0.0.1:1/", "hooks.queue=2", "hooks.deadline=0s")
    async with hooks(config(*options)) as made:
        for number in range(5):  # nothing is delivered before we wait
            made.tell("event", number=number)
        assert made.counters["dropped"] == 3
        await eventually(lambda: made.counters["expired"] == 2)
        assert made.counters["told"] == 5
    assert SECRET not in caplog.text
    assert "hooks.url takes no event" in caplog.text


@looped
async def test_who_may_not_publish_is_told_why(secret: str, tmp_path: Path) -> None:
    async with receiver() as there:
        settings = (f"data.dir={tmp_path}", secret, f"hooks.authorise={there.url}")
        async with serving(*settings) as (origin, http):
            key = origin._catalog.create_key("cam")
            ask = {"key": key, "addr": "192.0.2.1"}
            assert (await post(http, "/api/publish", ask)).status == 200
            there.answers = [(402, "pay first\nand more")]
            answer = await post(http, "/api/publish", ask)
            assert (answer.status, await answer.text()) == (403, "pay first\n")
            (first, second) = there.got
            (row,) = origin._catalog.all_keys()
            assert (first["stream"], first["key"]) == ("cam", row.id)
            assert second["publisher"] == "192.0.2.1"
            assert key not in json.dumps(there.got)
            answer = await post(http, "/api/publish", {**ask, "key": key + "0"})
            assert answer.status == 403
            assert len(there.got) == 2  # a wrong key is nobody's business


@pytest.mark.parametrize(("setting", "forbidden"), [("refuse", True), ("allow", False)])
@looped
async def test_no_answer_is_what_the_settings_say(
    secret: str, setting: str, forbidden: bool
) -> None:
    options = (secret, f"hooks.unanswered={setting}", "hooks.authorise_timeout=100ms")
    async with receiver() as there, hooks(config(*options, f"hooks.authorise={there.url}")) as made:
        for answer in ((503, ""), (302, ""), (0, "")):
            there.answers = [answer]
            assert bool(await made.forbids(CAM, "")) is forbidden
    async with hooks(config(*options, "hooks.authorise=http://127.0.0.1:1/")) as made:
        assert bool(await made.forbids(CAM, "")) is forbidden
        assert made.counters["unanswered"] == 1


def test_a_url_needs_a_secret() -> None:
    with pytest.raises(Exception, match=r"hooks\.secret_file: found none"):
        config("hooks.url=http://127.0.0.1:1/")
    with pytest.raises(Exception, match="without a user"):
        config("hooks.url=http://me:word@127.0.0.1:1/")
