"""The operators' door: health, metrics, purge, explain; and never on the viewers' port."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.running import LIMIT_S, ROOT, Edge, ScriptedOrigin, ask, ok

pytestmark = pytest.mark.timeout(60)


def test_health_and_readiness(edge: Edge) -> None:
    assert ask(edge.admin, "GET", "/healthz", {}).body == b"ok\n"
    ready = ask(edge.admin, "GET", "/readyz", {})
    assert (ready.status, json.loads(ready.body)) == (200, {"ready": True, "reasons": []})
    assert ready.fields["cache-control"] == "no-store"


def test_viewers_never_reach_it(edge: Edge, origin: ScriptedOrigin) -> None:
    for path in ("/metrics", "/healthz", "/purge?prefix=/", "/state"):
        assert edge.get(path).status == 404  # of the origin: names like any other
    assert origin.count("/metrics") == 1


def test_purge_takes_effect_before_it_is_answered(edge: Edge, origin: ScriptedOrigin) -> None:
    for number in range(3):
        origin.says(f"/purge/{number}.m4s", ok(b"old"))
        edge.get(f"/purge/{number}.m4s")
        origin.says(f"/purge/{number}.m4s", ok(b"new"))
    purged = ask(edge.admin, "POST", "/purge?key=/purge/0.m4s", {})
    assert json.loads(purged.body) == {"purged": 1}
    assert edge.get("/purge/0.m4s").body == b"new"
    assert edge.get("/purge/1.m4s").body == b"old"
    purged = ask(edge.admin, "POST", "/purge?prefix=/purge/", {})
    assert json.loads(purged.body) == {"purged": 3}
    assert edge.get("/purge/1.m4s").body == b"new"


def test_explain_says_why(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/live/why/a/360p/1.m4s", ok(b"x"))
    path = "/explain?url=http://pop/live/why/a/360p/1.m4s"
    before = json.loads(ask(edge.admin, "GET", path, {}).body)
    assert (before["entry"], before["stream"]) == (None, "why")
    assert "miss" in before["why"]
    edge.get("/live/why/a/360p/1.m4s")
    after = json.loads(ask(edge.admin, "GET", path, {}).body)
    assert after["entry"]["state"] == "complete"
    assert after["entry"]["size"] == 1


def test_metrics_are_well_formed_and_the_ledger_closes(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/ledger.m4s", ok(b"x"))
    for _ in range(10):
        edge.get("/ledger.m4s")
    text = ask(edge.admin, "GET", "/metrics", {}).body.decode()
    families = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert [name for name, count in Counter(families).items() if count > 1] == []
    assert all(name.startswith("edge_") for name, _ in families)
    assert all(name.endswith("_total") for name, kind in families if kind == "counter")
    assert all(re.search(rf"^# HELP {name} \S", text, re.MULTILINE) for name, _ in families)
    edge.settled("edge_connections_now", 0)
    metrics = edge.metrics()
    assert metrics["edge_accepted_total"] == metrics["edge_closed_total"]
    left = [f"edge_{name}_total" for name in ("woken", "park_timeout", "park_gone", "park_drained")]
    assert metrics["edge_parked_total"] == sum(metrics[name] for name in left)


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/purge?key=/a", {}, 405),
        ("POST", "/purge", {}, 400),
        ("POST", "/purge?key=/a&prefix=/b", {}, 400),
        ("POST", "/purge?prefix=/", {"Origin": "http://evil"}, 403),
        ("GET", "/state", {"Host": "evil.example"}, 421),
        ("GET", "/explain", {}, 400),
    ],
)
def test_misuse_is_refused(
    edge: Edge, method: str, path: str, fields: dict[str, str], status: int
) -> None:
    assert ask(edge.admin, method, path, fields, b"" if method == "POST" else None).status == status


def test_state_names_doors_and_origins(edge: Edge, origin: ScriptedOrigin) -> None:
    state = json.loads(ask(edge.admin, "GET", "/state", {}).body)
    assert state["listening"]["http"] == edge.http
    assert origin.url in state["origins"]


def test_the_commands_reach_it(edge: Edge) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edgecache", *arguments],
            capture_output=True, text=True, timeout=LIMIT_S, cwd=ROOT,
        )  # fmt: skip

    admin = f"http://{edge.admin}"
    assert json.loads(command("explain", "/a", "--admin", admin).stdout)["key"] == "/a"
    assert "purged" in command("purge", "/a/", "--admin", admin).stdout
    gone = command("purge", "/a", "--admin", "http://127.0.0.1:1")
    assert gone.returncode == 1
    assert gone.stderr.startswith("error: --admin: ")
    assert gone.stderr.count("\n") == 1
