"""The child processes of one command: started together, watched, ended in order.

Laws: each child is a session of its own, so that Ctrl-C is for us and we end it in order; it dies
with us, however we die (PR_SET_PDEATHSIG); its output goes to a file. Ending is bounded: SIGTERM,
`grace_s`, then SIGKILL to its whole group. Knows nothing of what the children do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KILLED_S: Final = 2.0  # SIGKILL acts at once, but for a process in an uninterruptible call
_TAIL_BYTES: Final = 16 << 10


@dataclass(frozen=True)
class Child:
    """A running process and the file that has its output."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def tail(self, lines: int = 12) -> list[str]:
        """The last lines of its output."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(self.log.stat().st_size - _TAIL_BYTES, 0))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        return []


async def start(name: str, argv: Sequence[str], log: Path) -> Child:
    """Raises OSError when the program cannot be started."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *_dies_with_parent(),
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(name, process, log)


async def first_gone(children: Sequence[Child]) -> Child:
    """Wait until one of them has exited."""
    waits = {asyncio.create_task(child.process.wait()): child for child in children}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return waits[done.pop()]
    finally:
        for task in waits:
            task.cancel()


async def stop(children: Sequence[Child], grace_s: float) -> None:
    """End them in the order given, each within `grace_s`."""
    for child in children:
        _signal(child, signal.SIGTERM)
        if not await _gone(child, grace_s):
            _signal(child, signal.SIGKILL)
            await _gone(child, _KILLED_S)


async def _gone(child: Child, within_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.process.wait(), within_s)
    return child.process.returncode is not None


def _signal(child: Child, number: signal.Signals) -> None:
    """To the whole group; never to the number of a process that has been reaped."""
    if child.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def _dies_with_parent() -> list[str]:
    """Prefix that sets PR_SET_PDEATHSIG; util-linux has it everywhere we run."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
