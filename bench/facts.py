"""What a reader has to know about the machine and the software before believing a figure."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from .errors import BenchError
from .netns import Network, can_isolate
from .stage import REPOSITORY

_VERSIONS: Final = {
    "h2load": ("h2load", "--version"),
    "nginx": ("nginx", "-v"),
    "h2o": ("h2o", "--version"),
    "HAProxy": ("haproxy", "-v"),
    "Varnish": ("varnishd", "-V"),
    "Traffic Server": ("traffic_server", "-V"),
    "compiler": ("cc", "--version"),
}


def _said(argv: tuple[str, ...]) -> str:
    """First line a program prints about itself, wherever it prints it."""
    if not shutil.which(argv[0]):
        return "not installed"
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if re.search(r"\d", line)]
    return lines[0].strip() if lines else "?"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "?"


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.machine()


# One recording does not make what the next one measures another program.
_RECORDED: Final = (":!bench/*.md", ":!bench/*.svg")


def _git(*arguments: str) -> str:
    if not shutil.which("git"):
        return ""
    done = subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def commit() -> str:
    """The commit the working tree is at, with `+` when it differs from it in more than what runs
    have recorded; `?`: not known."""
    head = _git("rev-parse", "--short=10", "HEAD") or "?"
    return head + ("+" if _git("status", "--porcelain", "--", ".", *_RECORDED) else "")


def taken() -> str:
    """When and where a figure is taken, for the page that keeps it."""
    today = datetime.datetime.now(datetime.UTC).date()
    machine = f"{os.cpu_count()} cores; Linux {platform.release()}"
    return f"{today}; commit {commit()}; {machine}; load {os.getloadavg()[0]:.1f} at the end"


def exact_commit() -> None:
    """Raises BenchError when figures taken now could not be taken again from a commit."""
    found = commit()
    if not found.isalnum():
        raise BenchError(f"--record: commit {found}: the tree is not as committed, or has no git")


def facts(network: Network) -> dict[str, str]:
    """Name -> value, in the order they are shown."""
    wires = "two namespaces, veth pair" if network.namespaces else f"LOOPBACK ({can_isolate()})"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "kernel": platform.release(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": re.sub(r"\s+", " ", _read("/proc/meminfo").splitlines()[0]),
        "network": wires,
        "server cores": " ".join(map(str, network.server_cpus)),
        "client cores": " ".join(map(str, network.client_cpus)),
        "congestion control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "load before the run": " ".join(_read("/proc/loadavg").split()[:3]),
        "Python": platform.python_version(),
        **{name: _said(argv) for name, argv in _VERSIONS.items()},
    }
