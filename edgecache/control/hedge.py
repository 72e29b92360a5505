"""Hedging: when an answer is late, somebody else is asked beside, and the better one counts.

Law: two at once at most; who loses is cancelled. Does not know what is asked for, who may be asked,
nor what late is (pace.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .upstream import Origin

T = TypeVar("T")


async def hedged(
    ask: Callable[[Origin], Coroutine[Any, Any, T]],
    origin: Origin,
    late_s: float | None,
    other: Callable[[], Origin | None],
) -> T:
    """What `origin` answers, or `other()` if that is asked after `late_s` and is better. Raises
    what ended the last of them."""
    if late_s is None:
        return await ask(origin)
    asked = [asyncio.create_task(ask(origin))]
    failed: list[asyncio.Task[T]] = []
    try:
        done, _ = await asyncio.wait(asked, timeout=late_s)
        if not done and (spare := other()) is not None:
            asked.append(asyncio.create_task(ask(spare)))
        pending = set(asked)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in (task for task in done if not task.cancelled()):
                if task.exception() is None:
                    return task.result()
                failed.append(task)
        return failed[-1].result()
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        asked.clear()
        failed.clear()  # or their tracebacks would hold this frame, and what it fills
