"""What takes minutes of CPU is begun with the run, and waited for by the test that judges it.

Law: it has the lowest priority, so it takes what the tests before it leave of the machine while
they wait; it is bounded by who waits for it, and ends with the run, with all that it has started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Ahead:
    """`command` runs from now on; what it prints goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path, cwd: Path = ROOT) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                ["nice", "-n", "19", *command],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def done(self, within_s: float) -> str:
        """What it has printed. Raises AssertionError when it has failed or takes longer."""
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(within_s)
        said = self.log.read_text(errors="replace")
        assert code == 0, f"{code}: {said[-6000:]}"
        return said

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
