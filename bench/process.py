"""Processes the bench starts: spawned in a session of their own, awaited, and always ended.

Laws. A process is ended by its id and the ids of its descendants, never by name. Its output goes to
a file whose tail is part of the error when it dies. Every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from .errors import BenchError

START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 3.0
_LISTEN: Final = "0A"  # TCP state in /proc/net/tcp


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{entry}/stat").read_text()
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo.extend(children.get(found[-1], ()))
    return found


def tail(path: Path, lines: int = 5) -> str:
    try:
        return " | ".join(path.read_text(errors="replace").strip().splitlines()[-lines:])
    except OSError:
        return ""


def compiled(source: Path, binary: Path) -> Path:
    """A C program of one file. Raises BenchError with the compiler's words."""
    done = subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-o", str(binary), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"{source.name} does not compile: {done.stderr.strip()}")
    return binary


@contextlib.contextmanager
def spawned(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running process; ended with all its descendants when the block is left."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    family = tree(process.pid) if process.poll() is None else []
    if family:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while any(is_alive(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.005)  # their sockets are gone only when they are


def is_alive(pid: int) -> bool:
    """Whether the process still runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def is_listening(pid: int, port: int) -> bool:
    """Whether somebody listens on `port` in the network namespace of process `pid`."""
    wanted = f"{port:04X}"
    rows: list[str] = []
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            rows += Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]
    fields = (row.split() for row in rows)
    return any(f[1].endswith(f":{wanted}") and f[3] == _LISTEN for f in fields)


def await_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns when the port is open. Raises BenchError with the log's tail when it never is."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"exited with {process.returncode} at start: {tail(log)}")
        if is_listening(process.pid, port):
            return
        time.sleep(0.02)
    raise BenchError(f"not listening on {port} after {START_TIMEOUT_S:.0f} s: {tail(log)}")
