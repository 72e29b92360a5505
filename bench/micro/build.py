"""The loops' extension: python -m bench.micro.build

The same optimisation as the core in setup.py, so that what is timed is what is shipped.
"""

from __future__ import annotations

from typing import Final

from ..extension import Extension

_RELEASE: Final = ["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong"]
_LOOPS: Final = Extension(
    "bench.micro._loops", [*_RELEASE, "-std=gnu11", "-fno-omit-frame-pointer", "-Wall"]
)


def build() -> None:
    """As Extension.build."""
    _LOOPS.build()


if __name__ == "__main__":
    build()
