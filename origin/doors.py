"""The listening sockets of the origin, and what serves behind them.

Laws: an address that cannot be had is one line that names its setting, before anything is served.
Who takes nothing of an answer for `stall_s`, since it reads no more or its line swallows what it is
sent, is let go: the kernel alone would try for a quarter of an hour. Does not know what is served.
"""

from __future__ import annotations

import socket
from typing import Final

from aiohttp import web

from edgecache.errors import EdgeError

_BACKLOG: Final = 1024
_KEEPALIVE_S: Final = 75.0
_STALL_S: Final = 60.0
_LINGER_S: Final = 1.0  # for a refused publisher to stop sending


class StartError(EdgeError):
    """The origin cannot start; the message is one line for a person."""

    source = "config"


def listen(setting: str, address: str, *, stall_s: float = _STALL_S) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is accepted has it, too.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * stall_s))
        listener.bind((host, int(port)))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        text = f"{setting}: found {address}, which cannot be listened on: {error.strerror}"
        raise StartError(text) from None
    return listener


async def open_door(
    app: web.Application, listener: socket.socket, *, shutdown_s: float
) -> web.AppRunner:
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_KEEPALIVE_S,
        lingering_time=_LINGER_S,
        shutdown_timeout=shutdown_s,
    )
    await runner.setup()
    await web.SockSite(runner, listener, backlog=_BACKLOG).start()
    return runner
