"""A demo that all browser tests share, a browser for each, and screenshots of both."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from bench.demo import demo as running
from tests.browser import chromium
from tests.browser.chromium import Browser

COMMAND: Final = Path(sys.executable).with_name("edgecache-origin")
# How long a publisher may be away before its stream ends: well over the 3 s after which the page
# says that the signal has stopped.
RECONNECT_S: Final = 8


@dataclass(frozen=True)
class Demo:
    """What `edgecache demo --json` says; `a` and `b` are the POPs' doors for viewers."""

    facts: dict[str, Any]
    home: Path  # its folder stands in there

    def publish(self, stream: str) -> str:
        """Where to publish a stream that nobody has published yet: RTMP, at POP A."""
        door: str = self.facts["publish"].rpartition("/")[0]
        return f"{door}/{self.key('create', stream)}"

    def key(self, deed: str, stream: str) -> str:
        """The one that is there after `create` or `rotate`."""
        (settings,) = self.home.glob("*/origin.toml")
        command = [str(COMMAND), "keys", deed, stream]
        made = subprocess.run(
            [*command, "-c", str(settings)], capture_output=True, text=True, check=True, timeout=30
        )
        return made.stdout.strip()

    @property
    def b(self) -> str:
        return self._door(1)

    @property
    def operators(self) -> str:
        """The origin's door for operators."""
        found: str = self.facts["admin"]["origin"]
        return found

    def _door(self, index: int) -> str:
        playlist: str = self.facts["playlists"][index]
        return playlist.partition("/live/")[0]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Origin, two POPs, and the test pattern published over RTMP through POP A."""
    home = tmp_path_factory.mktemp("demo")
    with running({"LIVE__RECONNECT": f"{RECONNECT_S}s"}, home=home) as facts:
        yield Demo(facts, home)


@pytest.fixture(autouse=True, scope="session")
def tools() -> None:
    if reason := chromium.missing():
        pytest.skip(reason)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for a file of tests that each open a page of their own, and leave nothing in it."""
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def picture(browser: Browser, folder: Path, name: str) -> None:
    """The whole page, in that folder; or where EDGECACHE_SHOTS says, if it says."""
    kept = os.environ.get("EDGECACHE_SHOTS")
    path = (Path(kept).resolve() if kept else folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    browser.ask("shot", path=str(path), whole=True)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def shot(browser: Browser, tmp_path: Path) -> Callable[[str], None]:
    """shot(name): a picture of the page."""
    return functools.partial(picture, browser, tmp_path)
