"""tests/conftest.py: a failure is told, whatever is collected while its report is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Something is collected all the time, and says that it failed.
CASE = """
import gc
import traceback


class Left:
    more = 500

    def __init__(self):
        self.me = self

    def __del__(self):
        Left.more -= 1
        if Left.more > 0:
            Left()
        try:
            deep(20)
        except ZeroDivisionError as error:
            traceback.format_exception(error)


def deep(more):
    return deep(more - 1) if more else 1 + (1 / 0 * 2)


def test_it():
    gc.set_threshold(50)
    Left()
    assert not "this is told"
"""


def test_a_failure_is_told(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(CASE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "INTERNALERROR" not in done.stdout, done.stdout
    assert 'assert not "this is told"' in done.stdout
    assert done.returncode == 1
