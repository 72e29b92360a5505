"""The corpus through the native fuzz entry, under ASAN and UBSAN, and some seconds of mutations."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORPUS = sorted((ROOT / "tests/fuzz/corpus").iterdir())


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles the fuzzer")
def test_the_corpus_and_some_seconds_of_mutations() -> None:
    """scripts/fuzz [seconds] goes on for longer; what it finds belongs into the corpus."""
    command = [str(ROOT / "scripts/fuzz"), "5", "42"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr[-3000:]
    assert len(CORPUS) > 100
    if shutil.which("clang") is None:
        assert f"{len(CORPUS)} files" in run.stdout


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_an_input_is_small(path: Path) -> None:
    """Mutations of large inputs teach little for their time."""
    assert 0 < path.stat().st_size <= 4096
