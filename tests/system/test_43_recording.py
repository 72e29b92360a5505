"""A broadcast is in the permanent store when it ends, and the same addresses show it whole: from
a folder and from an S3 server, through a POP, after a restart, without any local file."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import m3u8
import pytest

from origin.archive.keeper import Keeper
from origin.model import digest_of
from origin.names import epoch_of
from origin.presentation import Presentation
from origin.server import Origin
from origin.subscriptions import HotPop
from tests.encoded import SECONDS, encode
from tests.hand_made import HandMade
from tests.looped import eventually, looped
from tests.running import Edge
from tests.s3_server import S3, s3_server
from tests.serving_origin import operators, run, serving
from tests.system.test_37_dvr import PLAN, UNIX_S, frames

pytestmark = pytest.mark.timeout(90)

NAMES: Final = ("master.m3u8", "180p.m3u8", "180p.iframes.m3u8", "audio.m3u8", "manifest.mpd")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as found:
        yield found


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, s3: S3, tmp_path: Path) -> list[str]:
    chosen = [f"data.dir={tmp_path}/data", "live.window=6s"]
    if request.param == "s3":
        (tmp_path / "secret").write_text("not-a-secret\n")
        chosen += s3.options(tmp_path.name, tmp_path / "secret")
    return chosen


async def broadcast(
    origin: Origin, *, ended: bool = True, ready: Callable[[], object] = lambda: True
) -> None:
    """10 seconds of pictures and sound, of which the live window holds 6. It goes on when somebody
    is `ready` for it."""
    made = Presentation("cam", epoch=epoch_of(UNIX_S), renditions=PLAN, window_s=6.0)
    start = made.begin_generation(wall_ns=UNIX_S * 10**9)
    ffmpeg = shutil.which("ffmpeg") or "ffmpeg"
    for track, data in await asyncio.to_thread(encode, ffmpeg, start.offset_s):
        for item in made.feed(track, data, 0):
            origin.publish("cam", item)
            await eventually(ready)
    for item in [*made.end_generation(), *(made.end() if ended else ())]:
        origin.publish("cam", item)


def keeper_of(origin: Origin) -> Keeper:
    assert origin._keeper is not None
    return origin._keeper


@asynccontextmanager
async def recorded(settings: list[str]) -> AsyncIterator[tuple[Origin, aiohttp.ClientSession]]:
    """An origin that has nothing of the broadcast but its recording."""
    async with serving(*settings) as (origin, http):
        keeper = keeper_of(origin)
        keeper._linger_s = 0.0
        await broadcast(origin)
        await eventually(lambda: keeper.shows("cam") and origin.store.window("cam") is None)
        yield origin, http


async def text(http: aiohttp.ClientSession, name: str) -> str:
    async with http.get(f"/live/cam/{name}", headers={"Accept-Encoding": ""}) as answer:
        assert answer.status == 200, name
        return await answer.text()


@looped
async def test_the_recording_is_whole_and_at_the_same_addresses(
    settings: list[str], tmp_path: Path
) -> None:
    async with recorded(settings) as (origin, http):
        assert origin.store.state("cam") == "ended"
        before = {name: await text(http, name) for name in NAMES}
        media = m3u8.loads(before["180p.m3u8"])
        assert (media.playlist_type, media.is_endlist, len(media.segments)) == ("vod", True, 6)
        for segment in media.segments:
            async with http.get(f"/live/cam/{segment.uri}") as answer:
                body = await answer.read()
                assert answer.headers["ETag"] == f'"{digest_of(body)}"'
                assert answer.content_type == "video/mp4"
            ranged = {"Range": "bytes=10-19"}
            async with http.get(f"/live/cam/{segment.uri}", headers=ranged) as answer:
                assert (answer.status, await answer.read()) == (206, body[10:20])
        base = f"http://127.0.0.1:{origin.port}/live/cam"
        for name in ("master.m3u8", "manifest.mpd"):
            assert await asyncio.to_thread(frames, f"{base}/{name}") == round(SECONDS * 30)
        async with operators(origin) as door, door.get("/metrics") as answer:
            assert "origin_archive_spool_objects 0.0" in await answer.text()
    shutil.rmtree(tmp_path / "data/window")
    async with serving(*settings) as (origin, http):
        assert origin.store.state("cam") == "ended"
        assert {name: await text(http, name) for name in NAMES} == before


@looped
async def test_a_pop_shows_the_recording_instead_of_the_live_window(tmp_path: Path) -> None:
    """A POP that was pushed to holds the window's last playlists, and is told to forget them."""
    async with serving(f"data.dir={tmp_path}", "live.window=6s") as (origin, _):
        keeper = keeper_of(origin)
        keeper._linger_s = 0.0
        with Edge((f"origin.urls=http://127.0.0.1:{origin.port}",)) as pop:
            origin._subscriptions.configure({"pop": HotPop(f"http://{pop.push}", frozenset("*"))})
            (pusher,) = origin._subscriptions.pushers()
            await broadcast(origin, ready=lambda: pusher.connected == 4)
            await eventually(lambda: origin.store.window("cam") is None)
            await eventually(lambda: not pusher.gauges()["pending"])
            assert pusher.counters["acknowledged"] > 50
            url = f"http://{pop.http}/live/cam"
            for name in ("master.m3u8", "manifest.mpd"):
                assert await asyncio.to_thread(frames, f"{url}/{name}") == round(SECONDS * 30)


