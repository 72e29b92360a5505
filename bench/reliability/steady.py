"""Load that goes on while something is done to a server: what its viewers saw, what quiet
connections cost."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import uvloop

from ..measure import memory

Address = tuple[str, int]

_KEPT: Final = 10  # viewers on one connection
_FRESH: Final = 10  # viewers with a connection for each request
LOAD: Final = _KEPT + _FRESH
_PAUSE_S: Final = 0.005
_CALM_S: Final = 0.4
_LIMIT_S: Final = 10.0
_WALL: Final = 0x40000000  # __WALL of waitpid(2)


def request(path: str, *, close: bool = False) -> bytes:
    last = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: edge.test\r\n{last}\r\n".encode()


async def _answer(reader: asyncio.StreamReader) -> None:
    """Raises IncompleteReadError when the connection ended before or in the answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))


class _Load:
    """Viewers that ask until they are told to stop; `counts`: ok, refused, reset, eof."""

    def __init__(self, address: Address, path: str) -> None:
        self._address = address
        self._path = path
        self._going = True
        self.counts: Counter[str] = Counter()

    def stop(self) -> None:
        self._going = False

    async def view(self, *, kept: bool) -> None:
        while self._going:
            try:
                async with asyncio.timeout(_LIMIT_S):
                    await self._session(kept=kept)
            except ConnectionRefusedError:
                self.counts["refused"] += 1
            except ConnectionError:
                self.counts["reset"] += 1
            except asyncio.IncompleteReadError:
                self.counts["eof"] += 1
            except TimeoutError:
                self.counts["hung"] += 1
            else:
                continue
            await asyncio.sleep(_PAUSE_S)

    async def _session(self, *, kept: bool) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            while self._going:
                writer.write(request(self._path, close=not kept))
                await _answer(reader)
                self.counts["ok"] += 1
                await asyncio.sleep(_PAUSE_S)
                if not kept:
                    return
        finally:
            writer.transport.abort()


def steadily(
    address: Address, path: str, action: Callable[[], bool], times: int
) -> Counter[str] | None:
    """What viewers saw while `action` was done `times` times; None: it says it cannot be done."""
    return uvloop.run(_steadily(_Load(address, path), action, times))


async def _steadily(load: _Load, action: Callable[[], bool], times: int) -> Counter[str] | None:
    viewers = [asyncio.ensure_future(load.view(kept=n < _KEPT)) for n in range(LOAD)]
    done = True
    loop = asyncio.get_running_loop()
    for _ in range(times):
        await asyncio.sleep(_CALM_S)
        done = done and await loop.run_in_executor(None, action)
    await asyncio.sleep(_CALM_S)
    load.stop()
    await asyncio.gather(*viewers)
    return load.counts if done else None


def idle_bytes(address: Address, pid: int, path: str, count: int) -> float:
    """User memory of each of `count` connections that asked once and stay. Only what no file is
    behind: a library's pages are private until another process begins that has it, too."""
    with contextlib.ExitStack() as held:
        _asked(address, path, held, 50)
        before = memory(pid).anonymous
        _asked(address, path, held, count)
        return (memory(pid).anonymous - before) / count


def _asked(address: Address, path: str, held: contextlib.ExitStack, count: int) -> None:
    for _ in range(count):
        sock = held.enter_context(contextlib.closing(socket.create_connection(address, _LIMIT_S)))
        sock.sendall(request(path))
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(65536)
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        left = int(length) - len(head.partition(b"\r\n\r\n")[2])
        while left > 0:
            left -= len(sock.recv(65536))


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """The first thread of a process, wherever it is; its other threads go on (ptrace(2)). Raises
    PermissionError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    attach, detach = 16, 17
    if libc.ptrace(attach, pid, None, None):
        raise PermissionError(ctypes.get_errno(), "ptrace")
    try:
        os.waitpid(pid, _WALL)
        yield
    finally:
        libc.ptrace(detach, pid, None, None)
