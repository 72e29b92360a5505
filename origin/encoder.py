"""Keeps one ffmpeg running for one stream, for as long as its publisher sends.

Laws: never two at a time; a dead or silent one is replaced, warm, by asking `launch` for what the
next one needs, which is told how often lives were lost, by reason. Silent means: input came and no
output for `stall_s` (`start_s` for the first output). The first restart is immediate, then they
back off, doubling up to `backoff_max_s`; `attempts` of them without `healthy_s` of life in between,
and it has failed for good. Input is bounded by `drain`. Does not know FLV, fMP4 or the timeline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .child import Child

log = logging.getLogger(__name__)

State = Literal["idle", "running", "waiting", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One life of an encoder: its command (from the pipes' numbers), how many tracks, its first
    input."""

    argv: Callable[[Sequence[int]], list[str]]
    tracks: int
    replay: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    stall_s: float = 2.0
    start_s: float = 5.0  # a cold start on a loaded machine
    stop_s: float = 2.0  # to put out what it holds
    backoff_s: float = 0.1
    backoff_max_s: float = 5.0
    healthy_s: float = 10.0
    attempts: int = 10
    input_bytes: int = 4 << 20  # beyond it drain() waits: the publisher is slowed down


class Encoder:
    """start(), write() and await drain(), then await stop(). on_output(track index, bytes) never
    runs between two lives' launch() calls for the older one. on_failed(reason): it will not come
    back."""

    def __init__(
        self,
        *,
        name: str,
        launch: Callable[[Counter[str]], Launch],
        on_output: Callable[[int, bytes], None],
        on_failed: Callable[[str], None],
        limits: Limits | None = None,
    ) -> None:
        self._name = name
        self._launch = launch
        self._on_output = on_output
        self._on_failed = on_failed
        self._limits = limits or Limits()
        self._loop = asyncio.get_running_loop()
        self._child: Child | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._unanswered_s: float | None = None  # since when input waits for output
        self._started_s = 0.0
        self._failures = 0
        self._reason = ""
        self._its_fault = True
        self._answered = False
        self.state: State = "idle"
        self.restarts: Counter[str] = Counter()
        self.first_output_s: float | None = None  # start to first output, of the newest life

    @property
    def pid(self) -> int | None:
        """Of the ffmpeg that runs now."""
        return self._child.pid if self._child else None

    @property
    def queued_bytes(self) -> int:
        """Input that ffmpeg has not taken."""
        return self._child.queued_bytes if self._child else 0

    @property
    def log(self) -> tuple[str, ...]:
        """Last lines of the running ffmpeg's stderr."""
        return self._child.log if self._child else ()

    def start(self) -> None:
        """Begin the next life now. Only when idle or waiting."""
        self._cancel_timer()
        launch = self._launch(self.restarts)
        self._answered, self.first_output_s = False, None
        self._reason, self._its_fault = "", True
        self._started_s = self._loop.time()
        self._gone.clear()
        try:
            self._child = Child(
                launch.argv, tracks=launch.tracks, on_output=self._output, on_exit=self._exited
            )
        except OSError as error:
            self._lost(f"start: {error.strerror}")
            return
        self.state = "running"
        self._unanswered_s = None
        self.write(launch.replay)
        self._timer = self._loop.call_later(self._limits.stall_s / 8, self._watch)

    def write(self, data: bytes) -> None:
        """Input for the running life; without one it is dropped, since the next replay has it."""
        if self._child is None or not data:
            return
        if self._unanswered_s is None:
            self._unanswered_s = self._loop.time()
        self._child.write(data)

    async def drain(self) -> None:
        """Wait while more than `input_bytes` are queued. Bounded by the watchdog, which kills what
        hangs."""
        if self._child is not None:
            await self._child.drain(self._limits.input_bytes)

    def restart(self, reason: str, *, its_fault: bool = True) -> None:
        """Kill it and begin the next life; a fault counts towards back-off and ceiling."""
        self._reason, self._its_fault = reason, its_fault
        if self._child is not None:
            self._child.kill()

    async def stop(self) -> None:
        """End of input; wait `stop_s` for the last output, then kill. Idempotent."""
        self.state = "stopped"
        self._cancel_timer()
        if self._child is None:
            return
        self._child.close_input()
        try:
            await asyncio.wait_for(self._gone.wait(), self._limits.stop_s)
        except TimeoutError:
            if self._child is not None:
                self._child.kill()
            await self._gone.wait()
        except asyncio.CancelledError:
            self._on_output = lambda _track, _data: None  # nobody waits for its rest any more
            if self._child is not None:
                self._child.kill()
            raise

    def _output(self, track: int, data: bytes) -> None:
        self._unanswered_s = None
        if not self._answered:
            self._answered = True
            self.first_output_s = self._loop.time() - self._started_s
        self._on_output(track, data)

    def _watch(self) -> None:
        allowed = self._limits.stall_s if self._answered else self._limits.start_s
        now = self._loop.time()
        if self._unanswered_s is not None and now - self._unanswered_s > allowed:
            self.restart("stall")
            return
        if self._failures and now - self._started_s > self._limits.healthy_s:
            self._failures = 0
        self._timer = self._loop.call_later(self._limits.stall_s / 8, self._watch)

    def _exited(self, code: int) -> None:
        child, self._child = self._child, None
        self._gone.set()
        if self.state == "stopped":
            return
        self._cancel_timer()
        # A signal's number is negative.
        self._lost(self._reason or ("exit" if code >= 0 else "signal"), code, child)

    def _lost(self, reason: str, code: int = 0, child: Child | None = None) -> None:
        self.restarts[reason.partition(":")[0]] += 1
        log.warning(
            "encoder lost",
            extra={
                "stream": self._name,
                "reason": reason,
                "code": code,
                "stderr": " | ".join(child.log[-3:]) if child else "",
            },
        )
        if not self._its_fault:
            self.start()
            return
        self._failures += 1
        if self._failures > self._limits.attempts:
            self.state = "failed"
            self._on_failed(f"encoder failed {self._failures} times: {reason}")
            return
        self.state = "waiting"
        if self._failures == 1:
            self.start()
            return
        delay_s = self._limits.backoff_s * 2 ** (self._failures - 2)
        self._timer = self._loop.call_later(min(delay_s, self._limits.backoff_max_s), self.start)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
