"""Lookup, first half: a request target becomes the canonical key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.micro._loops import loop_target
from bench.micro.conftest import OPERATIONS


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b"/live/main/s9k2f0/720p/41.3.m4s", b"/live/main/s9k2f0/720p/41.3.m4s"),
        (b"/live/main/720p.m3u8", b"/live/main/720p.m3u8"),
        (
            b"/live/main/720p.m3u8?_HLS_part=3&_HLS_skip=YES&_HLS_msn=41",
            b"/live/main/720p.m3u8?_HLS_msn=41&_HLS_part=3&_HLS_skip=YES",
        ),
        (b"/live/%6d%61in/a%c3%a4b.m4s", b"/live/main/a%C3%A4b.m4s"),
    ],
    ids=["part", "playlist", "directives", "escapes"],
)
def test_target(per_op: Callable[..., Any], raw: bytes, key: bytes) -> None:
    assert per_op(loop_target, raw) == (OPERATIONS, key)


def test_target_refused(per_op: Callable[..., Any]) -> None:
    accepted, _ = per_op(loop_target, b"/live/main/../720p.m3u8")
    assert accepted == 0
