"""`edgecache serve --supervise` as a child process, and what a test does to what serves."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.running import Edge


@dataclass
class Supervised(Edge):
    """`process` is the parent."""

    command: tuple[str, ...] = ("-m", "edgecache", "serve", "--supervise")

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def serving(self) -> int:
        """The only one with threads: the next one, which stands by, has none."""
        (found,) = [pid for pid in self.children() if len(os.listdir(f"/proc/{pid}/task")) > 1]
        return found

    def stand_still(self) -> int:
        """What serves, once each of its threads has stopped."""
        child = self.serving()
        os.kill(child, signal.SIGSTOP)
        while any(
            " T " not in file.read_text() for file in Path(f"/proc/{child}").glob("task/*/stat")
        ):
            time.sleep(0.001)
        return child

    def kill(self) -> None:
        """What serves; returns when the next one does."""
        os.kill(self.serving(), signal.SIGKILL)
        self.logged("serving")

    def __exit__(self, *_: object) -> None:
        left = self.children() if self.process.poll() is None else []
        self.process.kill()
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        super().__exit__()
