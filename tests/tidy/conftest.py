"""What the tidy tests look at: the files of the project, as git sees them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tracked() -> dict[str, Path]:
    """Relative name -> path of every file that git has or would take: sources, nothing built."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    return {
        name: ROOT / name for name in sorted(run.stdout.splitlines()) if (ROOT / name).is_file()
    }
