"""Rules of the native plane that the compiler does not enforce."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = sorted((ROOT / "edgecache/native").glob("*.pxd"))
BANNED = re.compile(
    r"\bobject\b|\bwith gil\b|\braise\b|^\s*assert\b|\bprint\s*\(|\bPyMem_\w+|^\s*DEF\b|^\s*IF\b"
    r"|^\s*global\b|\btry\s*:|\bcpdef\b",
    re.MULTILINE,
)
INLINE = re.compile(r"^\s*cdef inline\b.*?\)([^()\n]*):[ \t]*(?:#.*)?$", re.MULTILINE | re.DOTALL)


def code_of(path: Path) -> str:
    """The text without docstrings and comments; lines keep their numbers."""
    blank = re.sub(r'"""(?:.|\n)*?"""', lambda m: "\n" * m[0].count("\n"), path.read_text())
    return re.sub(r"#.*", "", blank)


def has_functions(path: Path) -> bool:
    return "cdef inline" in code_of(path)


@pytest.mark.parametrize("path", NATIVE, ids=lambda path: path.name)
def test_inline_functions_never_take_the_gil(path: Path) -> None:
    """Without `noexcept` each call re-takes the GIL to look for an exception: 33 ns for 1."""
    code = code_of(path)
    tails = INLINE.findall(code)
    assert len(tails) == len(re.findall(r"^\s*cdef inline\b", code, re.MULTILINE))
    assert [tail for tail in tails if tail.strip() != "noexcept nogil"] == []


@pytest.mark.parametrize("path", NATIVE, ids=lambda path: path.name)
def test_no_python_in_the_native_plane(path: Path) -> None:
    code = code_of(path)
    found = [f"line {code[: m.start()].count(chr(10)) + 1}: {m[0]}" for m in BANNED.finditer(code)]
    assert found == []


def test_cython_has_nothing_to_remark(tmp_path: Path) -> None:
    """A warning or a performance hint is a place where Python crept in."""
    directives = "boundscheck=False,wraparound=False,initializedcheck=False,cdivision=True"
    command = [sys.executable, "-m", "cython", "-3", "-X", directives]
    command += ["-I", ".", "-o", str(tmp_path / "_core.c"), "edgecache/_core.pyx"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    remarks = [
        line
        for line in (run.stdout + run.stderr).splitlines()
        if re.search(r"warning|performance hint|error", line, re.IGNORECASE)
    ]
    assert run.returncode == 0, run.stderr[-2000:]
    assert remarks == []


def test_each_native_file_has_its_tests() -> None:
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests/native").glob("test_*.py")}
    wanted = {path.stem for path in NATIVE if has_functions(path)}
    assert wanted - tested == set(), "native files without tests/native/test_<file>.py"
