"""The model's arithmetic, where the answer is known without it. tests/system/test_60_swarm.py holds
the whole of it against viewers that really play."""

from __future__ import annotations

import json
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.model.check import Compared
from bench.model.inputs import Audience, Costs, Stream, Wires, World, assumptions, costs_of
from bench.model.joining import join
from bench.model.page import chart, page
from bench.model.predict import predict
from bench.model.push import push
from bench.model.release import Core, quantile, release
from bench.model.steady import backlog_units, need, viewer
from bench.model.sweep import SWEEPS

ROOT = Path(__file__).resolve().parents[2]
SMALL = World(audience=Audience(viewers=20_000, pops=4, ramp_s=20.0))


def test_a_viewer_asks_as_often_as_the_swarm_does() -> None:
    """Sixteen a second with parts of a quarter, two of classic segments of 2 s (both measured)."""
    ll = viewer(Stream(), Audience(), Costs())
    classic = viewer(Stream(part_s=0.0), Audience(), Costs())
    assert ll.requests_s == pytest.approx(16)
    assert classic.requests_s == pytest.approx(2)
    assert viewer(Stream(audio_bps=0), Audience(), Costs()).requests_s == pytest.approx(8)
    assert ll.bytes_s == pytest.approx((3e6 + 128e3) / 8, rel=0.05)
    assert classic.cpu_s < ll.cpu_s


def test_the_backlog_is_the_mean_over_a_segment() -> None:
    edges = range(8)  # parts of the segment at hand that are listed when somebody joins
    fetched = [edge if edge >= 4 else 8 + edge for edge in edges]
    assert backlog_units(Stream()) == (sum(fetched) / 8, 4)
    assert backlog_units(Stream(part_s=0.0)) == (3, 3)


def test_cost_is_linear_between_the_measured_sizes() -> None:
    costs = Costs(hit=((1000, 4.0), (2000, 8.0), (4000, 10.0)), factor=2.0)
    asked = [10, 1000, 1500, 2000, 3000, 4000, 6000]
    assert [costs.of(size) for size in asked] == [8, 8, 12, 16, 18, 20, 24]
    assert Costs(hit=((1000, 4.0),), factor=1.0).of(9e9) == 4


def results(**cpu: float) -> dict[str, Any]:
    sizes = {"hit_playlist": 1024, "hit_part": 65536, "churn": 1024, "reload_fanout": 0}
    return {
        "facts": {"date": "2026-11-22T10:00:00", "commit": "abc"},
        "scenarios": [
            {
                "name": name,
                "cases": [
                    {
                        "params": {"objects": [{"size": sizes[name]}]},
                        "servers": {"edgecache": {"spread": {"cpu_us": {"median": value}}}},
                    }
                ],
            }
            for name, value in cpu.items()
        ],
    }


