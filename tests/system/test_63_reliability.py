"""The cases of `python -m bench.reliability` on this cache: all but those that judge times."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.reliability.__main__ import tried
from bench.reliability.cases import CASES, Case
from bench.reliability.origin import Origin
from bench.reliability.servers import Server, peers, serving

pytestmark = pytest.mark.timeout(60)

# By the p99 of healthy viewers, which is the machine's as well; or of who has a parent process.
OTHERS = {"E6", "B1", "B2", "E4"}
VIEWERS = 50


@pytest.fixture(scope="module")
def broken_origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def server(broken_origin: Origin) -> Iterator[Server]:
    with serving(peers(("edgecache",))[0], broken_origin.port) as started:
        yield started


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in OTHERS],
                         ids=lambda case: f"{case.name}{case.run.__name__}")  # fmt: skip
def test_it_comes_as_expected(case: Case, server: Server, broken_origin: Origin) -> None:
    row = tried(case, server, broken_origin, VIEWERS)
    assert row.ledger == {}
    assert row.seen is not None
    assert row.seen.good, f"{case.what}: expected {case.expected}, got {row.seen.told}"
