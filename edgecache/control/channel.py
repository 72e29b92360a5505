"""One end of the connection between a process and its successor: packets with descriptors.

Law: a packet comes whole or not at all (SOCK_SEQPACKET); what is larger than a packet travels in a
memfd, so that nothing is ever half read. Descriptors that came are the receiver's. Bounds:
FDS_MAX descriptors a packet. Does not know what is said.
"""

from __future__ import annotations

import array
import asyncio
import errno
import json
import os
import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

FDS_MAX: Final = 240  # SCM_MAX_FD is 253
_INLINE: Final = 32 << 10
_PACKET: Final = 64 << 10
_AGAIN_S: Final = 0.01


@dataclass(frozen=True)
class Packet:
    """`value`: JSON; `raw`: bytes beside it; `fds`: the receiver's to close."""

    kind: str
    value: Any
    raw: bytes
    fds: list[int]


class Channel:
    """send() and receive() raise OSError or EOFError when the other end is gone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._sending = asyncio.Lock()

    def peer(self) -> tuple[int, int]:
        """(process id, user id) of who made the connection."""
        raw = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        process, user, _ = struct.unpack("iii", raw)
        return process, user

    @property
    def gone(self) -> bool:
        """Is the other end closed? What it sent before that can still be received."""
        if self._sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._sock, 0)  # POLLHUP is told all the same
        return bool(poll.poll(0))

    async def send(
        self, kind: str, value: object = None, *, raw: bytes = b"", fds: Sequence[int] = ()
    ) -> None:
        text = json.dumps(value).encode()
        head = struct.pack("!16sII", kind.encode(), len(text), len(raw))
        async with self._sending:
            if len(text) + len(raw) <= _INLINE:
                await self._send(head + text + raw, fds)
                return
            large = os.memfd_create("edgecache-packet")
            try:
                with os.fdopen(os.dup(large), "wb") as file:
                    file.write(text + raw)
                await self._send(head, (large, *fds))
            finally:
                os.close(large)

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        while True:
            try:
                socket.send_fds(self._sock, [data], fds, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                await self._until(writable=True)
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:  # until the receiver took those under way
                    raise
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def receive(self) -> Packet:
        size = socket.CMSG_SPACE((FDS_MAX + 1) * 4)
        while True:
            try:
                data, control, _, _ = self._sock.recvmsg(_PACKET, size, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._until(writable=False)
            else:
                break
        fds = array.array("i")
        for _, kind, item in control:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(item[: len(item) - len(item) % fds.itemsize])
        if not data:
            raise EOFError("the other process is gone")
        return _packet(data, list(fds))

    async def _until(self, *, writable: bool) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        add = loop.add_writer if writable else loop.add_reader
        add(self._sock, _resolve, ready)
        try:
            await ready
        finally:
            (loop.remove_writer if writable else loop.remove_reader)(self._sock)

    def close(self) -> None:
        self._sock.close()


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _packet(data: bytes, fds: list[int]) -> Packet:
    head = struct.calcsize("!16sII")
    kind, text_len, raw_len = struct.unpack("!16sII", data[:head])
    body = data[head:]
    if not body and text_len + raw_len:
        large = fds.pop(0)
        try:
            body = os.pread(large, text_len + raw_len, 0)
        finally:
            os.close(large)
    value = json.loads(body[:text_len])
    return Packet(kind.rstrip(b"\0").decode(), value, body[text_len:], fds)
