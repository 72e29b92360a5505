"""The parent of `serve --supervise`, with children that do nothing but what is asked here."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecache.supervise import Supervisor

PR_SET_CHILD_SUBREAPER = 36

CHILD = """
import os, socket, sys, time
from edgecache.control import manager
units, bound = manager.inherited()
log = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND | os.O_CREAT)
count = os.pread(log, 99, 0).count(b"|")
os.write(log, f"{time.monotonic()} {sum(len(items) for items in bound.values())}|".encode())
if count == 0:
    sockets = [socket.socket() for _ in range(3)]
    manager.keep("http", sockets)
    manager.keep("http", sockets[:1])
    manager.keep("push", [socket.socket()])
    manager.forget("push")
    manager.notify("READY=1")
%s
"""


@pytest.fixture(autouse=True)
def adopts_nobody() -> Iterator[None]:
    """Orphans of later tests are not for this process, as they would be since a supervisor ran."""
    yield
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0)


def children() -> set[str]:
    """Process ids of ours, zombies as well."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


def run(tmp_path: Path, ending: str) -> tuple[int, list[tuple[float, int]]]:
    """(exit code, for each child: when it began, how many sockets it was given)."""
    log = tmp_path / "log"
    supervisor = Supervisor([sys.executable, "-c", CHILD % ending, str(log)])
    code = asyncio.run(asyncio.wait_for(supervisor.run(), 30))
    told = [line.split() for line in log.read_text().split("|")[:-1]]
    return code, [(float(began), int(sockets)) for began, sockets in told]


def test_it_is_started_again_with_what_was_kept_until_it_ends_in_order(tmp_path: Path) -> None:
    """At once; but one that is never ready again ever later."""
    code, children = run(tmp_path, "sys.exit(0 if count == 4 else 3)")
    assert code == 0
    assert [sockets for _, sockets in children] == [0, 3, 3, 3, 3]
    began = [moment for moment, _ in children]
    waits = [after - before for before, after in itertools.pairwise(began)]
    assert all(wait > 0.05 * 2**number for number, wait in enumerate(waits) if number)


@pytest.mark.parametrize(("ending", "code"), [
    ("manager.notify('STOPPING=1'); sys.exit(7)", 7),
    ("manager.notify('STOPPING=1'); os.kill(os.getpid(), 15); time.sleep(30)", 143),
    ("os.kill(os.getppid(), 15); time.sleep(30)", 143),
])  # fmt: skip
def test_who_leaves_in_order_is_not_replaced(tmp_path: Path, ending: str, code: int) -> None:
    found, children = run(tmp_path, ending)
    assert (found, len(children)) == (code, 1)


def test_who_was_never_ready_is_not_replaced(tmp_path: Path) -> None:
    supervisor = Supervisor([sys.executable, "-c", "import sys; sys.exit(78)"])
    assert asyncio.run(asyncio.wait_for(supervisor.run(), 30)) == 78


def test_nobody_is_left_behind(tmp_path: Path) -> None:
    """Neither the one that stood by, nor what it was given; another test's may be there."""
    before = children(), len(os.listdir("/proc/self/fd"))
    run(tmp_path, "time.sleep(0.05); sys.exit(0)")
    assert children() <= before[0]
    assert len(os.listdir("/proc/self/fd")) <= before[1]
