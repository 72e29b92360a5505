"""What a service manager does for us: sockets that it hands over, those that it keeps open, and
what it is told. That is systemd, or our own parent (edgecache/supervise.py), which speaks the same:
sd_listen_fds(3), sd_notify(3), FileDescriptorStoreMax= of systemd.service(5), and has a process
stand by for the next time.

Law: sockets of its units have our doors' names and win over configured addresses. What we bound
ourselves is kept under `bound.` + the door, so that connections wait while nobody of us is alive;
it is taken out before it is closed in order. Telling never fails and never waits for long.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

STANDBY: Final = "EDGECACHE_STANDBY"  # in the environment: a socket at FIRST_FD brings them
KEEPER: Final = "EDGECACHE_KEEPER"  # the socket of who keeps the cache (deposit.py)
FIRST_FD: Final = 3
_TELL_S: Final = 1.0
_BOUND: Final = "bound."
_DOORS: Final = frozenset(("http", "push", "admin", "ingest", "rtmps", "srt", "whip"))

Sockets = dict[str, list[socket.socket]]
Given = tuple[Sockets, Sockets]  # door -> sockets of units, and those that one of us had bound


def inherited(environ: MutableMapping[str, str] = os.environ) -> Given:
    """What was passed to this process; a name that is no door is `http`. Who stands by waits here
    until it is to serve; raises EOFError when nobody needs it."""
    units: Sockets = {}
    bound: Sockets = {}
    if environ.pop(STANDBY, ""):
        names, fds = _wait()
    elif environ.get("LISTEN_PID") == str(os.getpid()):
        names = environ.get("LISTEN_FDNAMES", "").split(":")
        fds = range(FIRST_FD, FIRST_FD + int(environ.get("LISTEN_FDS", "0")))
    else:
        return units, bound
    for index, fd in enumerate(fds):
        item = socket.socket(fileno=fd)
        item.setblocking(False)
        os.set_inheritable(fd, False)
        name = names[index] if index < len(names) else ""
        door = name.removeprefix(_BOUND)
        found = bound if name.startswith(_BOUND) else units
        found.setdefault(door if door in _DOORS else "http", []).append(item)
    return units, bound


def _wait() -> tuple[list[str], Sequence[int]]:
    with socket.socket(fileno=FIRST_FD) as told:
        names, fds, _, _ = socket.recv_fds(told, 64 << 10, 253)
    if not names:
        raise EOFError("not needed")
    return json.loads(names), fds


def keep(door: str, items: Sequence[socket.socket]) -> None:
    """It knows those that it keeps already."""
    notify(f"FDSTORE=1\nFDNAME={_BOUND}{door}", [item.fileno() for item in items])


def forget(door: str) -> None:
    notify(f"FDSTOREREMOVE=1\nFDNAME={_BOUND}{door}")


def notify(state: str, fds: Sequence[int] = (), environ: Mapping[str, str] = os.environ) -> None:
    """Tell the service manager, if there is one."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.settimeout(_TELL_S)
        out.connect("\0" + path[1:] if path[0] == "@" else path)
        socket.send_fds(out, [state.encode()], fds)


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often WATCHDOG=1 is due (half of what the manager allows); None when it is off."""
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdigit() and int(text) else None
