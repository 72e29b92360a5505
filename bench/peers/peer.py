"""What a server under test is, and how one is brought up at a site.

A peer is data: a program, configuration templates, a command line, what it serves from. Templates
name values as @{listen}, @{port}, @{origin}, @{docroot}, @{dir}, @{workers} …; every file in the
peer's template directory is rendered into the site's own directory on tmpfs. The caller owns the
process; a site's directory is removed with the run's.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import shutil
import string
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ..bodies import Blob
from ..errors import BenchError
from ..netns import Network
from ..process import await_listening, spawned

TEMPLATES: Final = Path(__file__).parent / "templates"
Feeds = Literal["canned", "files", "origin", "push"]


class _At(string.Template):
    """$ belongs to the peers' own configuration languages."""

    delimiter = "@"


@dataclass(frozen=True)
class Peer:
    """`feeds`: where bodies come from: canned lengths, files on tmpfs, or pulls from the origin.
    `options`: values that templates and command line may use beside those of the site."""

    name: str
    title: str
    program: str
    package: str
    feeds: Feeds
    argv: tuple[str, ...]
    templates: str = ""
    workers_max: int = 64
    env: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Why it cannot run on this machine; None when it can."""
        if shutil.which(self.program) or Path(self.program).exists():
            return None
        return f"{self.program} is not installed ({self.package})"


@dataclass(frozen=True)
class Site:
    """One start of one peer. `blobs`: everything that will be asked for, in order of asking."""

    network: Network
    directory: Path
    docroot: Path
    origin_port: int
    blobs: Sequence[Blob]
    workers: int = 1
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    peer: Peer
    process: subprocess.Popen[bytes]
    address: str
    port: int
    cpus: tuple[int, ...]
    values: Mapping[str, str]
    argv: Sequence[str]  # to start another one like it

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self, path: str) -> str:
        return f"http://{self.address}:{self.port}{path}"


def _values(peer: Peer, site: Site, port: int) -> dict[str, str]:
    network = site.network
    return {
        "address": network.server_ip,
        "port": str(port),
        "listen": f"{network.server_ip}:{port}",
        "origin_address": network.client_ip,
        "origin_port": str(site.origin_port),
        "origin": f"{network.client_ip}:{site.origin_port}",
        "docroot": str(site.docroot),
        "dir": str(site.directory),
        "workers": str(min(site.workers, peer.workers_max)),
        "sizes": ",".join(str(blob.size) for blob in site.blobs),
        "fd_limit": str(_fd_limit()),
        "connections": str(_fd_limit() // 2 - 100),  # two descriptors each in a proxy, and some own
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        **peer.options,
    }


def _fd_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _render(peer: Peer, site: Site, values: Mapping[str, str]) -> None:
    if not peer.templates:
        return
    for template in sorted((TEMPLATES / peer.templates).iterdir()):
        text = _At(template.read_text()).substitute(values)
        (site.directory / template.name).write_text(text)


@contextlib.contextmanager
def running(peer: Peer, site: Site) -> Iterator[Running]:
    """The peer, listening; stopped when the block is left. Raises BenchError if it will not."""
    site.directory.mkdir(parents=True)
    for name in ("cache", "run", "log"):
        # Peers that drop root (nginx, Traffic Server) still have to write here.
        (site.directory / name).mkdir(mode=0o777)
        (site.directory / name).chmod(0o777)
    port = site.network.server_port()
    values = _values(peer, site, port)
    _render(peer, site, values)
    words = [_At(word).substitute(values) for word in peer.argv]
    env = {name: _At(value).substitute(values) for name, value in peer.env.items()}
    cpus = site.cpus or site.network.server_cpus
    log = site.directory / "output.log"
    try:
        argv = site.network.on_server(words, cpus)
        with spawned(argv, log=log, env=env) as process:
            await_listening(process, port, log)
            yield Running(peer, process, site.network.server_ip, port, cpus, values, argv)
    except BenchError as error:
        raise BenchError(f"{peer.name}: {error}") from None
    finally:
        shutil.rmtree(site.directory, ignore_errors=True)
