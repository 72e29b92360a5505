"""Each module stands alone, the command line starts fast, and what is imported is declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("edgecache", "origin")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__main__.py"
)
# Import name of a distribution where the two differ.
DISTRIBUTION = {
    "OpenSSL": "pyopenssl",
    "http_sf": "http-sf",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "nats": "nats-py",
    "prometheus_client": "prometheus-client",
    "pydantic_core": "pydantic",
}
SLOW = {"aiohttp", "pydantic_settings", "prometheus_client", "uvloop"}


# Imports what is not ours, then each of ours in a fork of its own, where none of ours is loaded:
# an interpreter for each of 200 spends 25 s on the imports of others.
ALONE = """import importlib, os, sys, traceback
others, ours = (names.split(",") for names in sys.argv[1:])
for name in others:
    importlib.import_module(name)
assert not {"edgecache", "origin"} & {name.partition(".")[0] for name in sys.modules}
for name in ours:
    if os.fork() == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if ended := os.wait()[1]:
        print(f"{name}: {ended}", file=sys.stderr)
"""


def fresh(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)


def test_each_module_imports_alone() -> None:
    others = ",".join(sorted(imported()))
    with ThreadPoolExecutor(2) as pool:
        halves = [",".join(MODULES[half::2]) for half in (0, 1)]
        runs = list(pool.map(lambda half: fresh(ALONE, others, half), halves))
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 2


@pytest.mark.parametrize("module", ["edgecache.cli", "origin.cli"])
def test_help_imports_nothing_slow(module: str) -> None:
    """A command line is judged in its first second; aiohttp alone takes 0.2 of it."""
    run = fresh(
        f"import sys; sys.argv = ['x', '--help']\n"
        f"from {module} import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert SLOW & set(run.stdout.rsplit("MODULES", 1)[1].split()) == set()


def imported() -> set[str]:
    """Packages of others that ours import, whatever the scope."""
    ours = {"edgecache", "origin", "__future__"}
    found: set[str] = set()
    for package in ("edgecache", "origin"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.split(".")[0])
    return found - ours - sys.stdlib_module_names


def test_dependencies_are_those_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    needed = {DISTRIBUTION.get(name, name) for name in imported()}
    assert {re.split(r"[<>=!~ \[]", line)[0] for line in listed} == needed


def test_dependencies_are_pinned_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = (ROOT / "requirements/run.txt").read_text()
    for line in [*project["project"]["dependencies"], *project["build-system"]["requires"]]:
        name = re.split(r"[<>=!~ \[]", line)[0]
        assert re.search(rf"^{name}==\S+ \\\n\s+--hash=sha256:", pinned, re.MULTILINE), name
    for line in project["build-system"]["requires"]:
        assert f"\n{line} " in f"\n{pinned}", f"{line}: another version is pinned"
