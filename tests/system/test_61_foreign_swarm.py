"""A hundred low-latency viewers on a POP that nobody pushes to, in front of a real LL-HLS origin:
every byte right, and the origin is asked once for each thing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.demo import demo
from bench.swarm.build import build
from tests.running import Edge
from tests.sockets import free_port

ROOT = Path(__file__).resolve().parents[2]
VIEWERS, SECONDS = 100, 10

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What `edgecache demo --json` says, while it runs: its origin is the one in question."""
    build()
    port = free_port()
    home = tmp_path_factory.mktemp("demo")
    with demo({"LIVE__PARTS": "6"}, ("--origin", str(port)), home=home) as said:
        yield {**said, "origin": f"http://127.0.0.1:{port}"}


def test_a_hundred_viewers_are_one(site: dict[str, Any], measured: Callable[..., None]) -> None:
    with Edge((f"origin.urls={site['origin']}", "push.listen=", "http.workers=2")) as edge:
        url = f"http://{edge.http}/{site['playlists'][0].split('/', 3)[3]}"
        command = [sys.executable, "-m", "bench.swarm", url, "--json", "--ramp", "2"]
        command += ["--viewers", str(VIEWERS), "--seconds", str(SECONDS)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)
        run: dict[str, Any] = json.loads(ran.stdout)
        found = edge.metrics()
        assert edge.stop() == 0
    asked = found[f'edge_upstream_requests_total{{origin="{site["origin"]}"}}']
    waited = found["edge_misses_total"] + found["edge_collapsed_total"]
    answered = run["tallies"]["answered"]
    measured(answered=answered, origin_requests=asked, waited=waited, ms=run["ms"]["blocked"])
    assert run["errors"] == {}, run["error_samples"]
    assert (run["stalls"], run["playing"], run["digests"]["wrong"]) == (0, VIEWERS, 0)
    # two tracks, three parts a second: a version, its delta update and a part each
    assert asked <= 2 * 3 * 3 * (SECONDS + 2 + 4) * 1.1
    assert waited <= 0.02 * answered
