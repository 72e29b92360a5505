"""Datagrams of publishers at one UDP port of ours, each publisher's by a socket of its own.

Laws: nothing waits; a batch at a time, so that others have their turn. A connected socket at the
door's address gets what comes from there before the door itself does (udp(7)), and belongs to
nobody else: whoever owns the door next does not matter to it. Does not know what is in them.
"""

from __future__ import annotations

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
