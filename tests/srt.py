"""SRT from the other end: a caller by libsrt that says what it was refused with, and a network in
between that loses datagrams and changes addresses."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import socket
import struct
from collections.abc import AsyncIterator

from origin import libsrt

_CONNECT_TIMEOUT, _PASSPHRASE, _STREAM_ID = 36, 26, 46


class Caller:
    """One connection, or an attempt at one: `code` is 0, or why it was refused."""

    def __init__(self, port: int, stream_id: str, passphrase: str = "") -> None:
        self._library = library = libsrt.load()
        library.srt_startup()
        library.srt_setloglevel(2)
        self._handle = library.srt_create_socket()
        for option, text in ((_STREAM_ID, stream_id), (_PASSPHRASE, passphrase)):
            if text:
                library.srt_setsockflag(self._handle, option, text.encode(), len(text))
        timeout_ms = ctypes.c_int(5000)
        library.srt_setsockflag(self._handle, _CONNECT_TIMEOUT, ctypes.byref(timeout_ms), 4)
        where = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port)
        where += socket.inet_aton("127.0.0.1") + bytes(8)
        said = library.srt_connect(self._handle, where, len(where))
        self.code = library.srt_getrejectreason(self._handle) if said < 0 else 0

    def send(self, message: bytes) -> bool:
        return bool(self._library.srt_sendmsg2(self._handle, message, len(message), None) > 0)

    @property
    def unsent(self) -> int:
        """Messages that the listener has not acknowledged."""
        return int(self._library.srt_getsndbuffer(self._handle, None, None))

    @property
    def state(self) -> int:
        """5 is connected, 6 broken."""
        return int(self._library.srt_getsockstate(self._handle))

    def close(self) -> None:
        self._library.srt_close(self._handle)
        self._library.srt_cleanup()


@contextlib.asynccontextmanager
async def calling(port: int, stream_id: str, passphrase: str = "") -> AsyncIterator[Caller]:
    caller = await asyncio.to_thread(Caller, port, stream_id, passphrase)
    try:
        yield caller
    finally:
        await asyncio.to_thread(caller.close)


async def refused(port: int, stream_id: str, passphrase: str = "") -> int:
    """The code that a caller is told; 0 if it was let in."""
    async with calling(port, stream_id, passphrase) as caller:
        return caller.code


class Network:
    """One caller's datagrams to `port` and back; `loss` of both ways never arrive, from now on."""

    def __init__(self, port: int, loss: float, seed: int = 1) -> None:
        self._port = port
        self.loss = loss
        self._random = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._caller: tuple[str, int] = ("", 0)
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("127.0.0.1", 0))
        self._near.setblocking(False)
        self._loop.add_reader(self._near, self._from_caller)
        self._far = self._outgoing()
        self.lost = 0
        self.port = self._near.getsockname()[1]

    def move(self) -> None:
        """From now on the caller is seen at another address."""
        self._close(self._far)
        self._far = self._outgoing()

    def close(self) -> None:
        self._close(self._near)
        self._close(self._far)

    def _close(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        sock.close()

    def _outgoing(self) -> socket.socket:
        far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        far.connect(("127.0.0.1", self._port))
        far.setblocking(False)
        self._loop.add_reader(far, self._to_caller, far)
        return far

    def _loses(self) -> bool:
        lost = self._random.random() < self.loss
        self.lost += lost
        return lost

    def _from_caller(self) -> None:
        data, self._caller = self._near.recvfrom(2048)
        if not self._loses():
            with contextlib.suppress(OSError):
                self._far.send(data)

    def _to_caller(self, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = far.recv(2048)
            if not self._loses():
                self._near.sendto(data, self._caller)
