"""The cases of `python -m bench.reliability` on this cache: all but those that judge times."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bench.clients.exhaustion import HARMS, Asked, felt
from bench.reliability.__main__ import settled, tried
from bench.reliability.cases import CASES, Case, Trial
from bench.reliability.origin import Origin
from bench.reliability.servers import Server, peers, serving

pytestmark = pytest.mark.timeout(60)

# By the p99 of healthy viewers, which is the machine's as well.
OTHERS = {"E6"} | {case.name for case in CASES if case.promise == "R8"}
VIEWERS = 50
LATE_MS = 2000  # healthy viewers that wait so long are harmed on any machine


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


@pytest.mark.parametrize("harm", HARMS)
def test_what_uses_up_what_there_is_harms_nobody(
    harm: str, server: Server, broken_origin: Origin, measured: Callable[..., None]
) -> None:
    trial = Trial(server, broken_origin, 1)
    trial.ask("/part/2")
    trial.ask("/plain/3")
    asked = Asked(server.address, "127.0.0.2", "/plain/3", 200, 500)
    found = felt(harm, "/part/2", asked, duration_s=0.2, turns=1)
    ((_, alone_ms),), ((_, beside_ms),) = found.alone_ms, found.beside_ms
    measured(p99_alone=f"{alone_ms:.1f} ms", p99_beside=f"{beside_ms:.1f} ms",
             kernel=f"{found.kernel_bytes / 1024:.0f} KiB each")  # fmt: skip
    assert found.done > 0
    assert beside_ms < LATE_MS
    assert settled(server) == {}
