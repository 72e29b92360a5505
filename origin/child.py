"""One ffmpeg process and its pipes, on the running event loop.

Laws: it has stdin, stderr and one pipe a track, and inherits nothing else. Input waiting for it is
counted (`queued_bytes`) and the writer must heed `drain`; output is read as it comes and handed on
at once, so a slow consumer must not be called from here. stderr is kept as a bounded ring of lines.
It is confined and dies with us (sandbox.py). Knows nothing of restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from . import sandbox

# One reader that pauses 3 s stalls all renditions with 64 KiB pipes, none with 1 MiB (media.md 6).
_PIPE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 18
_WRITE_BYTES: Final = 1 << 18
_LOG_LINES: Final = 40
_LOG_LINE_CHARS: Final = 300


class Child:
    """Start it with the command that `argv` makes of the write ends of its pipes.

    on_output(track index, bytes) as they come; on_exit(return code) once it is gone and all it
    wrote has been handed on. Neither is called after `on_exit`. background: it gets only the time
    that nobody else wants. Raises OSError if it cannot be started.
    """

    def __init__(
        self,
        argv: Callable[[Sequence[int]], list[str]],
        *,
        tracks: int,
        on_output: Callable[[int, bytes], None],
        on_exit: Callable[[int], None],
        background: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_output = on_output
        self._on_exit = on_exit
        self._queue: deque[memoryview] = deque()
        self._drained = asyncio.Event()
        self._drained.set()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_rest = b""
        self._closing = False
        self.queued_bytes = 0
        self.log_bytes = 0
        self._open: set[int] = set()
        self._held: set[int] = set()
        self._background = background
        self._spawn(argv, tracks)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines of stderr."""
        return tuple(self._log)

    def write(self, data: bytes) -> None:
        """Queue input. After close_input() or death it is dropped."""
        if self._closing or self._input < 0 or not data:
            return
        self._queue.append(memoryview(data))
        self.queued_bytes += len(data)
        self._drained.clear()
        if len(self._queue) == 1:
            self._flush()

    async def drain(self, limit_bytes: int) -> None:
        """Wait until at most `limit_bytes` are queued, or it is dead. The caller sets the
        deadline."""
        while self.queued_bytes > limit_bytes and self._input >= 0:
            self._drained.clear()
            await self._drained.wait()

    def close_input(self) -> None:
        """End of input once the queue is written: it puts out what it holds and exits."""
        self._closing = True
        if not self._queue:
            self._close_input()

    def hold(self, index: int, *, held: bool) -> None:
        """Leave what the track writes in its pipe, which slows it down, or go on. It has not exited
        before all of it is read: whoever ends a child does not hold it."""
        fd = self._outputs[index]
        if fd not in self._open or held == (fd in self._held):
            return
        if held:
            self._held.add(fd)
            self._loop.remove_reader(fd)
        else:
            self._held.discard(fd)
            self._loop.add_reader(fd, self._read, fd, index)

    def kill(self) -> None:
        """SIGKILL; on_exit follows."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def pause(self, paused: bool) -> None:
        """SIGSTOP, or SIGCONT."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def _spawn(self, argv: Callable[[Sequence[int]], list[str]], tracks: int) -> None:
        theirs: list[int] = []
        ours: list[int] = []
        try:
            for index in range(tracks + 2):
                read, write = _pipe()
                ours.append(write if index == 0 else read)
                theirs.append(read if index == 0 else write)
            self._process = subprocess.Popen(
                [*sandbox.prefix(), *argv(theirs[1:-1])],
                stdin=theirs[0],
                stdout=subprocess.DEVNULL,
                stderr=theirs[-1],
                pass_fds=theirs[1:-1],
                env=sandbox.ENVIRONMENT,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for us; we end it in order
            )
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self._confine()
        self._watch(ours)

    def _confine(self) -> None:
        sandbox.limit(self._process.pid)
        if self._background:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(self.pid, os.SCHED_IDLE, os.sched_param(0))

    def _watch(self, fds: list[int]) -> None:
        for fd in fds:
            os.set_blocking(fd, False)
        self._input, *outputs, errors = fds
        self._outputs = tuple(outputs)
        self._exit = os.pidfd_open(self._process.pid)
        self._open = {*outputs, errors, self._exit}
        for index, fd in enumerate(outputs):
            self._loop.add_reader(fd, self._read, fd, index)
        self._loop.add_reader(errors, self._read_log, errors)
        self._loop.add_reader(self._exit, self._exited)

    def _flush(self) -> None:
        """Write what the pipe takes; wait for room when it takes no more."""
        try:
            while self._queue:
                written = os.write(self._input, self._queue[0][:_WRITE_BYTES])
                self.queued_bytes -= written
                if written == len(self._queue[0]):
                    self._queue.popleft()
                else:
                    self._queue[0] = self._queue[0][written:]
        except BlockingIOError:
            self._loop.add_writer(self._input, self._flush)
        except BrokenPipeError:
            self._close_input()
        else:
            self._loop.remove_writer(self._input)
            if self._closing:
                self._close_input()
        self._drained.set()

    def _close_input(self) -> None:
        if self._input < 0:
            return
        self._loop.remove_writer(self._input)
        os.close(self._input)
        self._input = -1
        self._queue.clear()
        self.queued_bytes = 0
        self._drained.set()

    def _read(self, fd: int, index: int) -> None:
        if data := self._take(fd):
            self._on_output(index, data)

    def _read_log(self, fd: int) -> None:
        data = self._take(fd)
        self.log_bytes += len(data)
        *lines, rest = (self._log_rest + data).split(b"\n")
        self._log_rest = rest[-_LOG_LINE_CHARS:]
        self._log.extend(line[:_LOG_LINE_CHARS].decode("utf-8", "replace") for line in lines)

    def _take(self, fd: int) -> bytes:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            self._done(fd)
        return data

    def _exited(self) -> None:
        self._process.wait()
        self._close_input()
        self._done(self._exit)

    def _done(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        os.close(fd)
        self._open.discard(fd)
        if not self._open:
            self._on_exit(self._process.returncode)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    # Refused beyond the user's pipe pages: then it works, only less patiently.
    with contextlib.suppress(OSError):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return read, write
