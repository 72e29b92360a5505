"""A way out for lines that nobody waits for: stderr, whose reader may be slow, stand still or be
gone.

Law: a line is written at once, by whoever has it, as long as that waits for nobody. From the first
one that would, lines wait in their order for a thread, which ends when it has written them all.
What finds no room is dropped and counted, and so is all that follows until then: the place of what
is missing is where a line says how many. A reader that is gone, or a disk that is full, drops what
it is given. The descriptor's own mode is not ours to change: other processes write to it too.
Bounds: bytes that wait, seconds at the end. Does not know what it writes.
"""

from __future__ import annotations

import os
import select
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

_WAITING_BYTES: Final = 1 << 20
_END_S: Final = 1.0


class Outlet:
    """write() lines; at the end close(). `notice(n)`: the line that says that n were dropped.
    `counts`: lines_written, lines_dropped."""

    def __init__(
        self,
        fd: int,
        notice: Callable[[int], str],
        counts: Counter[str],
        *,
        waiting_bytes: int = _WAITING_BYTES,
    ) -> None:
        self._fd = fd
        self._notice = notice
        self._counts = counts
        self._limit = waiting_bytes
        self._writable = select.poll()
        self._writable.register(fd, select.POLLOUT)
        self._changed = threading.Condition()  # re-entrant: garbage that is collected logs, too
        self._lines: deque[bytes] = deque()
        self._bytes = 0  # of them
        self._untold = 0  # dropped since the last notice
        self._running = False  # the thread

    def write(self, text: str) -> None:
        line = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if not self._running:
                try:
                    line = line[self._at_once(line) :]
                except OSError:
                    self._counts["lines_dropped"] += 1
                    return
            if not line:
                self._counts["lines_written"] += 1
                return
            if self._untold or (self._lines and self._bytes + len(line) > self._limit):
                self._drop(1)
            else:
                self._lines.append(line)
                self._bytes += len(line)
            self._start()

    def flush(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """What waits is written, for as long as the end may take."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running, _END_S)

    def _at_once(self, line: bytes) -> int:
        """How many bytes are taken without waiting."""
        try:
            return os.pwritev(self._fd, [line], -1, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            # Pipes and sockets know it since Linux 6.4, terminals and some disks never will. poll()
            # says as much, unless another process fills what is left of a pipe in between.
            return os.write(self._fd, line[: select.PIPE_BUF]) if self._writable.poll(0) else 0

    def _drop(self, lines: int) -> None:
        self._counts["lines_dropped"] += lines
        self._untold += lines

    def _start(self) -> None:
        if self._running:
            return
        try:
            threading.Thread(target=self._run, name="log", daemon=True).start()
            self._running = True  # it has to wait for us until then
        except RuntimeError:  # there can be no thread more: one of the next lines tries again
            self._drop(len(self._lines))
            self._lines.clear()
            self._bytes = 0

    def _run(self) -> None:
        while line := self._next():
            outcome = "lines_written"
            try:
                while line:
                    line = line[self._in_time(line) :]
            except OSError:
                outcome = "lines_dropped"
            with self._changed:
                self._counts[outcome] += 1

    def _in_time(self, line: bytes) -> int:
        """How many bytes are taken, however long that takes."""
        self._writable.poll()  # whoever shares it may have made it non-blocking
        return os.write(self._fd, line)

    def _next(self) -> bytes:
        """The oldest, or the notice of what is missing behind it; nothing: the thread ends."""
        with self._changed:
            if self._lines:
                line = self._lines.popleft()
                self._bytes -= len(line)
                return line
            if self._untold:
                untold, self._untold = self._untold, 0
                return self._notice(untold).encode()
            self._running = False
            self._changed.notify_all()
            return b""
