"""An extension module of the bench, compiled in place when it is older than its sources.

Same language rules as the core in setup.py. The compiler runs in a process of its own, since
setuptools takes the whole one; two who build the same wait for each other.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
NATIVE: Final = "edgecache/native"
_TIMEOUT_S: Final = 300
_DIRECTIVES: Final = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}


@dataclass(frozen=True, slots=True)
class Extension:
    """`module` (dotted) from the .pyx of its name; `include`: folders below the root."""

    module: str
    flags: list[str]
    include: list[str] = field(default_factory=lambda: [NATIVE])

    @property
    def source(self) -> Path:
        return ROOT / f"{self.module.replace('.', '/')}.pyx"

    @property
    def built(self) -> Path:
        return self.source.with_name(self.source.stem + EXTENSION_SUFFIXES[0])

    @property
    def name(self) -> str:
        return self.source.parent.name

    def is_stale(self) -> bool:
        """Older than this, than what stands beside it, or than a native file that it includes."""
        if not self.built.exists():
            return True
        own = self.source.parent
        sources = [Path(__file__), own / "build.py", *own.glob("*.pyx"), *own.rglob("*.pxi")]
        for folder in self.include:
            sources += [*(ROOT / folder).glob("*.pxd"), *(ROOT / folder).glob("*.h")]
        return max(each.stat().st_mtime for each in sources) > self.built.stat().st_mtime

    def build(self) -> None:
        """Nothing when it is up to date. Raises RuntimeError with the compiler's last words."""
        log = ROOT / f"build/log/{self.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.is_stale():
                return
            command = [sys.executable, "-m", "bench.extension", json.dumps(asdict(self))]
            with log.open("w") as out:
                done = subprocess.run(
                    command, cwd=ROOT, stdout=out, stderr=out, timeout=_TIMEOUT_S, check=False
                )
            if done.returncode:
                raise RuntimeError(f"{self.module} does not build: {log.read_text()[-2000:]}")


def _compile(extension: Extension) -> None:
    import setuptools
    from Cython.Build import cythonize

    made = setuptools.Extension(
        extension.module,
        [str(extension.source.relative_to(ROOT))],
        include_dirs=extension.include,
        extra_compile_args=extension.flags,
    )
    setuptools.setup(
        name=f"edgecache-{extension.name}",
        packages=[],
        ext_modules=cythonize(
            [made],
            build_dir="build/cython",
            include_path=["."],
            force=True,
            emit_linenums=True,
            compiler_directives=_DIRECTIVES,
        ),
        script_args=[
            "-q",
            "build_ext",
            "--force",
            "--inplace",
            f"--build-temp=build/{extension.name}",
        ],
    )


if __name__ == "__main__":
    _compile(Extension(**json.loads(sys.argv[1])))
