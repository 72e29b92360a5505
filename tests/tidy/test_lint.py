"""Style and types are part of the tests: what `make lint` says must be nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)  # mypy from a cold cache, on a loaded machine
def test_lint() -> None:
    run = subprocess.run(["scripts/lint"], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, (run.stdout + run.stderr)[-6000:]
