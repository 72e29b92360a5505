"""Every committed scenario loads, and what is wrong with one is said with file, case and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import scenario
from bench.bodies import Blob, late, parse
from bench.errors import BenchError
from bench.kinds import KINDS
from bench.netns import is_stale, run_tag
from bench.peers.peer import TEMPLATES
from bench.peers.table import peers
from bench.reliability import servers
from bench.runner import Plan
from bench.traces import trace

CASE = '[[case]]\nlabel = "a"\nrate = 1\nobjects = [{ size = 2 }]'
GOOD = """
question = "q?"
kind = "hit"
figure = "cpu_us"
shown = ["p50_ms"]
servers = ["edgecache"]
[[case]]
label = "a"
rate = 10
objects = [{ size = 1 }]
"""


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", scenario.names())
def test_committed_scenarios(name: str, quick: bool) -> None:
    table = peers(Path("floor"))
    loaded = scenario.load(name, quick=quick)
    assert loaded.question.endswith("?")
    for case in loaded.cases:
        models = {server for server in case.servers if server.startswith("policy-")}
        assert set(case.servers) - models <= table.keys()
        assert not models or loaded.kind.simulate is not None
        assert case.baseline in {"", *case.servers}
        for blob in loaded.kind.blobs(case.params):
            assert parse(blob.path) == blob


def test_every_kind_is_asked() -> None:
    kinds = [scenario.load(name, quick=False).kind for name in scenario.names()]
    assert all(any(kind is used for used in kinds) for kind in KINDS.values())


def test_what_says_nothing_new_is_asked_once() -> None:
    chosen = [scenario.load(name, quick=False) for name in ("eviction", "push_to_byte")]
    assert Plan(chosen, 3, frozenset(["edgecache"])).steps() == 3 * 1 + 2 * 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "hit"', 'kind = "hits"', "kind 'hits', allowed: hit"),
        ('"p50_ms"', '"p51_ms"', "no figure 'p51_ms'"),
        ("rate = 10", "rate = 0", "case 'a': rate: .*greater than or equal to 1"),
        ("rate = 10", "rate = 10\nspeed = 1", "case 'a': speed: Extra inputs"),
        ('question = "q?"', "question =", "x.toml: Invalid value"),
        (
            "objects = [{ size = 1 }]",
            f"objects = [{{ size = 1 }}]\n{CASE}",
            "labels must be unique",
        ),
    ],
)
def test_problems_are_named(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenario, "DIRECTORY", tmp_path)
    (tmp_path / "x.toml").write_text(GOOD)
    assert scenario.load("x", quick=False).cases[0].label == "a"
    (tmp_path / "x.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(BenchError, match=said):
        scenario.load("x", quick=False)


def test_unknown_scenario() -> None:
    with pytest.raises(BenchError, match="no scenario 'nope'; there are: churn"):
        scenario.load("nope", quick=False)


def test_templates_and_table_agree() -> None:
    faulty = servers.peers(("edgecache", "nginx", "varnish"))
    used = {peer.templates for peer in (*peers(Path("floor")).values(), *faulty) if peer.templates}
    assert used == {path.name for path in TEMPLATES.iterdir()}


def test_bodies() -> None:
    blob = late(10, delay_ms=5, over_ms=20, chunks=3)
    assert blob == Blob("/trickle/5/20/3/10/late.m4s", 10, 5, 20, 3)
    assert blob.chunk_ends() == [3, 6, 10]
    assert blob.body() == blob.body() != late(10, delay_ms=6).body()
    for bad in ("/blob/x/a", "/blob/99999999999/a", "/nothing", "/late/1/2"):
        with pytest.raises(BenchError):
            parse(bad)


def test_only_what_dead_runs_left_is_stale() -> None:
    assert not is_stale(f"{run_tag()}-s")
    assert is_stale("ecb-1-999999999999-s")  # pid 1 lives, but did not start then
    assert is_stale("ecb-4194999-1-c")
    assert not is_stale("ecb-mine")
    assert not is_stale("other-1-2-s")


def test_traces() -> None:
    live = trace("live", requests=5000, objects=0, alpha=0.9)
    dvr = trace("dvr", requests=5000, objects=0, alpha=0.9)
    assert live == trace("live", requests=5000, objects=0, alpha=0.9)
    assert len(set(dvr)) > len(set(live))
    zipf = trace("zipf", requests=5000, objects=100, alpha=0.9)
    assert max(zipf) < 100
    assert zipf.count(0) > zipf.count(50)