def test_costs_come_from_a_run_of_the_bench(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(
        json.dumps(results(hit_part=11.0, hit_playlist=4.0, churn=24.0, reload_fanout=5.0))
    )
    costs = costs_of(path)
    assert list(costs.hit) == [(1024, 4.0), (65536, 11.0)]
    assert (costs.wake_us, costs.connect_us) == (5.0, 20.0)
    assert "2026-11-22, commit abc" in costs.source
    path.write_text(json.dumps(results(churn=24.0)))
    with pytest.raises(BenchError, match="no hit_"):
        costs_of(path)
    with pytest.raises(BenchError, match=r"nothing\.json"):
        costs_of(tmp_path / "nothing.json")


def test_waking_is_one_after_another() -> None:
    core = Core(viewers=100, period_s=1.0, wake_us=10, park_us=5, unit_us=[20])
    run = release(core)
    assert run.playlist == pytest.approx([n * 10e-6 for n in range(1, 101)])
    # every part request comes while others are still being woken: parts follow in order
    assert run.part == pytest.approx([1e-3 + n * 20e-6 for n in range(1, 101)])
    assert run.busy == pytest.approx(100 * 35e-6, rel=1e-6)


def test_distance_is_added_to_each_and_delays_nobody_else() -> None:
    near = Core(viewers=50, period_s=1.0, wake_us=10, park_us=5, unit_us=[10, 10])
    far = Core(viewers=50, period_s=1.0, wake_us=10, park_us=5, unit_us=[10, 10], rtt_s=0.1)
    shift = [b - a for a, b in zip(release(near).playlist, release(far).playlist, strict=True)]
    assert shift == pytest.approx([0.05] * 100)
    assert release(far).part[0] == pytest.approx(0.15, abs=2e-3)
    assert len(release(far).part) == 100


def test_a_core_with_too_much_to_do_falls_behind() -> None:
    def run(viewers: int) -> tuple[float, float]:
        core = Core(viewers=viewers, period_s=0.1, wake_us=50, park_us=50, unit_us=[100])
        found = release(core, periods=6)
        return found.busy, quantile(found.part, 50)

    (calm, soon), (over, late) = run(250), run(1000)
    assert calm == pytest.approx(0.5, rel=0.01)
    assert over > 0.95
    assert late > 5 * soon


def test_a_slow_client_is_a_queue_too() -> None:
    core = Core(viewers=100, period_s=1.0, wake_us=1, park_us=1, unit_us=[1], client_us=50)
    run = release(core)
    assert run.playlist[-1] == pytest.approx(100e-6)
    assert run.part[-1] == pytest.approx(100 * 50e-6, rel=0.02)


def test_a_push_shares_the_senders_egress() -> None:
    """Ten POPs, 10 Mb a second each: half a part's bits at 100 Mb/s out take half a part."""
    stream = Stream(part_s=0.5, ladder_bps=(5e6,), audio_bps=0)
    wires = Wires(origin_bps=100e6, push_bps=1e9, rtt_s=0.02, rtt_spread=0)
    audience = Audience(pops=10)
    direct = push(World(stream=stream, audience=audience, wires=wires))
    assert direct.overrun == pytest.approx(0.5)
    assert direct.lags == pytest.approx([0.25 + 0.01] * 10)
    through = Wires(origin_bps=100e6, push_bps=1e9, rtt_s=0.02, rtt_spread=0, shields=2)
    tree = push(World(stream=stream, audience=audience, wires=through))
    assert tree.overrun == pytest.approx(0.1)
    assert tree.lags == pytest.approx([0.05 + 0.125 + 0.01] * 10)


def test_a_cold_crowd_costs_the_origin_one_request_an_object() -> None:
    cold = SMALL.with_(hot=False)
    crowd = join(cold, 5_000)
    units = [round(n) for n in backlog_units(cold.stream)]
    assert crowd.coalesced == 1 + 2 * 2 + sum(units)
    assert crowd.alone > 10 * crowd.coalesced
    assert 0 < crowd.waiting <= 5_000
    assert crowd.startup[0] > 0
    faster = join(cold.with_(ramp_s=2.0), 5_000)
    assert faster.coalesced == crowd.coalesced
    assert faster.alone > 2 * crowd.alone


def test_a_hot_stream_is_never_pulled() -> None:
    crowd = join(SMALL, 5_000)
    assert (crowd.coalesced, crowd.alone, crowd.waiting) == (0, 0, 0)
    assert quantile(crowd.startup, 50) < quantile(join(SMALL.with_(hot=False), 5_000).startup, 50)


def test_needs_add_up() -> None:
    one, ten = need(SMALL), need(SMALL.with_(viewers=200_000))
    assert ten.cores == pytest.approx(10 * one.cores)
    assert ten.requests_s == pytest.approx(200_000 * 16)
    assert one.peak_cores > one.cores
    assert need(SMALL.with_(pops=40)).hosts > one.hosts
    assert need(SMALL).bound_by == "network"
    assert need(SMALL.with_(nic_bps=1e12)).bound_by == "cores"
    assert sum(SMALL.audience.shares()) == pytest.approx(20_000)
    with pytest.raises(TypeError, match="no part"):
        SMALL.with_(nonsense=1)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_sweeps_go_the_way_they_must(sweep: Any) -> None:
    points = [p for _, _, p in sweep.run(SMALL)]
    first, last = points[0], points[-1]
    if sweep.name == "POPs":
        assert last.need.push_bps > first.need.push_bps
        assert last.pulls > first.pulls
    elif sweep.name == "Parts":
        assert last.need.cores < first.need.cores
        assert last.behind_s > first.behind_s
    else:
        assert last.need.peak_cores < first.need.peak_cores
        assert last.pulls_alone < first.pulls_alone


def test_the_page_stands_alone() -> None:
    base = (None, SMALL, predict(SMALL))
    sweeps = [(sweep, sweep.run(SMALL)) for sweep in SWEEPS]
    checks = [Compared("a", 1.0, 2.0, 3.0), Compared("b", 1.0, 9.0, 3.0, slack=1.0)]
    text = page(SMALL, sweeps, base, checks)
    assert "<script" not in text
    assert "http" not in text
    assert text.count("<svg") == 1 + 3 + 3 + 3
    for what, words in assumptions(SMALL):
        assert escape(what) in text
        assert escape(words) in text
    assert [c.holds for c in checks] == [True, False]


def test_a_chart_takes_any_numbers() -> None:
    points = SWEEPS[0].run(SMALL)
    flat = chart(SWEEPS[0], points, {"zero": lambda _: 0.0}, "t")
    steep = chart(SWEEPS[0], points, {"wide": lambda p: float(p[0]) ** 3}, "t")
    assert flat.count("<circle") == steep.count("<circle") == len(points)
    assert "nan" not in flat + steep


def test_the_command_writes_what_it_says(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.million", "--viewers", "20000", "--pops", "4"]
    run = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    assert "It rests on" in run.stdout
    facts = json.loads((tmp_path / "million.json").read_text())
    assert facts["prediction"]["need"]["requests_s"] == pytest.approx(320_000)
    assert [len(points) for points in facts["sweeps"].values()] == [7, 6, 6]
    assert (tmp_path / "million.html").stat().st_size > 10_000
    wrong = subprocess.run(
        [*command, "--results", "nowhere.json"], cwd=ROOT, capture_output=True, timeout=60
    )
    assert wrong.returncode == 2
