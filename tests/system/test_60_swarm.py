"""Two hundred viewers on the demo's second POP: every byte right, nobody waits.

The demo is the real thing: ffmpeg, origin, push, edge. What the viewers saw is held against what
the POP counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.demo import demo
from bench.model.check import check
from bench.swarm.build import build
from origin.ffmpeg import find
from tests.browser.live import origin_answers

ROOT = Path(__file__).resolve().parents[2]
VIEWERS = 200
SECONDS = 10

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What `edgecache demo --json` says, while it runs."""
    build()
    with demo({}, home=tmp_path_factory.mktemp("demo")) as said:
        yield said


def swarm(url: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.swarm", url, "--json", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert run.returncode in (0, 1), run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    assert run.returncode == (0 if found["sound"] else 1)
    return found


def sound(run: dict[str, Any], viewers: int) -> bool:
    """No error, no stall, every byte of every viewer compared or checked by its digest."""
    t = run["tallies"]
    assert run["errors"] == {}, run["error_samples"]
    assert run["stalls"] == 0
    assert run["playing"] == run["started"] == viewers
    assert t["asked"] == t["answered"] + t["dropped"]
    assert t["bytes_media"] == t["bytes_compared"] + t["bytes_first"]
    assert run["digests"]["wrong"] == run["digests"]["without"] == 0
    assert run["digests"]["right"] == t["copies"] + t["versions"]
    return bool(run["sound"])


def counters(url: str) -> dict[str, float]:
    """Metric (without labels) -> sum of its values."""
    found: dict[str, float] = {}
    with urllib.request.urlopen(url, timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
    return found


def test_low_latency_viewers_of_the_demo(facts: dict[str, Any]) -> None:
    run = swarm(
        facts["playlists"][1], "--viewers", str(VIEWERS), "--seconds", str(SECONDS), "--ramp", "2"
    )
    assert sound(run, VIEWERS)
    # video and audio, a playlist and a part every quarter of a second
    assert run["requests_s_viewer"] == pytest.approx(16, rel=0.05)
    assert run["ms"]["blocked"]["p50"] < 400
    assert run["ms"]["startup"]["p100"] < 1500


def test_all_kinds_at_once_cost_the_origin_nothing(
    facts: dict[str, Any], measured: Callable[..., None]
) -> None:
    """Low-latency HLS, classic HLS of both renditions and DASH: what is pushed serves all."""
    pop, classic = facts["playlists"], ("--mode", "classic", "--rendition", "spread")
    before = origin_answers(facts["admin"]["origin"])
    mpd = pop[1].replace("master.m3u8", "manifest.mpd")
    dash = f"-v error -nostdin -i {mpd} -t 6 -map 0 -c copy -f null -"
    with (
        subprocess.Popen([str(find().path), *dash.split()]) as reader,
        ThreadPoolExecutor() as pool,
    ):
        crowds = [
            pool.submit(swarm, pop[1], "--viewers", "80", "--seconds", "6", *how)
            for how in ((), classic)
        ]
        assert all(sound(crowd.result(), 80) for crowd in crowds)
        assert reader.wait(30) == 0
    after = origin_answers(facts["admin"]["origin"])
    measured(requests=sum(c.result()["tallies"]["asked"] for c in crowds), at_the_origin=after)
    assert after == before


def test_the_pop_served_what_the_viewers_counted(facts: dict[str, Any]) -> None:
    pop = facts["metrics"][1]
    before = counters(pop)
    pid = str(facts["pids"]["pop-b"])
    run = swarm(facts["playlists"][1], "--viewers", "50", "--seconds", "4", "--pid", pid)
    after = counters(pop)
    assert sound(run, 50)
    served = after["edge_requests_total"] - before["edge_requests_total"]
    assert run["tallies"]["answered"] <= served <= run["tallies"]["asked"] + 1  # the first look
    assert 0 < run["server"]["us_request"] < 1000
    assert run["server"]["viewers_core"] > 50
    missed = after["edge_misses_total"] - before["edge_misses_total"]
    assert missed == 0, "a hot stream is pushed: no viewer may wait for the origin"


def test_classic_viewers_of_both_renditions(facts: dict[str, Any]) -> None:
    url = facts["playlists"][0]
    options = ("--mode", "classic", "--rendition", "spread", "--seconds", "7")
    run = swarm(url, "--viewers", "40", *options)
    assert sound(run, 40)
    assert run["tallies"]["asked_part"] == 0
    assert run["tallies"]["asked_segment"] > 40 * 2 * 3


def test_the_model_predicts_what_the_swarm_sees(facts: dict[str, Any]) -> None:
    """bench.model, told the costs of a crowd a quarter the size. Allowed: rates 5 %, bytes and
    joining 15 to 25 %, CPU a factor of 2, lag a factor of 3 and 10 ms, for this machine's cores are
    shared by the swarm, the POPs, the encoder and whatever else runs."""
    url = facts["playlists"][1]
    found = check(url, pid=facts["pids"]["pop-b"], viewers=160, seconds=4.0)
    assert len(found) == 7
    assert [f"{c.what}: {c.predicted:.2f}, {c.measured:.2f}" for c in found if not c.holds] == []
