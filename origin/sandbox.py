"""What an encoder may do beyond reading one pipe and writing its own: as little as the host lets us
take away.

Laws: no file grows by it, no core, no new privileges, few descriptors; no network at all where the
host allows us to leave it (a namespace of its own, tried once); it dies with us, however we die.
Nothing here needs root. Its command says what it reads, see ladder.py. Does not know ffmpeg.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import subprocess
from functools import cache
from typing import Final

LIMITS: Final = (
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NOFILE, 64),  # to be opened; those it is given may have higher numbers
)
ENVIRONMENT: Final = {"LC_ALL": "C"}
_PROBE_S: Final = 5.0
# With the privilege, or as somebody's own root without any.
_NETLESS: Final = (("--net",), ("--user", "--map-root-user", "--net"))


@cache
def prefix() -> tuple[str, ...]:
    """The command that confines itself and then becomes the one after it. util-linux has both
    tools everywhere we run; without them the end of its input still ends an ffmpeg that is not
    hung. No preexec_fn: that forks a threaded process."""
    dies = _dies_with_parent()
    unshare = shutil.which("unshare")
    for options in _NETLESS if unshare else ():
        # first, because entering a user namespace would undo the other
        confined = (str(unshare), *options, "--", *dies)
        if _works(*confined):
            return confined
    return dies


def limit(pid: int) -> None:
    """What else `pid`, just started, may not. It may be gone again."""
    for each, value in LIMITS:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, each, (value, value))


def _dies_with_parent() -> tuple[str, ...]:
    """PR_SET_PDEATHSIG and PR_SET_NO_NEW_PRIVS."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    return (setpriv, "--no-new-privs", "--pdeathsig", signal.Signals.SIGKILL.name[3:], "--")


def _works(*command: str) -> bool:
    try:
        return not subprocess.run(
            [*command, "true"], capture_output=True, check=False, timeout=_PROBE_S
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False
