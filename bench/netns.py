"""Where server and client meet: two network namespaces joined by a veth pair, or loopback.

Laws. Names carry the pid and start time of the run, so two runs never share one, and what a dead
run left behind is recognised and removed by the next. Everything made here is removed when the
context ends, however it ends. Server processes are pinned to `server_cpus`, everything of the
client to `client_cpus`.

On loopback the 64 KiB MTU hides costs and invents others (results flipped by 4x between runs):
figures made there are marked. On a veth pair without RPS the receiver's protocol work runs in the
sender's softirq, so the server is also charged for the client's TCP: the same for every server and
for the floor.

It does not know what runs inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import BenchError

PREFIX: Final = "ecb"
NETNS_DIR: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000
_OTHER_IP: Final = "10.99.0.3"
_NAMESPACED_PORT: Final = 8080  # namespaces are private: nobody else can hold a port in them

# Room for 10,000 parked viewers from one address, short-lived connections, and pushed-out SYNs.
SYSCTLS: Final = {
    "net.ipv4.ip_local_port_range": "1024 65535",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.tcp_max_syn_backlog": "16384",
    "net.ipv4.tcp_syncookies": "0",
    "net.core.somaxconn": "16384",
}


@dataclass(frozen=True)
class Network:
    """One run's network. `namespaces` is (server, client), empty on loopback."""

    server_ip: str
    client_ip: str
    server_cpus: tuple[int, ...]
    client_cpus: tuple[int, ...]
    namespaces: tuple[str, str] | None

    def on_server(self, argv: Sequence[str], cpus: Sequence[int] | None = None) -> list[str]:
        return self._wrap(0, argv, cpus or self.server_cpus)

    def on_client(self, argv: Sequence[str], cpus: Sequence[int] | None = None) -> list[str]:
        return self._wrap(1, argv, cpus or self.client_cpus)

    def _wrap(self, side: int, argv: Sequence[str], cpus: Sequence[int]) -> list[str]:
        # setpriv: whatever we start dies with us even if we are killed with -9.
        pinned = ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", ",".join(map(str, cpus))]
        if self.namespaces:
            pinned = ["nsenter", f"--net={NETNS_DIR / self.namespaces[side]}", *pinned]
        return [*pinned, *argv]

    @property
    def other_ip(self) -> str:
        """Another address of the client's side."""
        return _OTHER_IP if self.namespaces else "127.0.0.2"

    def server_port(self) -> int:
        return _NAMESPACED_PORT if self.namespaces else free_port(self.server_ip)

    def origin_port(self) -> int:
        return _NAMESPACED_PORT if self.namespaces else free_port(self.client_ip)

    @contextlib.contextmanager
    def client_side(self) -> Iterator[None]:
        """Sockets this thread opens inside the block belong to the client's namespace."""
        if self.namespaces is None:
            yield
            return
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(NETNS_DIR / self.namespaces[1], os.O_RDONLY)
        try:
            _setns(there)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(there)
            os.close(home)


def _setns(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def free_port(ip: str) -> int:
    with socket.socket() as probe:
        probe.bind((ip, 0))
        return int(probe.getsockname()[1])


def run_tag(pid: int | None = None) -> str:
    """Name of a run: pid and the start time of that pid, so that a reused pid is not mistaken."""
    pid = pid or os.getpid()
    return f"{PREFIX}-{pid}-{_start_time(pid)}"


def _start_time(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[19])


def is_stale(name: str) -> bool:
    """Whether `name` was made by a run of the bench that is no longer alive."""
    words = name.split("-")
    if len(words) < 3 or words[0] != PREFIX or not (words[1] + words[2]).isdigit():
        return False
    try:
        return _start_time(int(words[1])) != int(words[2])
    except OSError:
        return True


def _ip(*args: str) -> None:
    done = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"ip {' '.join(args)}: {done.stderr.strip()}")


def reap_stale() -> list[str]:
    """Remove namespaces of dead runs, and the processes still in them; returns their names."""
    if not NETNS_DIR.is_dir():
        return []
    stale = [path.name for path in NETNS_DIR.iterdir() if is_stale(path.name)]
    for name in stale:
        pids = subprocess.run(
            ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
        )
        for pid in pids.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        _ip("netns", "del", name)
    return stale


def can_isolate() -> str | None:
    """Why namespaces cannot be used here; None when they can."""
    if os.geteuid() != 0:
        return "not root"
    lacking = [tool for tool in ("ip", "nsenter", "setpriv", "taskset") if not shutil.which(tool)]
    return f"missing: {', '.join(lacking)}" if lacking else None


def cores() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(server's core, client's core): the first two this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0],), (allowed[1 if len(allowed) > 1 else 0],)


def _build(server: str, client: str) -> None:
    for name in (server, client):
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
    _ip("link", "add", "bench0", "netns", server, "type", "veth",
        "peer", "name", "bench0", "netns", client)  # fmt: skip
    for name, address in ((server, "10.99.0.1/24"), (client, "10.99.0.2/24")):
        _ip("-n", name, "addr", "add", address, "dev", "bench0")
        _ip("-n", name, "link", "set", "bench0", "up")
        settings = [f"{key}={value}" for key, value in SYSCTLS.items()]
        subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", *settings], check=True)
    _ip("-n", client, "addr", "add", f"{_OTHER_IP}/24", "dev", "bench0")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """The run's network; loopback when namespaces cannot be had (see `can_isolate`)."""
    server_cpus, client_cpus = cores()
    if can_isolate() is not None:
        yield Network("127.0.0.1", "127.0.0.1", server_cpus, client_cpus, None)
        return
    reap_stale()
    server, client = f"{run_tag()}-s", f"{run_tag()}-c"
    try:
        _build(server, client)
        yield Network("10.99.0.1", "10.99.0.2", server_cpus, client_cpus, (server, client))
    finally:
        for name in (server, client):
            if (NETNS_DIR / name).exists():
                _ip("netns", "del", name)