@looped
async def test_a_store_that_is_away_leaves_the_live_window_until_it_is_back(
    s3: S3, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("not-a-secret")
    store = s3.options(tmp_path.name, tmp_path / "secret")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = f"archive.endpoint=http://127.0.0.1:{closed.getsockname()[1]}"
        async with serving(f"data.dir={tmp_path}", *store, away) as (origin, http):
            keeper = keeper_of(origin)
            await broadcast(origin)
            await eventually(lambda: keeper.events().get("spool_failed"))
            assert not keeper.shows("cam")
            assert "#EXT-X-ENDLIST" in await text(http, "180p.m3u8")
    async with serving(f"data.dir={tmp_path}", *store) as (origin, http):
        keeper = keeper_of(origin)
        keeper._linger_s = 0.0
        await eventually(lambda: keeper.shows("cam") and origin.store.window("cam") is None)
        await eventually(lambda: not any(keeper.gauges().values()))
        url = f"http://127.0.0.1:{origin.port}/live/cam/master.m3u8"
        assert await asyncio.to_thread(frames, url) == round(SECONDS * 30)


@looped
async def test_a_broadcast_that_was_cut_is_shown_when_nobody_comes_back(tmp_path: Path) -> None:
    """Shown at once, its end would be taken for the end of a broadcast that goes on."""
    settings = (f"data.dir={tmp_path}", "live.window=6s", "live.reconnect=1s")
    async with serving(*settings) as (origin, _):
        await broadcast(origin, ended=False)
    async with serving(*settings) as (origin, http):
        keeper = keeper_of(origin)
        await eventually(lambda: keeper.events().get("spool_stored"))
        assert not keeper.shows("cam")
        await eventually(lambda: keeper.shows("cam"))
        assert m3u8.loads(await text(http, "180p.m3u8")).is_endlist
        url = f"http://127.0.0.1:{origin.port}/live/cam/master.m3u8"
        assert await asyncio.to_thread(frames, url) == round(SECONDS * 30)


@looped
async def test_it_has_pictures_for_the_seek_bar(settings: list[str]) -> None:
    async with recorded(settings) as (origin, http):
        keeper = keeper_of(origin)
        await eventually(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 1)
        cues = (await text(http, "storyboard.vtt")).split("\n\n")
        assert cues[0] == "WEBVTT"
        times, place = cues[2].splitlines()
        assert times == "00:00:02.000 --> 00:00:04.000"
        sheet, _, at = place.partition("#xywh=")
        assert at == "160,0,160,90"
        assert len(cues) - 1 == 6
        async with http.get(f"/live/cam/{sheet}") as answer:
            assert answer.content_type == "image/jpeg"
            assert size_of(await answer.read()) == (800, 450)


def size_of(jpeg: bytes) -> tuple[int, int]:
    command = ["ffprobe", "-v", "error", "-f", "mjpeg", "-show_entries", "stream=width,height"]
    done = subprocess.run(
        [*command, "-of", "csv=p=0", "-"], input=jpeg, capture_output=True, timeout=30, check=True
    )
    width, height = done.stdout.split(b",")
    return int(width), int(height)


@looped
async def test_it_can_be_downloaded_and_taken_up_again(settings: list[str]) -> None:
    async with recorded(settings) as (_, http):
        async with http.get("/download/cam.mp4") as answer:
            assert answer.status == 200
            whole = await answer.read()
            assert int(answer.headers["Content-Length"]) == len(whole)
            assert answer.headers["Content-Disposition"] == 'attachment; filename="cam.mp4"'
            etag = answer.headers["ETag"]
        again = {"Range": "bytes=70000-", "If-Range": etag}
        async with http.get("/download/cam.mp4", headers=again) as answer:
            assert (answer.status, await answer.read()) == (206, whole[70_000:])
        for name, status in (("cam.mp4?track=none", 404), ("other.mp4", 404), ("cam.mkv", 404)):
            async with http.get(f"/download/{name}") as answer:
                assert answer.status == status
        beyond = {"Range": f"bytes={len(whole)}-"}
        async with http.get("/download/cam.mp4", headers=beyond) as answer:
            assert answer.status == 416


@looped
async def test_it_is_encoded_again_for_keeps(tmp_path: Path) -> None:
    rung = ("width=160", "height=90", "bitrate=60kbps", "preset=ultrafast")
    settings = [f"data.dir={tmp_path}", *(f"archive.ladder.keep.{each}" for each in rung)]
    async with recorded(settings) as (origin, http):
        keeper = keeper_of(origin)
        await eventually(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 2)
        variants = m3u8.loads(await text(http, "master.m3u8")).playlists
        assert [each.uri for each in variants] == ["180p.m3u8", "90p.m3u8", "keep.m3u8"]
        url = f"http://127.0.0.1:{origin.port}/live/cam/keep.m3u8"
        assert await asyncio.to_thread(frames, url) == round(SECONDS * 30)


@looped
async def test_what_is_deleted_is_gone_everywhere(settings: list[str]) -> None:
    async with recorded(settings) as (origin, http), operators(origin) as door:
        keeper = keeper_of(origin)
        await eventually(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 1)
        with Edge((f"origin.urls=http://127.0.0.1:{origin.port}",)) as pop:
            origin._subscriptions.configure({"pop": HotPop(f"http://{pop.push}", frozenset("*"))})
            origin.publish("other", HandMade("other").multivariant())  # so that it is pushed to
            (pusher,) = origin._subscriptions.pushers()
            await eventually(lambda: pusher.connected == 4)
            media = m3u8.loads(await text(http, "180p.m3u8"))
            segment = f"/live/cam/{media.segments[0].uri}"
            for path in (segment, "/live/cam/180p.m3u8", "/live/cam/storyboard.vtt"):
                assert (await asyncio.to_thread(pop.get, path)).status == 200
            async with door.get("/api/recordings") as answer:
                (row,) = await answer.json()
            async with door.delete(f"/api/recordings/cam/{row['epoch']}") as answer:
                assert (await answer.json())["objects"] >= 3 * 7 + 2
            await eventually(lambda: not pusher.gauges()["pending"])
            for path in (segment, "/live/cam/180p.m3u8", "/live/cam/storyboard.vtt"):
                assert (await asyncio.to_thread(pop.get, path)).status == 404
                async with http.get(path) as answer:
                    assert answer.status == 404
        assert await asyncio.to_thread(lambda: list(keeper.objects.list("cam"))) == []
        async with door.delete(f"/api/recordings/cam/{row['epoch']}") as answer:
            assert answer.status == 404
        assert origin.store.state("cam") == "unknown"


@looped
async def test_the_command_line_lists_encodes_and_deletes(tmp_path: Path) -> None:
    rung = 'archive.ladder.keep = { width = 160, height = 90, bitrate = "60kbps" }\n'
    async with recorded([f"data.dir={tmp_path}"]) as (origin, http):
        keeper = keeper_of(origin)
        await eventually(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 1)
        admin = f'admin.listen = "127.0.0.1:{origin.admin_port}"\n'
        (tmp_path / "o.toml").write_text(f'data.dir = "{tmp_path}"\n{admin}{rung}')

        async def command(*words: str) -> str:
            done = await asyncio.to_thread(run, *words, "-c", str(tmp_path / "o.toml"))
            assert done.returncode == 0, done.stderr
            return done.stdout

        (row,) = json.loads(await command("vod", "list", "--json"))
        assert (row["stream"], row["lost"], row["duration_ms"] // 100) == ("cam", 0, 105)
        assert "10 s" in await command("vod", "list")
        made = json.loads(await command("archive", "encode", "cam", "--workers", "2", "--json"))
        assert (made["revision"], "keep" in made["tracks"]) == (2, True)
        assert "keep.m3u8" in await text(http, "master.m3u8")
        assert "objects deleted" in await command("vod", "delete", "cam", row["epoch"])
        assert not keeper.shows("cam")
        assert json.loads(await command("vod", "list", "--json")) == []


@looped
async def test_each_recording_keeps_an_address_of_its_own(settings: list[str]) -> None:
    """Through a POP, whatever is broadcast next; what is deleted is gone from there, too."""
    async with recorded(settings) as (origin, http), operators(origin) as door:
        keeper = keeper_of(origin)
        await eventually(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 1)
        (row,) = keeper.rows()
        own = f"/vod/cam/{row['epoch']}"
        before = {name: await text(http, name) for name in (*NAMES, "storyboard.vtt")}
        made = HandMade()
        for item in made.opening("v"):
            origin.publish("cam", item)
        with Edge((f"origin.urls=http://127.0.0.1:{origin.port}",)) as pop:
            for name, body in before.items():
                got = await asyncio.to_thread(pop.get, f"{own}/{name}")
                assert (got.status, got.body.decode()) == (200, body), name
            base = f"http://{pop.http}{own}"
            for name in ("master.m3u8", "manifest.mpd"):
                assert await asyncio.to_thread(frames, f"{base}/{name}") == round(SECONDS * 30)
            async with http.get(f"/download/cam/{row['epoch']}.mp4") as answer:
                assert (answer.status, answer.content_type) == (200, "video/mp4")
                assert len(await answer.read()) == int(answer.headers["Content-Length"])
            origin._subscriptions.configure({"pop": HotPop(f"http://{pop.push}", frozenset("*"))})
            pusher = next(each for each in origin._subscriptions.pushers() if each.name == "pop")
            await eventually(lambda: pusher.connected == 4 and not pusher.gauges()["pending"])
            async with door.delete(f"/api/recordings/cam/{row['epoch']}") as answer:
                assert answer.status == 200
            await eventually(lambda: not pusher.gauges()["pending"])
            segment = m3u8.loads(before["180p.m3u8"]).segments[0].uri
            for path in (
                f"{own}/{segment}",
                f"{own}/180p.m3u8",
                f"/download/cam/{row['epoch']}.mp4",
            ):
                async with http.get(path) as answer:
                    assert answer.status == 404, path
            assert (await asyncio.to_thread(pop.get, f"{own}/{segment}")).status == 404
            async with http.get("/live/cam/v.m3u8") as answer:
                assert answer.status == 200  # the next broadcast


@looped
async def test_the_command_line_verifies_shows_and_names(tmp_path: Path) -> None:
    async with recorded([f"data.dir={tmp_path}"]) as (origin, http):
        keeper = keeper_of(origin)
        await eventually(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 1)
        (tmp_path / "o.toml").write_text(f'data.dir = "{tmp_path}"\n')

        async def command(*words: str) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(run, *words, "-c", str(tmp_path / "o.toml"))

        (whole,) = json.loads((await command("archive", "verify", "--json")).stdout)
        assert (whole["faults"], whole["objects"]) == ([], 3 * 7 + 1)
        shown = json.loads((await command("vod", "show", "cam", "--json")).stdout)
        assert {each["track"]: each["segments"] for each in shown["tracks"]} == {
            "180p": 6,
            "90p": 6,
            "audio": 6,
        }
        urls = (await command("vod", "url", "cam")).stdout.split()
        for url in urls:
            async with http.get(url) as answer:
                assert answer.status == 200, url
        stored = sorted((tmp_path / "archive/cam").glob("*/180p/*.m4s"))
        stored[0].unlink()
        stored[1].write_bytes(bytes(len(stored[1].read_bytes())))
        broken = await command("archive", "verify", "cam")
        assert broken.returncode == 1
        keys = [str(path.relative_to(tmp_path / "archive")) for path in stored[:2]]
        assert broken.stderr.splitlines() == [
            f"error: {keys[0]}: missing",
            f"error: {keys[1]}: damaged",
        ]
        for words in (("vod", "show", "nobody"), ("archive", "verify", "nobody")):
            missing = await command(*words)
            assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)


@looped
async def test_a_pop_that_was_away_learns_what_was_deleted(tmp_path: Path) -> None:
    async with recorded([f"data.dir={tmp_path}"]) as (origin, _):
        keeper = keeper_of(origin)
        await eventually(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 1)
        with Edge((f"origin.urls=http://127.0.0.1:{origin.port}",)) as pop:
            own = f"/vod/cam/{keeper.rows()[0]['epoch']}"
            playlist = await asyncio.to_thread(pop.get, f"{own}/180p.m3u8")
            media = m3u8.loads(playlist.body.decode())
            paths = [f"{own}/{media.segments[0].uri}", f"/live/cam/{media.segments[0].uri}"]
            for path in paths:
                assert (await asyncio.to_thread(pop.get, path)).status == 200
            await keeper.delete("cam", own.rpartition("/")[2])
            for path in paths:
                assert (await asyncio.to_thread(pop.get, path)).status == 200  # nobody told it
            origin._subscriptions.configure({"pop": HotPop(f"http://{pop.push}", frozenset("*"))})
            origin.publish("other", HandMade("other").multivariant())  # so that it is pushed to
            pusher = next(each for each in origin._subscriptions.pushers() if each.name == "pop")
            await eventually(lambda: pusher.connected == 4 and not pusher.gauges()["pending"])
            for path in paths:
                assert (await asyncio.to_thread(pop.get, path)).status == 404
