"""The packages are begun with the run: most of what they cost is compiling the core once more."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.packaging.packages import Packages

PACKAGES = pytest.StashKey[Packages]()


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(Path(__file__).parent in item.path.parents for item in session.items)
    if wanted and not session.config.option.collectonly:
        session.stash[PACKAGES] = Packages(Path(tempfile.mkdtemp(prefix="edgecache-packages-")))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if packages := session.stash.get(PACKAGES, None):
        packages.build.close()
        shutil.rmtree(packages.tree.parent)


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest) -> Packages:
    """On their way."""
    return request.session.stash[PACKAGES]
