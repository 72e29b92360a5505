"""What is shipped works where the source tree is not, and set-up fails in one clear line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.packages import Packages, run

# What scripts/setup calls before it has anything to run; no compiler, no package manager.
TOOLS = ("sh", "dirname", "date", "mkdir", "tail", "id", "touch")
LIMIT_S = 300.0  # to build them, on a busy machine

pytestmark = pytest.mark.timeout(360)


@pytest.fixture(scope="module")
def tree(packages: Packages) -> Path:
    return packages.tree


@pytest.fixture(scope="module")
def dist(packages: Packages) -> Path:
    packages.build.done(LIMIT_S)
    return packages.dist


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in an environment of its own; its dependencies are borrowed from this one."""
    env = tmp_path_factory.mktemp("env")
    run(sys.executable, "-m", "venv", "--without-pip", str(env), cwd=env)
    pip = [sys.executable, "-m", "pip", "--python", str(env / "bin/python"), "install", "--quiet"]
    wheel = next(dist.glob("*.whl"))
    run(*pip, "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel), cwd=env)
    borrowed = env / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages/deps.pth"
    borrowed.write_text(sysconfig.get_path("purelib") + "\n")
    return env


def test_sdist_holds_the_sources_and_nothing_built(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    suffixes = {Path(name).suffix for name in names}
    assert {"edgecache/_core.pyx", "edgecache/native/base.h", "LICENSE", "README.md"} <= names
    assert {"edgecache/native/blob.pxd", "pyproject.toml", "setup.py"} <= names
    assert not suffixes & {".c", ".so", ".pyc"}


def test_wheel_holds_what_runs_and_no_sources_of_the_core(tree: Path, dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        names = set(archive.namelist())
    suffixes = {Path(name).suffix for name in names}
    page = {str(p.relative_to(tree)) for p in (tree / "origin/page").rglob("*") if p.is_file()}
    assert {"origin/page/static/hls.min.js", "origin/page/static/dash.min.js"} <= page
    assert page <= names
    assert {"edgecache/py.typed", "edgecache/_core.pyi", "origin/py.typed"} <= names
    assert [name for name in names if name.startswith("edgecache/_core.") and ".so" in name]
    assert not suffixes & {".c", ".h", ".pyx", ".pxd"}
    assert not {name.split("/")[0] for name in names} & {"tests", "bench", "scripts", "build"}


@pytest.mark.parametrize("command", ["edgecache", "edgecache-origin"])
def test_entry_points_run_outside_the_tree(installed: Path, command: str) -> None:
    assert "serve" in run(str(installed / "bin" / command), "--help", cwd=Path("/"))


def test_the_installed_core_is_the_one_that_was_built(installed: Path) -> None:
    code = "import edgecache._core as core, origin; print(core.__file__, origin.__file__)"
    files = run(str(installed / "bin/python"), "-c", code, cwd=Path("/")).split()
    assert [name for name in files if not name.startswith(str(installed))] == []


def setup(tree: Path, path: Path, python: str) -> tuple[int, str]:
    """Exit code and last line of `scripts/setup run` on a machine that has only `path`."""
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (path / tool).symlink_to(found)
    environ = {"PATH": str(path), "PYTHON": python, "VENV": str(path / "venv")}
    done = subprocess.run(
        ["scripts/setup", "run"], cwd=tree, env=environ, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_setup_says_that_the_compiler_is_missing(tree: Path, tmp_path: Path) -> None:
    code, line = setup(tree, tmp_path, sys.executable)
    assert code == 1
    assert line.startswith("error: a C compiler is missing; please run: sudo apt-get install")
    assert " gcc " in line


def test_setup_says_that_python_is_missing(tree: Path, tmp_path: Path) -> None:
    code, line = setup(tree, tmp_path, "no-such-python")
    assert code == 1
    assert line == (
        "error: Python 3.11 or newer is needed; 'no-such-python' was not found (set PYTHON=…)"
    )


def test_setup_says_that_python_is_too_old(tree: Path, tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" != --version ] || { echo Python 3.9.2; exit 0; }\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "cc").symlink_to("/bin/true")
    code, line = setup(tree, tmp_path, str(old))
    assert code == 1
    assert line == "error: Python 3.11 or newer is needed; found Python 3.9.2 (set PYTHON=…)"
