"""Compiles the swarm's extension in place: python -m bench.swarm.build

Same language rules as the core. `build()` does nothing when the extension is newer than all its
sources, so whoever wants to use the swarm calls it first.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
BUILT: Final = HERE / f"_swarm{EXTENSION_SUFFIXES[0]}"
LOG: Final = ROOT / "build/log/swarm.txt"
_TIMEOUT_S: Final = 300
_DIRECTIVES: Final = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}
_FLAGS: Final = ["-O2", "-g1", "-std=gnu11", "-fno-omit-frame-pointer", "-Wall", "-Wextra"]
_QUIET: Final = ["-Wno-unused-parameter", "-Wno-missing-field-initializers"]


def sources() -> Iterator[Path]:
    yield from HERE.glob("*.pyx")
    yield Path(__file__)
    for folder in (HERE / "native", ROOT / "edgecache/native"):
        yield from folder.glob("*.pxd")
        yield from folder.glob("*.h")


def is_stale() -> bool:
    return not BUILT.exists() or max(s.stat().st_mtime for s in sources()) > BUILT.stat().st_mtime


def build() -> None:
    """Raises RuntimeError with the compiler's last words. Two builders wait for each other."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_stale():
            return
        command = [sys.executable, "-m", "bench.swarm.build", "--compile"]
        with LOG.open("w") as log:
            done = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=log, timeout=_TIMEOUT_S, check=False
            )
        if done.returncode:
            raise RuntimeError(f"bench.swarm does not build: {LOG.read_text()[-2000:]}")


def _compile() -> None:
    from Cython.Build import cythonize
    from setuptools import Extension, setup

    extension = Extension(
        "bench.swarm._swarm",
        ["bench/swarm/_swarm.pyx"],
        include_dirs=["bench/swarm/native", "edgecache/native"],
        extra_compile_args=[*_FLAGS, *_QUIET],
    )
    setup(
        name="edgecache-swarm",
        packages=[],
        ext_modules=cythonize(
            [extension],
            build_dir="build/cython",
            include_path=["."],
            force=True,
            emit_linenums=True,
            compiler_directives=_DIRECTIVES,
        ),
        script_args=["-q", "build_ext", "--force", "--inplace", "--build-temp=build/swarm"],
    )


if __name__ == "__main__":
    if "--compile" in sys.argv:
        _compile()
    else:
        build()
