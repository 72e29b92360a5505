"""What the tidy tests look at: the files of the project, as git sees them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tracked() -> dict[str, Path]:
    """Relative name -> path of every file that git has or would take: sources, nothing built, and
    not the fuzzer's corpus, which is bytes."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    names = [name for name in run.stdout.splitlines() if "/corpus/" not in name]
    return {name: ROOT / name for name in sorted(names) if (ROOT / name).is_file()}
