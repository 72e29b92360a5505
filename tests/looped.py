"""Tests that are coroutines: each runs in a loop of its own, and in bounded time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import ParamSpec

import uvloop

P = ParamSpec("P")
LIMIT_S = 20.0


def looped(case: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """On uvloop, as both daemons run."""

    @functools.wraps(case)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT_S):
                await case(*args, **kwargs)

        uvloop.run(bounded())

    return run
