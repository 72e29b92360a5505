"""The core under ASAN with UBSAN, and under TSAN: as much as a test run has time for. The whole is
`make asan` and `make tsan`.

Both builds and runs go at the same time, one a core. ASAN has what handles bytes and lifetimes,
TSAN what crosses threads; pure functions have nothing to show it. The build with ASAN has
failpoints (native/failpoints.h) and walks the errors of system calls; a release has none.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecache import _core

pytestmark = pytest.mark.timeout(960)

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 900.0  # both, on a busy machine: half of 110 s of CPU goes into compiling
NATIVE = {
    "address": "blob entry exchange growing head hold http1 live malformed misses model plane pool"
    " ranges request resolve response send store target timer",
    "thread": "growing live mailbox misses plane resolve worker",
}
QUICK = "not (slow or thousands or storm or minimum_rate or progress or drain or full_log)"


def command(kind: str) -> list[str]:
    files = [f"tests/native/test_{name}.py" for name in NATIVE[kind].split()]
    files += ["tests/failpoints"] if kind == "address" else []
    return ["scripts/sanitize", kind, *files, "tests/race", "-k", QUICK]


def start(kind: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command(kind), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, int]]]:
    """kind -> (what it printed, how it ended)."""
    logs = {kind: tmp_path_factory.mktemp(kind) / "log" for kind in NATIVE}
    children = {kind: start(kind, log) for kind, log in logs.items()}
    deadline = time.monotonic() + LIMIT_S
    try:
        ends = {
            kind: child.wait(max(deadline - time.monotonic(), 1))
            for kind, child in children.items()
        }
        yield {kind: (logs[kind], ends[kind]) for kind in NATIVE}
    finally:
        for child in children.values():
            child.kill()
            child.wait()


@pytest.mark.parametrize("kind", NATIVE)
def test_sanitized(runs: dict[str, tuple[Path, int]], kind: str) -> None:
    log, end = runs[kind]
    told = log.read_text(errors="replace")
    assert end == 0, told[-6000:]
    assert " passed" in told


def test_a_release_has_no_failpoints(runs: dict[str, tuple[Path, int]]) -> None:
    """Neither symbols nor strings; the instrumented core shows that they would be seen."""
    built = runs["address"][0], ROOT / "build/sanitize/address/built/core.so"
    assert b"ec_failpoint_arm" in built[1].read_bytes(), built[0].read_text(errors="replace")
    release = Path(_core.__file__).read_bytes()
    assert [trace for trace in (b"failpoint", b"ec_strikes", b"ec_site") if trace in release] == []
