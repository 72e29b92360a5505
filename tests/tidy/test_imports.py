"""Each module stands alone, the command line starts fast, and what is imported is declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
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
    "http_sf": "http-sf",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "nats": "nats-py",
    "prometheus_client": "prometheus-client",
    "pydantic_core": "pydantic",
}
SLOW = {"aiohttp", "pydantic_settings", "prometheus_client", "uvloop"}


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)


def test_each_module_imports_alone() -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda name: (name, fresh(f"import {name}")), MODULES)
        broken = {name: run.stderr[-500:] for name, run in runs if run.returncode}
    assert broken == {}


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


def third_party() -> set[str]:
    """Distributions that both packages import, whatever the scope."""
    ours = {"edgecache", "origin", "__future__"}
    found: set[str] = set()
    for package in ("edgecache", "origin"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.split(".")[0])
    return {DISTRIBUTION.get(name, name) for name in found - ours - sys.stdlib_module_names}


def test_dependencies_are_those_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["ffmpeg"]]
    assert {re.split(r"[<>=!~ \[]", line)[0] for line in listed} == third_party()


def test_dependencies_are_pinned_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = (ROOT / "requirements/run.txt").read_text()
    for line in [*project["project"]["dependencies"], *project["build-system"]["requires"]]:
        name = re.split(r"[<>=!~ \[]", line)[0]
        assert re.search(rf"^{name}==\S+ \\\n\s+--hash=sha256:", pinned, re.MULTILINE), name
    for line in project["build-system"]["requires"]:
        assert f"\n{line} " in f"\n{pinned}", f"{line}: another version is pinned"
