"""A systemd as process 1 of namespaces of its own, with our units. It sees this host's files, and
what it writes goes with it; the network is the host's.

Law: whatever ends the test ends all of it. Nothing that a host does at its boot is done: it has our
units, the journal, and targets that are empty.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

LIMIT_S: Final = 30.0
ROOT = Path(__file__).resolve().parents[1]
SYSTEMD = Path("/lib/systemd/systemd")
UNITS: Final = "etc/edgecache-units"
_NEW: Final = ("--mount", "--uts", "--ipc", "--propagation", "private")

# Where things are for users who may not see where they really are.
_LIB: Final = "/usr/local/lib/edgecache"
_SEEN: Final = {
    f"{_LIB}/tree": ROOT,
    f"{_LIB}/packages": sysconfig.get_path("purelib"),
    f"{_LIB}/python": sys.base_prefix,
}

# A cgroup for all of it, which is the root of the hierarchy to those within.
_OUTER: Final = """
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo $$ >"/sys/fs/cgroup/$1/cgroup.procs"
exec unshare --pid --fork --kill-child --cgroup --mount-proc -- sh -euc "$2"
"""
_INNER: Final = """
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 none /run
for folder in etc usr/local var; do
    over=/run/over/$folder
    mkdir -p $over/up $over/work
    mount -t overlay -o lowerdir=/$folder,upperdir=$over/up,workdir=$over/work none /$folder
done
{seen}
mount -t tmpfs -o mode=1777 none /tmp
mkdir -p /run/dev/shm /run/dev/pts
for node in null zero full random urandom tty; do
    touch /run/dev/$node
    mount --bind /dev/$node /run/dev/$node
done
ln -s pts/ptmx /run/dev/ptmx
mount --rbind /run/dev /dev
mount -t devpts -o ptmxmode=666 none /dev/pts
mount -t tmpfs none /dev/shm
mount --bind -o ro /proc/sys /proc/sys
echo mounted
read -r _
exec env -i container=edgecache-test PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \\
    SYSTEMD_UNIT_PATH=/{units} SYSTEMD_GENERATOR_PATH=/run/none \\
    {systemd} --unit=edgecache-test.target --log-target=journal --show-status=no
"""
_SWEEP: Final = """
mount -t cgroup2 none /sys/fs/cgroup
while [ -d "/sys/fs/cgroup/$1" ]; do
    find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
done
"""

_TARGETS: Final = ("sysinit", "basic", "sockets", "shutdown", "network-online", "multi-user")
_JOURNAL: Final = ("systemd-journald.service", "systemd-journald.socket")
_JOURNALD: Final = "[Journal]\nStorage=volatile\nReadKMsg=no\nRateLimitIntervalSec=0\n"


class Booted:
    """`files`: path from the root -> text, beside the units of `deploy`. Raises PermissionError
    where namespaces are refused."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._cgroup = f"edgecache-test.{os.getpid()}"
        self._init = 0

    def __enter__(self) -> Self:
        seen = [f"mkdir -p {at}; mount --rbind '{where}' {at}" for at, where in _SEEN.items()]
        inner = _INNER.format(seen="\n".join(seen), units=UNITS, systemd=SYSTEMD)
        script = ("sh", "-euc", _OUTER, "sh", self._cgroup, inner)
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *_NEW, *script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _boot(self) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "mounted\n":
            raise PermissionError(process.stderr.read().strip())
        self._init = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        self._install()
        process.stdin.write("\n")
        process.stdin.flush()
        self.until(self.path("run/systemd/private").exists)
        self.systemctl("is-system-running", "--wait", check=False)

    def _install(self) -> None:
        for unit in (ROOT / "deploy").iterdir():
            self.unit(unit.name, unit.read_text())
        for name in _TARGETS:
            self.unit(f"{name}.target", "[Unit]\nDefaultDependencies=no\n")
        for name in _JOURNAL:
            self.unit(name, Path(f"/lib/systemd/system/{name}").read_text())
        self.unit("edgecache-test.target", f"[Unit]\nWants={_JOURNAL[0]}\n")
        self.write("etc/systemd/journald.conf", _JOURNALD)
        for name, package in (("edgecache", "edgecache"), ("edgecache-origin", "origin")):
            self.write(f"usr/local/bin/{name}", _program(package)).chmod(0o755)
        for path, text in self._files.items():
            self.write(path, text)

    def __exit__(self, *_: object) -> None:
        if self._init:
            os.kill(self._init, 9)
        else:
            self._process.kill()
        self._process.wait(LIMIT_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        sweep = ["unshare", *_NEW, "sh", "-euc", _SWEEP, "sh", self._cgroup]
        subprocess.run(sweep, check=True, timeout=LIMIT_S)

    # -- what is in there

    def path(self, path: str) -> Path:
        return Path(f"/proc/{self._init}/root/{path}")

    def write(self, path: str, text: str) -> Path:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def unit(self, name: str, text: str) -> Path:
        return self.write(f"{UNITS}/{name}", text)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        there = ["nsenter", "-t", str(self._init), "-m", "-u", "-i", "-p", "-C", "--", *command]
        done = subprocess.run(there, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if check and done.returncode:
            told = "".join(f"\n{entry['MESSAGE']}" for entry in self.journal()[-30:])
            raise AssertionError(f"{command}: {done.returncode}: {done.stderr}{done.stdout}{told}")
        return done

    def systemctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *words, check=check)

    def shows(self, unit: str, name: str) -> str:
        return self.systemctl("show", "-P", name, unit).stdout.strip()

    def main(self, unit: str) -> int:
        """Its main process, by the number that it has there."""
        return int(self.shows(unit, "MainPID"))

    def journal(self, *of: str) -> list[dict[str, str]]:
        """Entries, oldest first; `of`: what journalctl is to select."""
        found = self.run("journalctl", "-o", "json", *of, check=False).stdout
        return [json.loads(line) for line in found.splitlines()]

    def logged(self, unit: str, text: str, times: int = 1) -> dict[str, str]:
        """Wait for the entry, the so-manieth with that text."""
        found: list[dict[str, str]] = []

        def there() -> bool:
            found[:] = [each for each in self.journal("-u", unit) if text in each["MESSAGE"]]
            return len(found) >= times

        self.until(there)
        return found[times - 1]

    def until(self, fits: Callable[[], object]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not fits():
            assert self._process.poll() is None, "systemd has ended"
            assert time.monotonic() < deadline, [each["MESSAGE"] for each in self.journal()][-30:]
            time.sleep(0.02)


def _program(package: str) -> str:
    """On the interpreter and the packages of this test."""
    python = f"{_LIB}/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    path = f'["{_LIB}/tree", "{_LIB}/packages"]'
    code = f"import sys; sys.path[:0] = {path}; from {package}.cli import main; main()"
    return f"#!/bin/sh\nLD_LIBRARY_PATH={_LIB}/python/lib exec {python} -c '{code}' \"$@\"\n"
