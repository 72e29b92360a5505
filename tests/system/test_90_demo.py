"""`edgecache demo` from outside: what it says, what it starts, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("edgecache")
START_S = 60.0
STOP_S = 25.0

pytestmark = pytest.mark.timeout(120)


class Run:
    """A demo in a temporary directory of its own, so that what it leaves there can be seen."""

    def __init__(self, home: Path, *arguments: str, **environ: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [str(COMMAND), "demo", *arguments],
            cwd=home,
            env={**os.environ, "TMPDIR": str(home), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def facts(self) -> dict[str, Any]:
        """The one line of --json; the process goes on."""
        assert self.process.stdout
        assert self.process.stderr
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        facts: dict[str, Any] = json.loads(line)
        return facts

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        return self.result(STOP_S)

    def result(self, within_s: float) -> tuple[int, str, str]:
        """(exit code, rest of stdout, stderr)"""
        out, err = self.process.communicate(timeout=within_s)
        return self.process.returncode, out, err


@contextlib.contextmanager
def demo(home: Path, *arguments: str, **environ: str) -> Iterator[Run]:
    run = Run(home, *arguments, **environ)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.communicate(timeout=10)


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status, answer.read().decode()


def family(pid: int) -> set[int]:
    """The process and all below it."""
    found = {pid}
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found |= family(int(child))
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of the processes of which a thread still runs: a killed one counts as a zombie as soon
    as its first thread has ended, and its sockets are there until the last one has."""
    left = set()
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                state = task.read_text().rpartition(")")[2].split()[0]
                left |= {pid} if state not in "ZX" else set()
    return left


def ports(facts: dict[str, Any]) -> set[int]:
    urls = [facts["watch"], facts["publish"], *facts["playlists"], *facts["metrics"]]
    return {int(url.split("/")[2].rpartition(":")[2]) for url in urls}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listening(facts: dict[str, Any]) -> list[int]:
    return [port for port in ports(facts) if listens(port)]


def assert_nothing_is_left(facts: dict[str, Any], pids: set[int]) -> None:
    deadline = time.monotonic() + STOP_S
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(pids) == set()
    assert listening(facts) == []


def test_json_says_where_everything_is_and_sigint_ends_it(tmp_path: Path) -> None:
    with demo(tmp_path, "--json") as run:
        facts = run.facts()
        pids = family(run.process.pid)
        assert {"pop-a", "pop-b", "origin", "publisher"} <= set(facts["pids"])
        assert set(facts["pids"].values()) <= pids
        assert len(facts["playlists"]) == 2
        assert facts["publish"].startswith("rtmp://127.0.0.1:")
        assert facts["srt"].startswith("srt://127.0.0.1:")
        for url in facts["playlists"]:
            status, body = get(url)
            assert (status, body.splitlines()[0]) == (200, "#EXTM3U")
        for url in [facts["watch"], facts["go"], *facts["metrics"]]:
            assert get(url)[0] == 200
        assert get(f"{facts['admin']['origin']}/healthz") == (200, "ok\n")
        code, out, err = run.end(signal.SIGINT)
        assert (code, out) == (0, "")
        assert "error" not in err
        assert_nothing_is_left(facts, pids)
        assert list(tmp_path.iterdir()) == []


def test_killed_with_9_it_leaves_no_process(tmp_path: Path) -> None:
    with demo(tmp_path, "--json", "--no-publish") as run:
        facts = run.facts()
        pids = family(run.process.pid)
        run.process.kill()
        run.result(5)
        assert_nothing_is_left(facts, pids)


def test_without_json_it_prints_what_to_do_next(tmp_path: Path) -> None:
    with demo(tmp_path, "--no-publish", "--duration", "1s") as run:
        code, out, err = run.result(START_S)
    assert (code, err) == (0, "")
    assert "/watch/demo" in out
    assert "/metrics" in out
    assert "Stream key  demo_" in out
    assert "ffmpeg -re -i FILE" in out
    assert max(len(line) for line in out.splitlines() if "ffmpeg -re" not in line) <= 100
    assert list(tmp_path.iterdir()) == []


def test_a_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with demo(tmp_path, "--http-a", str(port)) as run:
            code, out, err = run.result(START_S)
    assert (code, out) == (1, "")
    assert err == f"error: --http-a: port {port} of 127.0.0.1: Address already in use\n"


def test_a_missing_ffmpeg_is_one_clear_line(tmp_path: Path) -> None:
    with demo(tmp_path, "--json", EDGECACHE_FFMPEG="/nowhere/ffmpeg") as run:
        code, out, err = run.result(START_S)
    assert (code, out) == (1, "")
    assert err.startswith("error: looking for ffmpeg: EDGECACHE_FFMPEG: found /nowhere/ffmpeg")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("victim", ["pop-b", "origin"])
def test_a_child_that_dies_ends_the_demo(tmp_path: Path, victim: str) -> None:
    with demo(tmp_path, "--json", "--no-publish") as run:
        facts = run.facts()
        pids = family(run.process.pid)
        os.kill(facts["pids"][victim], signal.SIGKILL)
        code, out, err = run.result(STOP_S)
        assert (code, out) == (1, "")
        assert err.splitlines()[-1] == f"error: {victim} has ended by itself (signal 9)"
        assert_nothing_is_left(facts, pids)
        assert list(tmp_path.iterdir()) == []
