"""Compiles the loops' extension in place: python -m bench.micro.build

Same language rules and the same optimisation as the core in setup.py, so that what is timed is what
is shipped. `build()` does nothing when the extension is newer than all its sources.
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
BUILT: Final = HERE / f"_loops{EXTENSION_SUFFIXES[0]}"
LOG: Final = ROOT / "build/log/micro.txt"
_TIMEOUT_S: Final = 300
_DIRECTIVES: Final = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}
_RELEASE: Final = ["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong"]
_FLAGS: Final = [*_RELEASE, "-std=gnu11", "-fno-omit-frame-pointer", "-Wall"]


def _sources() -> Iterator[Path]:
    yield Path(__file__)
    yield from HERE.glob("*.pyx")
    yield from (HERE / "loops").glob("*.pxi")
    for pattern in ("*.pxd", "*.h"):
        yield from (ROOT / "edgecache/native").glob(pattern)


def is_stale() -> bool:
    return not BUILT.exists() or max(s.stat().st_mtime for s in _sources()) > BUILT.stat().st_mtime


def build() -> None:
    """Raises RuntimeError with the compiler's last words. Two builders wait for each other."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_stale():
            return
        command = [sys.executable, "-m", "bench.micro.build", "--compile"]
        with LOG.open("w") as log:
            done = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=log, timeout=_TIMEOUT_S, check=False
            )
        if done.returncode:
            raise RuntimeError(f"bench.micro does not build: {LOG.read_text()[-2000:]}")


def _compile() -> None:
    from Cython.Build import cythonize
    from setuptools import Extension, setup

    extension = Extension(
        "bench.micro._loops",
        ["bench/micro/_loops.pyx"],
        include_dirs=["edgecache/native"],
        extra_compile_args=_FLAGS,
    )
    setup(
        name="edgecache-micro",
        packages=[],
        ext_modules=cythonize(
            [extension],
            build_dir="build/cython",
            include_path=["."],
            force=True,
            emit_linenums=True,
            compiler_directives=_DIRECTIVES,
        ),
        script_args=["-q", "build_ext", "--force", "--inplace", "--build-temp=build/micro"],
    )


if __name__ == "__main__":
    if "--compile" in sys.argv:
        _compile()
    else:
        build()
