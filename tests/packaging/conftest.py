"""Packages and micro-benchmarks are begun with the run: most of what they cost is compiling."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.ahead import ROOT, Ahead
from tests.packaging.packages import Packages

PACKAGES = pytest.StashKey[Packages]()
MICRO = pytest.StashKey[Ahead]()
_MICRO = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-disable"]


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(Path(__file__).parent in item.path.parents for item in session.items)
    if wanted and not session.config.option.collectonly:
        session.stash[PACKAGES] = Packages(Path(tempfile.mkdtemp(prefix="edgecache-packages-")))
        log = ROOT / "build/log/micro-test.txt"
        session.stash[MICRO] = Ahead([*_MICRO, "bench/micro"], log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if packages := session.stash.get(PACKAGES, None):
        packages.build.close()
        shutil.rmtree(packages.tree.parent)
    if micro := session.stash.get(MICRO, None):
        micro.close()


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest) -> Packages:
    """On their way."""
    return request.session.stash[PACKAGES]


@pytest.fixture(scope="session")
def micro(request: pytest.FixtureRequest) -> Ahead:
    """Each loop run once and judged by what it did, on its way."""
    return request.session.stash[MICRO]
