"""Waking everybody who waits for the same thing.

Law: firing costs the same for one waiter and for ten thousand. Owner: the loop's thread. Does not
know what is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Signal:
    """Wakes everybody who waits now. One future for all: firing costs the same for one and for ten
    thousand."""

    __slots__ = ("_closed", "_future")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._closed = False

    def fire(self) -> None:
        if self._future and not self._future.done():
            self._future.set_result(None)
        self._future = None

    def close(self) -> None:
        """Wake everybody with nothing; later waits return False at once."""
        self._closed = True
        self.fire()

    async def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `ready()` holds, looking after each `fire`. False after `timeout_s`, or
        closed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not ready():
            if self._closed:
                return False
            if self._future is None:
                self._future = loop.create_future()
            try:
                async with asyncio.timeout_at(deadline):
                    await asyncio.shield(self._future)
            except TimeoutError:
                return False
        return True
