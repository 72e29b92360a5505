"""Both sanitizers are begun with the run: two minutes of both cores, beside tests that mostly wait.
What is measured (tests/native) and all that has deadlines of real time comes after them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ahead import ROOT, Ahead

NATIVE = {
    "address": "blob entry exchange growing head hold http1 live malformed misses model plane pool"
    " ranges request resolve response send store target timer",
    "thread": "growing live mailbox misses plane resolve worker",
}
KINDS = tuple(NATIVE)
QUICK = "not (slow or thousands or storm or minimum_rate or progress or drain or full_log)"
RUNS = pytest.StashKey[dict[str, Ahead]]()


def command(kind: str) -> list[str]:
    files = [f"tests/native/test_{name}.py" for name in NATIVE[kind].split()]
    files += ["tests/failpoints"] if kind == "address" else []
    return ["scripts/sanitize", kind, *files, "tests/race", "-k", QUICK]


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(Path(__file__).parent in item.path.parents for item in session.items)
    if wanted and not session.config.option.collectonly:
        session.stash[RUNS] = {
            kind: Ahead(command(kind), ROOT / f"build/sanitize/{kind}.log") for kind in KINDS
        }


def pytest_sessionfinish(session: pytest.Session) -> None:
    for run in session.stash.get(RUNS, {}).values():
        run.close()


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest) -> dict[str, Ahead]:
    """By kind, on their way."""
    return request.session.stash[RUNS]
