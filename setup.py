"""Builds edgecache._core, the only extension module; all metadata is in pyproject.toml.

EDGECACHE_DEBUG=1 compiles for the debugger with live-object counters; EDGECACHE_SANITIZE=address
or thread instruments the build (the sanitizer's runtime must be preloaded to run it).
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

NATIVE = Path("edgecache/native")
PARTS = [*NATIVE.glob("*.pxd"), *NATIVE.glob("*.h"), *Path("edgecache/face").glob("*.pxi")]
DEBUG = os.environ.get("EDGECACHE_DEBUG", "") == "1"
SANITIZE = os.environ.get("EDGECACHE_SANITIZE", "")
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
RELEASE = ["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong"]
UNOPTIMISED = ["-O0", "-g3", "-U_FORTIFY_SOURCE", "-DEC_DEBUG=1"]

if SANITIZE not in {"", "address", "thread"}:
    raise SystemExit(f"EDGECACHE_SANITIZE: found {SANITIZE!r}, allowed: address, thread")

flags = ["-std=gnu11", "-fno-omit-frame-pointer", "-fvisibility=hidden", *WARNINGS]
flags += UNOPTIMISED if DEBUG else RELEASE
sanitizer = [f"-fsanitize={SANITIZE}"] if SANITIZE else []

core = Extension(
    "edgecache._core",
    ["edgecache/_core.pyx"],
    depends=sorted(map(str, PARTS)),
    include_dirs=[str(NATIVE)],
    extra_compile_args=[*flags, *sanitizer],
    extra_link_args=sanitizer,
)
setup(
    ext_modules=cythonize(
        [core],
        build_dir="build/cython",  # a .c beside the source would shadow the next build
        emit_linenums=True,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
)
