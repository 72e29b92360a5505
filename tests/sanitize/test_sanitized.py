"""The core under ASAN with UBSAN, and under TSAN: as much as a test run has time for. The whole is
`make asan` and `make tsan`.

Both builds and runs go at the same time, one a core, beside the tests before them (conftest.py).
ASAN has what handles bytes and lifetimes, TSAN what crosses threads; pure functions have nothing to
show it. The build with ASAN has failpoints (native/failpoints.h) and walks the errors of system
calls; a release has none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecache import _core
from tests.ahead import ROOT, Ahead
from tests.sanitize.conftest import KINDS

pytestmark = pytest.mark.timeout(960)

LIMIT_S = 900.0  # on a busy machine: half of 110 s of CPU goes into compiling


@pytest.mark.parametrize("kind", KINDS)
def test_sanitized(runs: dict[str, Ahead], kind: str) -> None:
    assert " passed" in runs[kind].done(LIMIT_S)


def test_a_release_has_no_failpoints(runs: dict[str, Ahead]) -> None:
    """Neither symbols nor strings; the instrumented core shows that they would be seen."""
    told, built = runs["address"].done(LIMIT_S), ROOT / "build/sanitize/address/built/core.so"
    assert b"ec_failpoint_arm" in built.read_bytes(), told
    release = Path(_core.__file__).read_bytes()
    assert [trace for trace in (b"failpoint", b"ec_strikes", b"ec_site") if trace in release] == []
