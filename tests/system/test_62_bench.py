"""The bench as a command: a real run, and what is left of one that was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.netns import NETNS_DIR, PREFIX
from bench.process import tree
from bench.stage import TMPFS

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0


def started(out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench", "--quick", "--out", str(out), *words]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def left_by(pid: int) -> list[str]:
    """Namespaces and scratch directories of that run."""
    places = [path for path in (NETNS_DIR, TMPFS) if path.is_dir()]
    return [p.name for place in places for p in place.glob(f"{PREFIX}-{pid}-*")]


def alive(pids: Sequence[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def command_of(pid: int) -> str:
    """Empty when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("name", "figure"), [("push_to_byte", "first_p99_ms"), ("viewers_ll", "viewers_core")]
)
def test_a_quick_run_answers_its_question(name: str, figure: str, tmp_path: Path) -> None:
    with started(tmp_path, name) as run:
        said, _ = run.communicate(timeout=WAIT_S)
    assert run.returncode == 0, said
    results = json.loads((tmp_path / "results.json").read_text())
    case = results["scenarios"][0]["cases"][0]["servers"]["edgecache"]
    assert case["samples"][0]["problems"] == []
    assert case["spread"][figure]["median"] > 0
    assert {t["state"] for t in results["targets"]} <= {"met", "missed", "elsewhere"}
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert left_by(run.pid) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Impatience included: further signals do not cut the clearing up short."""
    with started(tmp_path, "hit_playlist", "--servers", "edgecache", "--rounds", "50") as run:
        deadline = time.monotonic() + WAIT_S
        while not any("\0serve\0" in command_of(pid) for pid in tree(run.pid)[1:]):
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        family = tree(run.pid)[1:]
        for _ in range(3):
            os.kill(run.pid, number)
        said, _ = run.communicate(timeout=WAIT_S)
    assert run.returncode == 130, said
    assert "interrupted: not every sample was taken" in said
    assert alive(family) == []
    assert left_by(run.pid) == []


def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    with started(tmp_path, "hit_playlist", "--servers", "edgecache", "--rounds", "50") as run:
        deadline = time.monotonic() + WAIT_S
        while not left_by(run.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        run.kill()
        run.communicate(timeout=WAIT_S)
    assert left_by(run.pid) != []
    with started(tmp_path, "eviction", "--servers", "policy-lru") as after:
        after.communicate(timeout=WAIT_S)
    assert left_by(run.pid) == []
