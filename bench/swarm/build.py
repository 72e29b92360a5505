"""The swarm's extension: python -m bench.swarm.build

Whoever wants to use the swarm calls `build()` first.
"""

from __future__ import annotations

from typing import Final

from ..extension import NATIVE, Extension

_FLAGS: Final = ["-O2", "-g1", "-std=gnu11", "-fno-omit-frame-pointer", "-Wall", "-Wextra"]
_QUIET: Final = ["-Wno-unused-parameter", "-Wno-missing-field-initializers"]
_SWARM: Final = Extension(
    "bench.swarm._swarm", [*_FLAGS, *_QUIET], include=["bench/swarm/native", NATIVE]
)


def build() -> None:
    """As Extension.build."""
    _SWARM.build()


if __name__ == "__main__":
    build()
