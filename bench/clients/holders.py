"""Viewers that only hold a connection: idle ones, and ones that read a body slowly.

Each prints one line when everybody is in place and then holds until its stdin is closed.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .crowd import CONNECT_TIMEOUT_S, Crowd, request

_TURN_S: Final = 0.1  # every viewer reads once a turn
_STEPS: Final = 10  # a turn's viewers read in so many steps, not all in one burst
_SLOW_BUFFER: Final = 16 << 10


def _released() -> selectors.BaseSelector:
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    return selector


def idle(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Params: address, path, viewers, hold_s. Every viewer asks once, reads, and stays."""
    address = (params["address"][0], int(params["address"][1]))
    crowd = Crowd(address, params["viewers"])
    crowd.ask(request(address, params["path"]))
    crowd.read_for(params["timeout_s"])
    yield {"served": sum(1 for _ in crowd.answered())}
    _released().select(params["hold_s"])
    alive = sum(1 for viewer in crowd.viewers if not viewer.failed)
    yield {"held": alive}


def slow(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Params: address, path, viewers, bytes_s, hold_s. Every viewer reads `bytes_s` a second."""
    address = (params["address"][0], int(params["address"][1]))
    sockets = [_slow_socket(address) for _ in range(params["viewers"])]
    for viewer in sockets:
        viewer.sendall(request(address, params["path"]))
    yield {"served": len(sockets)}
    released, deadline = _released(), time.monotonic() + params["hold_s"]
    bite, read, cut = max(1, int(params["bytes_s"] * _TURN_S)), 0, 0
    for step in itertools.count():
        if time.monotonic() > deadline or released.select(_TURN_S / _STEPS):
            break
        for viewer in sockets[step % _STEPS :: _STEPS]:
            size = _bite(viewer, bite)
            read += max(0, size)
            if size == 0:
                cut += 1
                sockets.remove(viewer)
    yield {"read_bytes": read, "cut": cut}


def _slow_socket(address: tuple[str, int]) -> socket.socket:
    viewer = socket.socket()
    # A small window, as of a phone far away: what it does not read stays with the server.
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
    viewer.settimeout(CONNECT_TIMEOUT_S)
    viewer.connect(address)
    return viewer


def _bite(viewer: socket.socket, size: int) -> int:
    """Bytes read; 0 when the server has cut the viewer; -1 when nothing was there."""
    try:
        return len(viewer.recv(size, socket.MSG_DONTWAIT))
    except BlockingIOError:
        return -1
    except OSError:
        return 0
