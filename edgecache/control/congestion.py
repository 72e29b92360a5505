"""Congestion control of the viewers' sockets: set on a listener, inherited by what it accepts.

BBR paces. Where the fq qdisc is at the egress, the queue does that for all sockets with one
timer; without it TCP starts one for every socket whose answer takes more than a first flight:
4,000 viewers of one 16 KiB object took 200 ms instead of 60 (bench/EXPERIMENTS.md). Bodies that are
worth pacing are paced by `http.pacing` whatever is chosen here.

It does not know routes: "fq is there" means that it is the default of this network namespace.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..errors import EdgeError

AUTO: Final = "auto"
HOST: Final = "host"
_UNPACED: Final = "cubic"
_NET: Final = Path("/proc/sys/net")


class CongestionError(EdgeError):
    """The kernel refuses the algorithm that the configuration names."""

    source = "config"


def choose(setting: str, algorithm: str, qdisc: str) -> str:
    """What to set on a host whose own are `algorithm` and `qdisc`; empty: nothing."""
    if setting != AUTO:
        return "" if setting == HOST else setting
    return _UNPACED if algorithm.startswith("bbr") and qdisc != "fq" else ""


def control(setting: str, listeners: Iterable[socket.socket]) -> str:
    """Do so; returns what was set. Raises CongestionError for a name that cannot be had; `auto`
    then leaves the host's (an unprivileged process may only use what the host allows)."""
    name = choose(setting, _read("ipv4/tcp_congestion_control"), _read("core/default_qdisc"))
    if not name:
        return ""
    try:
        for item in listeners:
            item.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    except OSError as error:
        if setting == AUTO:
            return ""
        text = f"http.congestion: found {name}, which the kernel refuses: {error.strerror}"
        raise CongestionError(text) from None
    return name


def _read(name: str) -> str:
    """A network namespace does not show all of them."""
    try:
        return (_NET / name).read_text().strip()
    except OSError:
        return ""
