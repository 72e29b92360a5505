"""Live values: what every parked exchange is judged by, and what a publish renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from bench.micro._loops import loop_judge, loop_rendering, loop_version
from bench.micro.conftest import OPERATIONS

_BODIES: Final = [b"f" * 4096, b"g" * 1024, b"d" * 1024, b"e" * 512, b"D" * 512, b"E" * 256]
_VERSIONS: Final = 10_000


@pytest.mark.parametrize(
    ("want", "verdict"), [((10, 1), 0), ((10, 2), 1), ((12, 0), 2)], ids=["ready", "wait", "bad"]
)
def test_judge(per_op: Callable[..., Any], want: tuple[int, int], verdict: int) -> None:
    verdicts = per_op(loop_judge, (10, 2, 6, 9), want)
    assert verdicts[verdict] == sum(verdicts) == OPERATIONS


def test_rendering(per_op: Callable[..., Any]) -> None:
    assert per_op(loop_rendering, _BODIES, True, True) == len(_BODIES[3]) * OPERATIONS


def test_version(per_op: Callable[..., Any]) -> None:
    """All variants with their heads, made and freed."""
    fields = b"Content-Type: application/vnd.apple.mpegurl\r\nCache-Control: max-age=1\r\n"
    charged, left = per_op(loop_version, _BODIES, fields, b"0123456789abcdef", n=_VERSIONS)
    assert charged > sum(map(len, _BODIES))
    assert left == 0
