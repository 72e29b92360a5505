"""In front of a directory that nginx serves, written by ffmpeg or by nginx's own packager: classic
HLS and DASH, watched by players that fetch what is new at once."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecache.control import mpd
from tests.live_directory import DASH, HLS, RTMP, Nginx, writing
from tests.running import Edge

pytestmark = pytest.mark.timeout(120)

WATCHED_S = 8.0
PLAYERS = 12
DELAY = 2  # segments that players of a constant duration stay behind the clock
Read = Callable[[bytes], list[str]]


def hls_media(body: bytes) -> list[str]:
    return [f"/hls/{line}" for line in body.decode().split() if line.endswith(".ts")]


def dash_media(body: bytes) -> list[str]:
    found = mpd.read(body, "/dash/v.mpd")
    assert found is not None
    named = [
        track.url(*item)
        for track in found.representations
        for item in (track.listed or ((track.newest(time.time()) - DELAY, 0),))
    ]
    assert named
    return named


def watch(edge: Edge, text: str, read: Read, poll_s: float) -> list[str]:
    """Cache-Status of each media request of all players; what a player's first text names, which
    may be the POP's first as well, is not counted."""
    until = time.monotonic() + WATCHED_S
    start = threading.Barrier(PLAYERS)

    def player(number: int) -> list[str]:
        found: list[str] = []
        known: set[str] = set()
        start.wait(10)
        time.sleep(poll_s * number / PLAYERS)
        while time.monotonic() < until:
            names = read(edge.get(text).body)
            for name in [name for name in names if name not in known][-3:]:
                answer = edge.get(name)
                assert answer.status == 200, name
                if known:
                    found.append(answer.fields["cache-status"])
            known |= set(names)
            time.sleep(poll_s)
        return found

    with ThreadPoolExecutor(PLAYERS) as pool:
        return [status for found in pool.map(player, range(PLAYERS)) for status in found]


@dataclass(frozen=True)
class Kind:
    """What is watched, who writes it, and what a player reads in it."""

    text: str
    muxer: str
    read: Read


KINDS = {
    "hls": Kind("/hls/v.m3u8", HLS, hls_media),
    "dash-timeline": Kind("/dash/v.mpd", DASH + " -use_timeline 1", dash_media),
    "dash-duration": Kind(
        "/dash/v.mpd", DASH + " -use_timeline 0 -utc_timing_url http://127.0.0.1/", dash_media
    ),
    "rtmp-hls": Kind("/hls/v.m3u8", RTMP, hls_media),
    "rtmp-dash": Kind("/dash/v.mpd", RTMP, dash_media),
}


@dataclass(frozen=True)
class Watched:
    statuses: list[str]  # Cache-Status of each media request
    asked: Counter[str]  # what the origin answered with 200, by target


@contextmanager
def nginx_in(home: Path) -> Iterator[tuple[Nginx, Path]]:
    """It serves the directory."""
    directory, scratch = home / "www", home / "nginx"
    directory.mkdir(parents=True)
    scratch.mkdir()
    server = Nginx(directory, scratch, gzip=True)
    with server.running():
        yield server, directory


@contextmanager
def in_front(home: Path) -> Iterator[tuple[Edge, Nginx, Path]]:
    """A POP of its own."""
    with (
        nginx_in(home) as (nginx, directory),
        Edge((f"origin.urls={nginx.url}", "http.workers=2")) as edge,
    ):
        yield edge, nginx, directory


def play(kind: Kind, edge: Edge, nginx: Nginx, directory: Path) -> Watched:
    path = directory / kind.text.removeprefix("/")
    with writing(path, kind.muxer, nginx.rtmp if kind.muxer == RTMP else ""):
        time.sleep(3)  # a few segments, as in a stream that runs
        statuses = watch(edge, kind.text, kind.read, 0.5)
        asked = Counter(target for target, status in nginx.asked() if status == 200)
        assert edge.stop() == 0
    return Watched(statuses, asked)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    """All kinds at the same time: most of it is waiting for segments."""
    home = tmp_path_factory.mktemp("kinds")
    with ExitStack() as stack, ThreadPoolExecutor(len(KINDS)) as pool:
        served = {name: stack.enter_context(in_front(home / name)) for name in KINDS}
        plays = {name: pool.submit(play, kind, *served[name]) for name, kind in KINDS.items()}
        return {name: each.result() for name, each in plays.items()}


@pytest.mark.parametrize("name", KINDS)
def test_players_do_not_wait_for_the_origin(
    watched: dict[str, Watched], name: str, measured: Callable[..., None]
) -> None:
    statuses, asked, text = watched[name].statuses, watched[name].asked, KINDS[name].text
    media = {target: n for target, n in asked.items() if target != text}
    waited = sum("fwd=" in status for status in statuses)
    measured(media_requests=len(statuses), waited=waited, origin_media=len(media))
    assert len(statuses) >= PLAYERS * (WATCHED_S - 3)
    assert waited <= len(statuses) * 0.02
    assert set(media.values()) == {1}
    assert asked[text] <= 2 * WATCHED_S + 4


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Nginx, Path]]:
    with nginx_in(tmp_path) as found:
        yield found


def test_vod_is_filled_on_demand(served: tuple[Nginx, Path]) -> None:
    nginx, directory = served
    media = directory / "vod"
    media.mkdir()
    (media / "all.mp4").write_bytes(bytes(range(256)) * 40)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2"]
    for number in range(4):
        lines += ["#EXTINF:2,", f"#EXT-X-BYTERANGE:2560@{number * 2560}", "all.mp4"]
    (media / "v.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    with Edge((f"origin.urls={nginx.url}", 'route=[{prefix="/vod/", kind="vod"}]')) as edge:
        spans = re.findall(r"BYTERANGE:(\d+)@(\d+)", edge.get("/vod/v.m3u8").body.decode())
        for length, offset in [(int(a), int(b)) for a, b in spans]:
            span = {"Range": f"bytes={offset}-{offset + length - 1}"}
            answer = edge.get("/vod/all.mp4", span)
            assert (answer.status, answer.body) == (206, bytes(range(256)) * 10)
        assert edge.get("/vod/none.mp4").status == 404
        assert edge.get("/vod/none.mp4").status == 404
        assert edge.stop() == 0
    assert Counter(nginx.asked()) == {
        ("/vod/v.m3u8", 200): 1, ("/vod/all.mp4", 200): 1, ("/vod/none.mp4", 404): 1,
    }  # fmt: skip
