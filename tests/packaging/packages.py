"""The sdist, and the wheel made from that sdist, both with the pinned build requirements."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.ahead import ROOT, Ahead


def run(*command: str, cwd: Path, timeout: int = 160) -> str:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{command}: {(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


class Packages:
    """On their way in `home`: `dist` is whole when `build` is done."""

    def __init__(self, home: Path) -> None:
        self.tree, self.dist = home / "tree", home / "dist"
        self._copy()
        command = [sys.executable, "-m", "build", "--outdir", str(self.dist), str(self.tree)]
        self.build = Ahead(["env", "-u", "PYTHONPATH", *command], home / "log", home)

    def _copy(self) -> None:
        """What git has, as a clone would give it."""
        listing = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
        for name in listing.splitlines():
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
