"""The servers under fault: this cache with short timeouts, nginx and Varnish with the same ones, on
loopback. What an operator can do to each (reload, restart, kill what serves) stands with it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..ledger import broken, read
from ..netns import Network, free_port
from ..peers.peer import Peer, Running, Site, running
from ..process import stop, tree
from ..stage import Stage

Cpus = tuple[int, ...]

_TMPFS: Final = Path("/dev/shm")
_TIMEOUT_S: Final = 10.0
# Only the timeouts are ours; everything else is the default.
_OURS: Final = (
    sys.executable, "-m", "edgecache", "serve", "--supervise", "--listen", "@{listen}",
    "--origin", "http://@{origin}", "--workers", "1", "-o", "admin.listen=127.0.0.1:@{admin}",
    "-o", "origin.first_byte=1s", "-o", "origin.total=3s", "-o", "admin.refresh=0s",
    "-o", "takeover.socket=@{dir}/takeover",
)  # fmt: skip
_VARNISH: Final = (
    "varnishd", "-F", "-a", "@{listen}", "-f", "@{dir}/faults.vcl", "-s", "malloc,1g",
    "-n", "@{dir}/run", "-T", "none", "-j", "none", "-p", "thread_pool_min=200",
)  # fmt: skip


def peers(names: tuple[str, ...]) -> list[Peer]:
    """Those of `names`, in this order; installed or not."""
    admin = {"admin": str(free_port("127.0.0.1"))}
    nginx = ("nginx", "-p", "@{dir}", "-c", "@{dir}/nginx.conf", "-e", "stderr")
    table = (
        Peer("edgecache", "edgecache", sys.executable, "this project", "origin", _OURS,
             options=admin),
        Peer("nginx", "nginx proxy_cache", "nginx", "nginx-light", "origin", nginx, "nginx_faults"),
        Peer("varnish", "Varnish malloc", "varnishd", "varnish", "origin", _VARNISH,
             "varnish_faults"),
    )  # fmt: skip
    return [peer for peer in table if peer.name in names]


def _sockets(pid: int) -> int:
    """How many a process has open; a viewer's connection is one."""
    with contextlib.suppress(OSError):  # it has ended
        with os.scandir(f"/proc/{pid}/fd") as found:
            links = [os.readlink(link.path) for link in found]
        return sum(link.startswith("socket:") for link in links)
    return 0


@dataclass(frozen=True)
class Server:
    """A running one, and what can be done to it."""

    running: Running
    stage: Stage
    heirs: list[subprocess.Popen[bytes]] = field(default_factory=list)  # started by restart()
    # Its thread starts them: a child started with --pdeathsig dies with the thread it came from.
    hands: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    @property
    def name(self) -> str:
        return self.running.peer.name

    @property
    def ours(self) -> bool:
        return self.name == "edgecache"

    @property
    def address(self) -> tuple[str, int]:
        return self.running.address, self.running.port

    @property
    def parent(self) -> int:
        """The process that an operator knows."""
        return self.heirs[-1].pid if self.heirs else self.running.pid

    @property
    def pid(self) -> int:
        """The process that we measure: of ours, the one that serves."""
        children = tree(self.parent)[1:] if self.ours else []
        return max(children, key=_sockets) if children else self.parent

    def reload(self) -> bool:
        """As an operator does; False: it has no such thing."""
        if self.name == "varnish":
            return False
        os.kill(self.parent, signal.SIGHUP)
        return True

    def restart(self) -> bool:
        """One of ours takes over from the other; of Varnish one goes and another comes. nginx has
        its reload: its upgrade is for daemons, and this one runs in the foreground."""
        if self.name == "nginx":
            return False
        if self.name == "varnish":
            self.running.process.terminate()
            self.running.process.wait(_TIMEOUT_S)
        before = self.heirs[-1] if self.heirs else self.running.process
        self.hands.submit(self._start_another).result(_TIMEOUT_S)
        before.wait(_TIMEOUT_S)
        return True

    def _start_another(self) -> None:
        with (Path(self.running.values["dir"]) / "heir.log").open("wb") as out:
            self.heirs.append(subprocess.Popen(
                self.running.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            ))  # fmt: skip

    def end(self) -> None:
        """What restart() has started."""
        for heir in self.heirs:
            stop(heir)
        self.hands.shutdown()

    def kill_worker(self) -> bool:
        """SIGKILL to the process that holds the viewers, where another one starts it again."""
        children = tree(self.parent)[1:]
        if not children:
            return False
        os.kill(max(children, key=_sockets), signal.SIGKILL)
        return True

    def page(self, path: str) -> str:
        """Of our admin door."""
        port = int(self.running.peer.options["admin"])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def ledger(self) -> dict[str, float] | None:
        """Laws that do not hold; None for those that promise none."""
        return broken(read(self.page("/metrics"))) if self.ours else None


@contextlib.contextmanager
def serving(
    peer: Peer, origin_port: int, server_cpus: Cpus = (), client_cpus: Cpus = ()
) -> Iterator[Server]:
    """In front of an origin on loopback; on these cores (empty: all). Raises BenchError when it
    does not start."""
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    network = Network("127.0.0.1", "127.0.0.1", server_cpus or cpus, client_cpus or cpus, None)
    with tempfile.TemporaryDirectory(dir=_TMPFS, prefix="edgecache-faults-") as scratch:
        Path(scratch).chmod(0o755)  # peers that drop root read their files here
        site = Site(network, Path(scratch) / "site", Path(scratch), origin_port, blobs=())
        with running(peer, site) as up:
            server = Server(up, Stage(network, Path(scratch), origin_port))
            try:
                yield server
            finally:
                server.end()
