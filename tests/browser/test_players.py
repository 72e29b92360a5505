"""All players at POP B for the same two minutes, published at POP A: the page's own, shaka-player,
and classic clients.

Not one stall once a player has settled, and nothing asked of the origin meanwhile, by any of them.
With hls.js, whose frames tell when they are shown, glass to glass as well: what the test pattern
burnt in, published, encoded, packaged, pushed and played. Together with the broadcast they take
less than 60 % of two cores.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.browser import glass
from tests.browser.chromium import HERE, Browser
from tests.browser.classic import Client, assert_continuous, watching
from tests.browser.conftest import Demo, picture
from tests.browser.live import origin_answers, until_listed
from tests.browser.visit import PLAY_S, Played, play, settle

FPS: Final = 30
CATCH_UP_S: Final = 10.0  # a player that starts behind catches up at 1.08 times the speed
P95_MS: Final = 1200  # 0.9 s where nothing else runs; an early stall costs a part for good
PLAYERS: Final = ("shaka", "dash", "hls")
SHAKA: Final = HERE / "node_modules/shaka-player/dist/shaka-player.dash.js"

pytestmark = pytest.mark.timeout(200)


@dataclass(frozen=True)
class Watched:
    players: dict[str, Played]
    clients: dict[str, Client]
    origin_before: dict[str, float]  # what the origin had answered, when all had settled
    origin_after: dict[str, float]


def open_shaka(browser: Browser, door: str) -> None:
    """A second reader of the MPD, on a bare page of ours under the POP's address."""
    files: dict[str, tuple[Path, str]] = {
        "/harness?stream=demo": (HERE / "shaka.html", "text/html"),
        "/harness/harness.js": (HERE / "shaka-harness.js", "text/javascript"),
        "/harness/shaka.js": (SHAKA, "text/javascript"),
    }
    for path, (file, kind) in files.items():
        browser.ask("serve", url=door + path, path=str(file), type=kind)
    browser.open(f"{door}/harness?stream=demo")


def opened(browser: Browser, door: str, player: str) -> None:
    """Until it has settled."""
    if player == "shaka":
        open_shaka(browser, door)
    else:
        browser.open(f"{door}/watch/demo?player={player}")
    settle(browser)
    if player == "hls":
        glass.watch(browser)


@pytest.fixture(scope="module")
def watched(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("GStreamer is not installed: run scripts/setup test")
    until_listed(demo.b, "demo", 6)  # clients begin some segments back, and give up without them
    with ExitStack() as stack, ThreadPoolExecutor(len(PLAYERS)) as pool:
        clients = stack.enter_context(watching(demo.b, tmp_path_factory.mktemp("clients")))
        browsers = []
        for player in PLAYERS:  # one after the other: a start takes all that the machine has
            browsers.append(stack.enter_context(Browser(tmp_path_factory.mktemp(player))))
            opened(browsers[-1], demo.b, player)
        before = origin_answers(demo.operators)
        played = dict(zip(PLAYERS, pool.map(play, browsers), strict=True))
        yield Watched(played, clients, before, origin_answers(demo.operators))


def assert_all_from(browser: Browser, door: str, pop: str) -> int:
    """Every answer of the visit came from that door and that POP; returns how many of media."""
    answers = browser.seen()["answers"]
    hosts = {urlsplit(url).netloc for url, _status, _pop in answers if not url.startswith("blob:")}
    assert hosts == {urlsplit(door).netloc}
    media = [each for each in answers if "/live/" in each[0]]
    assert {(status, name) for _url, status, name in media} == {(200, pop)}
    return len(media)


def assert_glass_to_glass(seen: glass.Glass, measured: Callable[..., None]) -> None:
    hops = seen.hops()
    measured(
        glass_to_glass=seen,
        frames=len(seen.frames),
        unread=seen.unread,
        **{hop: f"p50 {p50:.1f} ms, p95 {p95:.1f} ms" for hop, (p50, p95) in hops.items()},
    )
    assert len(seen.frames) > 0.8 * FPS * (PLAY_S - CATCH_UP_S)
    assert seen.unread < len(seen.frames) / 100
    assert hops.keys() == {"capture", "encode", "package", "push", "fetch"}
    assert seen.latency[1] <= P95_MS


@pytest.mark.parametrize("player", ["hls", "dash"])
def test_the_page_plays_for_two_minutes(
    demo: Demo, watched: Watched, tmp_path: Path, measured: Callable[..., None], player: str
) -> None:
    played = watched.players[player]
    picture(played.browser, tmp_path, f"live-{player}")
    played.judge(measured, **({"by_playlist": "edge"} if player == "hls" else {}))
    assert played.after["player"] == player
    assert played.after["pops"].keys() == {"pop-b"}
    assert played.after["requests"]["unattributed"] == played.after["requests"]["errors"] == 0
    assert assert_all_from(played.browser, demo.b, "pop-b") > PLAY_S
    if player == "hls":
        seen = glass.read(played.browser, played.since + CATCH_UP_S)
        assert_glass_to_glass(seen, measured)


def test_shaka_player_plays_for_two_minutes(
    watched: Watched, measured: Callable[..., None]
) -> None:
    played = watched.players["shaka"]
    played.judge(measured)
    assert played.after["errors"] == []


def test_classic_clients_get_continuous_timestamps(
    watched: Watched, measured: Callable[..., None]
) -> None:
    assert_continuous(watched.clients, measured)


def test_the_origin_was_asked_nothing(watched: Watched) -> None:
    assert watched.origin_after == watched.origin_before
