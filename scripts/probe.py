"""Compiles a test-only extension in place: private native code as the tests see it.

Usage: python scripts/probe.py tests/native/_probe.pyx. Same language rules as the core in
setup.py, with debug counters on and no optimisation that hides a frame; never part of the package.
"""

from __future__ import annotations

import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}
FLAGS = ["-O1", "-g", "-std=gnu11", "-fno-omit-frame-pointer", "-DEC_DEBUG=1", "-Wall"]


def main(source: Path) -> None:
    """Leaves <stem>.so in the source's directory, intermediate files under build/."""
    probe = Extension(
        source.stem,
        [str(source)],
        include_dirs=["edgecache/native", str(source.parent)],
        extra_compile_args=FLAGS,
    )
    setup(
        name="edgecache-probe",
        packages=[],
        ext_modules=cythonize(
            [probe],
            build_dir="build/cython",
            include_path=["."],
            force=True,
            emit_linenums=True,
            compiler_directives=DIRECTIVES,
        ),
        script_args=[
            "-q",
            "build_ext",
            "--force",
            f"--build-temp=build/probe/{source.stem}",
            f"--build-lib={source.parent}",
        ],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
