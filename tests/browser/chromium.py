"""A headless Chromium under a test's control, through driver.mjs: one page, one line an answer.

Every wait is bounded twice: in the driver, and by the test's own timeout. The profile lives in the
directory given and is nobody else's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, Self

HERE: Final = Path(__file__).parent
DRIVER: Final = HERE / "driver.mjs"
FIGURES: Final = "window.__edgecache.figures()"


def missing() -> str:
    """What a browser test lacks on this machine; "" when nothing."""
    if shutil.which("node") is None:
        return "node is not installed"
    if shutil.which("chromium") is None:
        return "chromium is not installed"
    if not (HERE / "node_modules/playwright-core").is_dir():
        return "playwright-core is not installed: run make build-tests"
    return ""


class Browser:
    """`with Browser(tmp_path) as browser:` one browser with one page; flags: more of Chromium's."""

    def __init__(self, home: Path, *flags: str) -> None:
        self._log = (home / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            ["node", str(DRIVER), str(home / "profile"), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """The driver closes the browser when its input ends."""
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        finally:
            self._log.close()

    def ask(self, op: str, **given: object) -> Any:
        """The answer to one line. Raises AssertionError with the driver's own words."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"op": op, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the driver has ended: {Path(self._log.name).read_text()[-2000:]}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    def open(self, url: str) -> None:
        self.ask("open", url=url)

    def evaluate(self, expression: str) -> Any:
        return self.ask("evaluate", expression=expression)

    def until(self, expression: str, within_s: float) -> Any:
        """The value of the expression once it is true. Raises AssertionError when time is up."""
        return self.ask("until", expression=expression, timeout_ms=round(within_s * 1000))

    def figures(self) -> dict[str, Any]:
        """What the watch page measures; see figures() in watch.js."""
        found: dict[str, Any] = self.evaluate(FIGURES)
        return found

    def until_figures(self, condition: str, within_s: float) -> dict[str, Any]:
        """The figures once `condition` (of `f`) is true."""
        expression = f"((f) => ({condition}) && f)({FIGURES})"
        found: dict[str, Any] = self.until(expression, within_s)
        return found

    def text(self, selector: str) -> str:
        quoted = json.dumps(selector)
        found: str = self.evaluate(f"document.querySelector({quoted}).innerText")
        return found

    def seen(self) -> dict[str, list[Any]]:
        """console: errors; answers: [url, status, POP]; failed: [url, why], all so far."""
        found: dict[str, list[Any]] = self.ask("seen")
        return found
