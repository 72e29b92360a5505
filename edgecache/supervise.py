"""`edgecache serve --supervise`: a parent that outlives the process that serves, however that
dies, and starts the next one on the same listening sockets.

To its child it is a service manager like systemd (control/manager.py): what was given to keep goes
to the next one, so new connections wait in their queues while nobody serves, refused by nobody. The
next one stands by with everything imported, so that takes milliseconds.

Laws: it serves nothing and reads no settings, so what kills the child does not kill it. Who said
READY last serves; when it dies and was not asked to, the next is started: at once, and after delays
that double until one is READY again. A first one that never was ready, and one that ends in order,
end it all with their exit code. Signals are passed on. If the parent itself is killed, the child
goes on serving. Bounds: sockets kept (beyond, none is), the delay.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final

from . import logs
from .control import manager
from .vault import Keeper

log = logging.getLogger(__name__)

_KEPT_MAX: Final = 240  # of the 253 that one packet takes
_DELAY_S: Final = 0.05
_DELAY_MAX_S: Final = 5.0
_TO_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_PASSED_ON: Final = (*_TO_STOP, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_CONTROL_BYTES: Final = socket.CMSG_SPACE(253 * 4) + socket.CMSG_SPACE(12)  # SCM_MAX_FD, and who
_PR_SET_CHILD_SUBREAPER: Final = 36


class Supervisor:
    """`await run()` returns the exit code."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._kept: list[tuple[str, int]] = []  # (name, descriptor), in the order given
        self._serving = 0  # process id; 0: none
        self._ready = False  # was anyone, ever?
        self._leaving = False  # the one that serves ends in order
        self._failures = 0  # since one was ready
        self._over: asyncio.Future[int] | None = None
        self._standby: tuple[int, socket.socket] | None = None  # (process id, to tell it to serve)
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._keeper = Keeper()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # so that a successor is ours to await
        for number in _PASSED_ON:
            loop.add_signal_handler(number, self._pass_on, number)
        with self._told as told:
            told.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            told.bind("")  # a name that is no file
            told.setblocking(False)
            loop.add_reader(told, self._hear)
            self._keeper.start()
            self._start()
            code = await self._over
            self._drop()
            await self._keeper.close()
            loop.remove_reader(told)
        for _, fd in self._kept:
            os.close(fd)
        return code

    # -- processes

    def _prepare(self) -> None:
        """The next one, up to where it would serve: a kill costs no start of a program."""
        self._drop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            environ = os.environ | {
                "NOTIFY_SOCKET": "@" + self._told.getsockname()[1:].decode(),
                manager.STANDBY: "1",
                manager.KEEPER: self._keeper.name,
            }
            actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), manager.FIRST_FD)]
            pid = os.posix_spawn(
                self._command[0], self._command, environ, file_actions=actions, setsid=True
            )
        self._standby = pid, ours

    def _drop(self) -> None:
        """One that was prepared and is not needed."""
        if self._standby is not None:
            pid, ours = self._standby
            ours.close()
            os.kill(pid, signal.SIGKILL)  # it has nothing yet
            os.waitpid(pid, 0)
            self._standby = None

    def _start(self) -> None:
        if self._standby is None:
            self._prepare()
        assert self._standby is not None
        pid, ours = self._standby
        self._standby = None
        with ours, contextlib.suppress(OSError):  # it is dead, which we are about to be told
            names = json.dumps([name for name, _ in self._kept]).encode()
            socket.send_fds(ours, [names], [fd for _, fd in self._kept])
        log.info("started", extra={"pid": pid, "sockets": len(self._kept)})
        self._serves(pid)

    def _serves(self, pid: int) -> None:
        """From now on, until it ends."""
        self._serving = pid
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)  # it may be a child of the one that it takes over from
            asyncio.get_running_loop().add_reader(fd, self._ended, pid, fd)

    def _ended(self, pid: int, fd: int) -> None:
        self._hear()  # to its last words
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # still a child of its predecessor's
            code = -signal.SIGKILL
        if pid != self._serving:
            return  # another has taken over
        self._serving = 0
        if self._leaving or not self._ready or code == 0:
            self._end(code)
            return
        delay_s = min(_DELAY_S * 2**self._failures, _DELAY_MAX_S) if self._failures else 0.0
        self._failures += 1
        log.error("the process that serves has ended", extra={"code": code, "again_s": delay_s})
        asyncio.get_running_loop().call_later(delay_s, self._start)

    def _end(self, code: int) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(code if code >= 0 else 128 - code)

    def _pass_on(self, number: int) -> None:
        self._leaving |= number in _TO_STOP
        if self._serving:
            os.kill(self._serving, number)
        elif self._leaving:
            self._end(0)

    # -- what we are told

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                text, control, _, _ = self._told.recvmsg(
                    4096, _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC
                )
                fds = array.array("i")
                pid, user = 0, -1
                for _, kind, item in control:
                    if kind == socket.SCM_RIGHTS:
                        fds.frombytes(item[: len(item) - len(item) % fds.itemsize])
                    elif kind == socket.SCM_CREDENTIALS:
                        pid, user, _ = struct.unpack("iii", item)
                if user == os.getuid():
                    self._heard(pid, text.decode("utf-8", "replace"), fds)
                for fd in fds:
                    os.close(fd)

    def _heard(self, pid: int, text: str, fds: Sequence[int]) -> None:
        values = dict(line.partition("=")[::2] for line in text.splitlines())
        name = values.get("FDNAME", "stored")
        if "FDSTORE" in values:
            self._keep(name, fds)
        if "FDSTOREREMOVE" in values:
            for fd in [fd for kept, fd in self._kept if kept == name]:
                os.close(fd)
            self._kept = [item for item in self._kept if item[0] != name]
        if "STOPPING" in values and pid == self._serving:
            self._leaving = True
        if "READY" in values:
            self._ready, self._leaving, self._failures = True, False, 0
            if pid != self._serving:
                self._serves(pid)
            self._prepare()  # also anew: the program may be another one now

    def _keep(self, name: str, fds: Sequence[int]) -> None:
        """Those that are not kept yet."""
        known = {os.fstat(fd).st_ino for _, fd in self._kept}
        fresh = [fd for fd in fds if os.fstat(fd).st_ino not in known]
        if len(self._kept) + len(fresh) <= _KEPT_MAX:
            self._kept += [(name, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)) for fd in fresh]


def supervise() -> int:
    """Run this command without `--supervise`, again and again if need be. Returns the exit code."""
    logs.setup()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    arguments = [word for word in sys.orig_argv[1:] if word != "--supervise"]
    return asyncio.run(Supervisor([sys.executable, *arguments]).run())
