"""Tests that are coroutines: each runs in a loop of its own, and in bounded time. Waiting, too."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import ParamSpec

import uvloop

P = ParamSpec("P")
LIMIT_S = 20.0


def looped(
    case: Callable[P, Coroutine[object, object, None]], limit_s: float = LIMIT_S
) -> Callable[P, None]:
    """On uvloop, as both daemons run."""

    @functools.wraps(case)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(limit_s):
                await case(*args, **kwargs)

        uvloop.run(bounded())

    return run


async def eventually(met: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for what nobody announces. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            if met():
                return
            await asyncio.sleep(0.002)
