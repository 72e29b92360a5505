"""Datagrams of publishers at one UDP port of ours, each publisher's by a socket of its own.

Laws: nothing waits; a batch at a time, so that others have their turn. A connected socket at the
door's address gets what comes from there before the door itself does (udp(7)), and belongs to
nobody else: whoever owns the door next does not matter to it. Does not know what is in them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Address = tuple[str, int]

DATAGRAM_MAX: Final = 2048  # publishers' are 1500 at most; what is longer is cut, and no use
_BATCH: Final = 64  # datagrams of one socket before others have their turn


@dataclass(frozen=True, slots=True)
class Door:
    """Where publishers send to, whoever reads there: a bound socket's family and name."""

    family: int
    name: tuple[object, ...]


class Listener:
    """The door, from start() to close(). Until then, and after, nobody is read there."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.door = Door(socket.AF_INET, ())

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def start(self, sock: socket.socket, take: Callable[[bytes, Address], None]) -> None:
        """Read from a bound socket, which becomes ours."""
        sock.setblocking(False)
        self.door = Door(sock.family, sock.getsockname())
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, read, sock, take)

    def send(self, data: bytes, address: Address) -> None:
        """Raises OSError when the kernel does not take it."""
        if self._socket is not None:
            self._socket.sendto(data, address)

    def close(self) -> None:
        """Idempotent."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None


def read(sock: socket.socket, take: Callable[[bytes, Address], None]) -> bool:
    """What has arrived, at most a batch. False: nobody is at the other end of a connected one."""
    for _ in range(_BATCH):
        try:
            data, address = sock.recvfrom(DATAGRAM_MAX)
        except (BlockingIOError, InterruptedError):
            return True
        except ConnectionRefusedError:
            return False
        except OSError:  # another word of ICMP's; the next datagram may still arrive
            continue
        take(data, (str(address[0]), int(address[1])))
        if sock.fileno() < 0:  # it was the last one
            return True
    return True


def connected(door: Door, address: Address) -> socket.socket:
    """A socket for one publisher alone, at the door's address. Raises OSError."""
    client = socket.socket(door.family, socket.SOCK_DGRAM)
    try:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        client.bind(door.name)
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client
