"""A demo that all browser tests share, a browser for each, and screenshots of both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.browser import chromium
from tests.browser.chromium import Browser

COMMAND: Final = Path(sys.executable).with_name("edgecache")
STOP_S: Final = 25.0
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
        (settings,) = self.home.glob("*/origin.toml")
        command = [str(COMMAND.with_name("edgecache-origin")), "keys", "create", stream]
        made = subprocess.run(
            [*command, "-c", str(settings)], capture_output=True, text=True, check=True, timeout=30
        )
        door: str = self.facts["publish"].rpartition("/")[0]
        return f"{door}/{made.stdout.strip()}"

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
    environ = {"TMPDIR": str(home), "ORIGIN__LIVE__RECONNECT": f"{RECONNECT_S}s"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(COMMAND), "demo", "--json"],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line, (home / "log").read_text()
            yield Demo(json.loads(line), home)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_S)
            finally:
                process.kill()
                process.communicate()


@pytest.fixture(autouse=True, scope="session")
def tools() -> None:
    if reason := chromium.missing():
        pytest.skip(reason)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as found:
        yield found


@pytest.fixture
def shot(browser: Browser, tmp_path: Path) -> Callable[[str], None]:
    """shot(name): the whole page as a picture; kept where EDGECACHE_SHOTS says, if it says."""
    kept = os.environ.get("EDGECACHE_SHOTS")
    folder = Path(kept).resolve() if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)

    def take(name: str) -> None:
        path = folder / f"{name}.png"
        browser.ask("shot", path=str(path), whole=True)
        assert path.read_bytes().startswith(b"\x89PNG")

    return take
