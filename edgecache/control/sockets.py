"""Listening sockets, made before anything else starts.

Law: an address that is taken is an error, never shared by accident: SO_REUSEPORT alone would let a
second daemon steal half of the connections.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Sequence
from typing import Final

from ..errors import EdgeError
from ..fields import split_address

_BACKLOG: Final = 4096
_ROOM_MAX: Final = 1 << 16  # descriptors; 8 bytes of the kernel's memory each


class ListenError(EdgeError):
    """An address cannot be listened on; the message names the setting."""

    source = "config"


def make_room(connections: int) -> None:
    """Let the process's table of descriptors have its size before it is needed. It doubles when it
    is full, and where threads share it that waits for an RCU grace period, inside accept4(): of 500
    newcomers everybody who was served already waited for 8 to 12 ms."""
    with socket.socket() as any_descriptor, contextlib.suppress(OSError):
        last = min(connections, _ROOM_MAX) - 1
        os.close(fcntl.fcntl(any_descriptor, fcntl.F_DUPFD_CLOEXEC, last))


def listen(setting: str, address: str, count: int = 1) -> list[socket.socket]:
    """`count` sockets on one address, which the kernel balances. Port 0: one free port for all.
    `unix:/path`: one socket that only our own user may connect to."""
    if address.startswith("unix:"):
        return [_listen_unix(setting, address.removeprefix("unix:"))]
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            _bind(probe, where, reuse_port=False)
            where = where if port else probe.getsockname()
        sockets = [socket.socket(family, kind, protocol) for _ in range(count)]
        for item in sockets:
            _bind(item, where, reuse_port=count > 1)
            item.listen(_BACKLOG)
            item.setblocking(False)
    except OSError as error:
        text = f"{setting}: found {address}, which cannot be listened on: {error.strerror or error}"
        raise ListenError(text) from None
    return sockets


def listen_datagrams(setting: str, address: str) -> socket.socket:
    """One UDP socket; whoever has SO_REUSEPORT and our user may share its address afterwards."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            _bind(probe, where, reuse_port=False, reuse=False)
            where = where if port else probe.getsockname()
        item = socket.socket(family, kind, protocol)
        _bind(item, where, reuse_port=True, reuse=False)
        item.setblocking(False)
    except OSError as error:
        text = f"{setting}: found {address}, which cannot be listened on: {error.strerror or error}"
        raise ListenError(text) from None
    return item


def _listen_unix(setting: str, path: str) -> socket.socket:
    """A file that a dead daemon left is taken over; one that somebody listens on is not."""
    item = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
        before = os.umask(0o177)
        try:
            item.bind(path)
        finally:
            os.umask(before)
        item.listen(_BACKLOG)
        item.setblocking(False)
    except OSError as error:
        item.close()
        text = f"{setting}: found unix:{path}, which cannot be listened on: {error.strerror}"
        raise ListenError(text) from None
    return item


def _bind(item: socket.socket, where: object, *, reuse_port: bool, reuse: bool = True) -> None:
    """reuse: the address of a connection that is closing; of UDP it would mean to share it."""
    if reuse:
        item.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        item.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if item.family == socket.AF_INET6:
        item.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    item.bind(where)  # type: ignore[arg-type]  # as getaddrinfo gave it


def spread(sockets: Sequence[socket.socket], count: int) -> list[socket.socket]:
    """`count` sockets out of fewer: the same ones again (accepts are then shared, not balanced).
    Never fewer than there are: each has a queue of connections that are to be accepted."""
    return [*sockets, *(sockets[i % len(sockets)].dup() for i in range(len(sockets), count))]


def fits(item: socket.socket, address: str) -> bool:
    """Is a bound socket what `address` asks for? Port 0 asks for any."""
    if item.family == socket.AF_UNIX or address.startswith("unix:"):
        return shown(item) == address
    host, port = split_address(address)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = item.getsockname()
    return (found[0], found[4][0]) == (item.family, bound[0]) and port in (0, bound[1])


def shown(item: socket.socket) -> str:
    """`host:port` of a bound socket, or `unix:/path`."""
    if item.family == socket.AF_UNIX:
        return f"unix:{item.getsockname()}"
    host, port = item.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
