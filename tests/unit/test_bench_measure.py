"""What is read from /proc, against known texts and against this very process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.measure import (
    TICK_S,
    Memory,
    memory,
    net_counters,
    parse_cores,
    parse_counters,
    parse_rollup,
    snapshot,
    spent,
)
from bench.process import is_alive, spawned, tail, tree

BURN_S = 0.2


def test_counters() -> None:
    text = "Tcp: InSegs RetransSegs\nTcp: 10 -2\nTcpExt: TCPTimeouts\nTcpExt: 3\n"
    assert parse_counters(text) == {"TcpInSegs": 10, "TcpRetransSegs": -2, "TcpExtTCPTimeouts": 3}


def test_cores() -> None:
    text = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 5 0 5 100 20 0 7 3 0 0\ncpu1 0 0 0 50 0 0 0 0 0 0\n"
    assert parse_cores(text) == pytest.approx({0: 123 * TICK_S, 1: 50 * TICK_S})


def test_rollup() -> None:
    text = "0-1 ---p 0 00:00 0 [rollup]\nRss: 100 kB\nPss: 50 kB\n"
    text += "Private_Clean: 4 kB\nPrivate_Dirty: 8 kB\nAnonymous: 7 kB\n"
    assert parse_rollup(text) == Memory(100 * 1024, 50 * 1024, 12 * 1024, 7 * 1024)


def test_live_counters_and_memory() -> None:
    assert "TcpRetransSegs" in net_counters(os.getpid())
    own = memory(os.getpid())
    assert 0 < own.private <= own.rss
    assert 0 < own.pss <= own.rss


def test_cpu_of_a_family_counts_its_children(tmp_path: Path) -> None:
    """A parent that sleeps and a child that burns: the child's time is the family's."""
    burn = f"import time\nwhile time.process_time() < {BURN_S}: pass\nprint(1, flush=True)"
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', '''{burn}\ntime.sleep(60)'''])\n"
        "time.sleep(60)"
    )
    log = tmp_path / "log"
    with spawned([sys.executable, "-c", parent], log=log) as process:
        before = snapshot(process.pid)
        deadline = time.monotonic() + 20
        while tail(log) != "1" and time.monotonic() < deadline:
            time.sleep(0.01)
        cost = spent(before, snapshot(process.pid), range(os.cpu_count() or 1))
        family = tree(process.pid)
    assert len(family) == 2
    assert cost.cpu_s >= BURN_S * 0.8
    assert cost.core_busy_s >= BURN_S * 0.5
    assert not [pid for pid in family if is_alive(pid)]


def test_a_thread_that_ended_is_counted_as_lost() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        before = snapshot(os.getpid())
        child.kill()
        child.wait()
        assert spent(before, snapshot(os.getpid()), ()).lost_threads >= 1
