"""Hosts that a router can cut off from each other, one way or both: bytes are swallowed, and nobody
is told by a RST, a FIN or ICMP, as when a line between cities goes.

Laws. Each host is a network namespace without a name, joined by a veth pair to a router that is one
too: they are gone with the last process and descriptor that holds them, however a test ends, and
two runs share nothing. The caller's thread is the first host for as long as the context lasts; what
it starts is, too. Needs root, `ip` and `nsenter`. Knows nothing of what the hosts say.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NEW_NET: Final = 0x40000000  # CLONE_NEWNET
_HERE: Final = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def address(host: int) -> str:
    return f"10.{host}.0.2"


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "a network namespace cannot be had")


def _made() -> int:
    """A new namespace, which this thread is in now."""
    _checked(_libc.unshare(_NEW_NET))
    return os.open(_HERE, os.O_RDONLY)


def _ip(*lines: str) -> None:
    given = "\n".join(lines)
    subprocess.run(["ip", "-batch", "-"], input=given, text=True, check=True, timeout=10)


class Router:
    """Between hosts 0 to n - 1, at `address(host)` each."""

    def __init__(self, router: int, hosts: list[int]) -> None:
        self._router = router
        self._hosts = hosts
        self._cut: set[tuple[int, int]] = set()

    def at(self, host: int, *command: str) -> list[str]:
        """`command`, on that host."""
        return ["nsenter", f"--net={_path(self._hosts[host])}", *command]

    def cut(self, *ways: tuple[int, int]) -> None:
        """From now on nothing passes from the first to the second host of each of these, all else
        does; without any all is well."""
        wanted = set(ways)
        changes = [("add", way) for way in wanted - self._cut]
        changes += [("del", way) for way in self._cut - wanted]
        rules = (
            f"rule {what} iif to{source} to {address(sink)} blackhole"
            for what, (source, sink) in changes
        )
        with _inside(self._router):
            _ip(*rules)
        self._cut = wanted

    @contextlib.contextmanager
    def on(self, host: int) -> Iterator[None]:
        """Sockets that this thread opens inside the block are that host's."""
        with _inside(self._hosts[host]):
            yield


@contextlib.contextmanager
def _inside(namespace: int) -> Iterator[None]:
    home = os.open(_HERE, os.O_RDONLY)
    try:
        _checked(_libc.setns(namespace, _NEW_NET))
        yield
    finally:
        _checked(_libc.setns(home, _NEW_NET))
        os.close(home)


def _path(namespace: int) -> str:
    return f"/proc/{os.getpid()}/fd/{namespace}"


@contextlib.contextmanager
def apart(hosts: int) -> Iterator[Router]:
    """So many hosts and their router; the caller is on host 0."""
    home = os.open(_HERE, os.O_RDONLY)
    made = [home]
    try:
        made += [_made() for _ in range(hosts)]
        places = made[1:]
        made.append(_made())
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for host, place in enumerate(places):
            _ip(
                f"link add to{host} type veth peer name net netns {_path(place)}",
                f"addr add 10.{host}.0.1/24 dev to{host}",
                f"link set to{host} up",
            )
        for host, place in enumerate(places):
            with _inside(place):
                _ip(
                    "link set lo up",
                    f"addr add {address(host)}/24 dev net",
                    "link set net up",
                    f"route add default via 10.{host}.0.1",
                )
        _checked(_libc.setns(places[0], _NEW_NET))
        yield Router(made[-1], places)
    finally:
        _checked(_libc.setns(home, _NEW_NET))
        for descriptor in made:
            os.close(descriptor)
