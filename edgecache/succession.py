"""Restart without a gap: a process gives all that viewers depend on to the one that succeeds it.

Whoever starts with the same `takeover.socket` as a running process takes over from it, by steps:
  sockets      listening sockets, which both may accept from: nobody's accept queue is lost
  ready        the successor is built; the running process now closes its push door, whose peers
               reconnect to a socket that is open all the time and send again what was not answered
  state … end  the cache (carry.py)
  taken, go    the point of no return: one of the two fills what is half filled
  serving      from here on the old process accepts nothing
  connections  each that is between two requests, or waits for what will be pushed to the successor
  grown        how far the successor has filled what viewers of the old process are in the middle of
The old process ends when its last answer is out (`http.drain`) and its last publisher is gone
(`takeover.publishers`).

Law: whatever goes wrong before `serving`, the running process goes on as if nothing had happened.
Peers are processes of the same user. Every step has a deadline. Does not know what is in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import __version__
from .control import carry
from .control.channel import FDS_MAX, Channel, Packet
from .control.fill import Filler
from .control.follow import Follower
from .control.hosting import Hosting
from .control.httpd import Door
from .control.push import PushReceiver
from .errors import EdgeError
from .signing import Verifier

if TYPE_CHECKING:
    from ._core import Fill, Plane

log = logging.getLogger(__name__)

# Its parent ends at once, so that it is a child of the service manager: systemd waits for the end
# of a main process that is to stop only if it is its own child, and else kills it.
_ORPHAN: Final = """
import os, sys
print(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ,
                     file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)], setsid=True))
"""
PROTOCOL: Final = 1  # of the steps; what they carry is carry.FORMAT
_STEP_S: Final = 10.0
_AGAIN_S: Final = 0.02


class TakeoverError(EdgeError):
    """There is a running process, and nothing can be taken from it; the message says why."""

    source = "config"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What of a daemon has a state that goes over."""

    plane: Plane
    filler: Filler
    follower: Follower
    receiver: PushReceiver
    verifier: Verifier
    push: Door
    hosting: Hosting


class Heir:
    """The successor's side. `sockets`: name -> listening sockets, its own from now on."""

    def __init__(self, channel: Channel, first: Packet) -> None:
        self._channel = channel
        self._known = first.value["format"] == carry.FORMAT
        self._theirs = f"{first.value['version']} (format {first.value['format']})"
        self._tasks: set[asyncio.Task[None]] = set()
        self.kept = frozenset(first.value["kept"])  # of those, what a service manager has as well
        self.sockets: dict[str, list[socket.socket]] = {}
        for name, fd in zip(first.value["names"], first.fds, strict=True):
            self.sockets.setdefault(name, []).append(socket.socket(fileno=fd))

    async def take(self, parts: Parts) -> None:
        """The state, into parts that do not run yet. Raises TakeoverError when the running process
        kept it."""
        unpacker = carry.Unpacker(
            parts.plane, pushed=parts.receiver.stored, grows=parts.receiver.resume
        )
        try:
            await self._channel.send("ready", self._known)
            await self._unpack(unpacker, parts)
            await self._channel.send("taken")
            await _next(self._channel, "go")
        except (OSError, EOFError, TimeoutError) as error:
            raise TakeoverError(f"takeover.socket: the running process stopped: {error}") from None
        unpacker.follow(parts.follower.resume)
        parts.receiver.told = self._tell
        facts = {"from": self._theirs, "entries": unpacker.taken, "left": unpacker.left}
        if self._known:
            log.info("cache taken over", extra=facts)
        else:
            log.warning("cold start: format %d is all we know", carry.FORMAT, extra=facts)

    async def _unpack(self, unpacker: carry.Unpacker, parts: Parts) -> None:
        while True:
            packet = await _next(self._channel, "state", "end")
            try:
                if packet.kind == "end":
                    seen, since_s = packet.value["nonces"], packet.value.get("since", 0.0)
                    parts.verifier.recall(seen, since_s)
                    return
                unpacker.take(packet.value, packet.raw, packet.fds)
            except (ValueError, KeyError, TypeError) as error:
                log.error("part of the cache cannot be taken over: %s", error)
                if packet.kind == "end":
                    return

    async def serving(self, plane: Plane) -> None:
        """Say that we do; connections come from then on."""
        with contextlib.suppress(OSError):
            await self._channel.send("serving")
        self._spawn(self._adopt(plane))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self, key: bytes, filled: int, etag: bytes | None, ended: bool) -> None:
        value = [key.decode("latin-1"), filled, etag and etag.decode(), ended]
        self._spawn(self._say("grown", value))

    async def _say(self, kind: str, value: object) -> None:
        with contextlib.suppress(OSError):
            await self._channel.send(kind, value)

    async def _adopt(self, plane: Plane) -> None:
        """Until the other process has no more."""
        adopted = 0
        with contextlib.suppress(OSError, EOFError):
            while (packet := await self._channel.receive()).kind == "connections":
                start = 0
                for fd, (length, client) in zip(packet.fds, packet.value, strict=True):
                    unread = packet.raw[start : start + length]
                    if not plane.give_back(fd, unread, client.encode()):
                        os.close(fd)
                    start += length
                adopted += len(packet.fds)
        log.info("took over", extra={"connections": adopted})

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._channel.close()


async def claim(path: str) -> Heir | None:
    """From the process that listens at `path`; None: there is none. Raises TakeoverError."""
    if not path:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(path)
        channel = Channel(sock)
        first = await _next(channel, "sockets")
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except (OSError, EOFError, TimeoutError) as error:
        sock.close()
        text = f"found {path}, which gives nothing: {error or 'too slow'}"
        raise TakeoverError(f"takeover.socket: {text}") from None
    if first.value["protocol"] != PROTOCOL:
        text = f"the running process speaks takeover protocol {first.value['protocol']}"
        raise TakeoverError(f"takeover.socket: {text}, allowed {PROTOCOL}: stop it first")
    return Heir(channel, first)


class Estate:
    """The running process's side: run() until somebody has taken over, then leave()."""

    def __init__(
        self,
        path: str,
        parts: Parts,
        listening: Mapping[str, list[socket.socket]],
        kept: Collection[str],
    ) -> None:
        """`kept`: names of sockets that a service manager holds open, too."""
        self._path = path
        self._parts = parts
        self._listening = listening
        self._kept = sorted(kept)
        self._queue: deque[tuple[int, bytes, bytes]] = deque()
        self._channel: Channel | None = None
        self._started: dict[int, int] = {}  # process id -> a descriptor of it
        self.successor = 0  # its process id

    async def run(self) -> None:
        """Offer until it was taken; then `successor` serves."""
        loop = asyncio.get_running_loop()
        with self._bound() as listener:
            while not self.successor:
                sock, _ = await loop.sock_accept(listener)
                channel = Channel(sock)
                try:
                    await self._offer(channel)
                except (OSError, EOFError, TimeoutError, TakeoverError) as error:
                    log.error("handing over failed, this process goes on: %s", error or "too slow")
                    channel.close()
                else:
                    self._channel, self.successor = channel, channel.peer()[0]

    def succeed(self) -> None:
        """Start what takes over from us, as we were started."""
        if not self._path:
            log.error("takeover.socket: found none, so nobody can take over")
            return
        command = [sys.executable, "-ISc", _ORPHAN, sys.executable, *sys.orig_argv[1:]]
        try:
            told = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_STEP_S)
            pid = int(told.stdout)
            self._started[pid] = os.pidfd_open(pid)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("starting a successor failed, this process goes on: %s", error)

    def reap(self) -> None:
        """Now and then: one that we started and that has not taken over."""
        for pid, fd in tuple(self._started.items()):
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if poll.poll(0):
                os.close(fd)
                del self._started[pid]
                log.error("the successor has ended, this process goes on", extra={"pid": pid})

    @contextlib.contextmanager
    def _bound(self) -> Any:
        """Bound beside and moved into place: from one process to the next in one step."""
        beside = f"{self._path}.{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            Path(beside).unlink(missing_ok=True)
            listener.bind(beside)
            os.chmod(beside, 0o600)
            listener.listen(4)
            listener.setblocking(False)
            os.rename(beside, self._path)
            try:
                yield listener
            finally:
                if not self.successor:
                    Path(self._path).unlink(missing_ok=True)

    async def _offer(self, channel: Channel) -> None:
        if channel.peer()[1] not in (os.getuid(), 0):
            raise TakeoverError("asked for by another user")
        pairs = [(name, item.fileno()) for name, items in self._listening.items() for item in items]
        about = {"protocol": PROTOCOL, "format": carry.FORMAT, "version": __version__}
        names = [name for name, _ in pairs]
        told = {**about, "names": names, "kept": self._kept}
        await channel.send("sockets", told, fds=[fd for _, fd in pairs])
        wants_state = (await _next(channel, "ready", within_s=6 * _STEP_S)).value
        await self._parts.push.close(1.0)
        try:
            async with asyncio.timeout(6 * _STEP_S):
                await self._give_state(channel, wants_state)
            await _next(channel, "serving")
        except BaseException:
            if "push" in self._listening:
                await self._parts.push.start(self._listening["push"][0].dup())
            raise

    async def _give_state(self, channel: Channel, wanted: bool) -> None:
        for batch in carry.pack(self._parts.plane, self._parts.receiver.keys) if wanted else ():
            await channel.send("state", batch.sizes, raw=bytes(batch.raw), fds=batch.fds)
        verifier = self._parts.verifier
        told = {"nonces": verifier.remembered(), "since": verifier.since_s}
        await channel.send("end", told)
        await _next(channel, "taken")
        await channel.send("go")

    async def leave(self, until_s: float, now: asyncio.Event) -> None:
        """Connections go over, answers under way are finished, until loop time `until_s`."""
        parts, loop = self._parts, asyncio.get_running_loop()
        parts.follower.leave()
        hearing = loop.create_task(self._hear(parts.receiver.leave()))
        parts.plane.hand_over()
        for key in tuple(parts.filler.held):
            parts.plane.purge(key)  # who waits for that push waits for it over there
        while (parts.hosting.connections() or self._queue) and not now.is_set():
            if loop.time() >= until_s:
                break
            await self._send_on()
            if self._channel is None:
                parts.plane.drain()
            else:
                parts.plane.hand_over()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S):
                    await now.wait()
        await self._send_on()
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        self._lose()

    def pass_on(self, fd: int, unread: bytes, client: bytes) -> None:
        self._queue.append((fd, unread, client))

    async def _send_on(self) -> None:
        while self._queue:
            some = [self._queue.popleft() for _ in range(min(FDS_MAX, len(self._queue)))]
            raw, fds = b"".join(unread for _, unread, _ in some), [fd for fd, _, _ in some]
            whose = [[len(unread), client.decode()] for _, unread, client in some]
            try:
                if self._channel is not None:
                    await self._channel.send("connections", whose, raw=raw, fds=fds)
            except OSError as error:
                log.error("the successor is gone: %s", error)
                self._lose()
            finally:
                for fd in fds:
                    os.close(fd)

    async def _hear(self, fills: dict[bytes, Fill]) -> None:
        """What the successor did with bodies that our viewers are in the middle of."""
        try:
            while self._channel is not None and fills:
                name, filled, etag, ended = (await self._channel.receive()).value
                key = name.encode("latin-1")
                if (fill := fills.get(key)) is None:
                    continue
                fill.grown(filled)
                if etag:
                    fill.commit(etag=etag.encode())
                if etag or ended:
                    del fills[key]  # one that did not end well fails with it
        except (OSError, EOFError):
            self._lose()

    def _lose(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


async def _next(channel: Channel, *kinds: str, within_s: float = _STEP_S) -> Packet:
    """Raises TimeoutError, EOFError, OSError, or TakeoverError for another kind."""
    async with asyncio.timeout(within_s):
        packet = await channel.receive()
    if packet.kind not in kinds:
        for fd in packet.fds:
            os.close(fd)
        raise TakeoverError(f"takeover.socket: found {packet.kind[:20]!r}, allowed {kinds}")
    return packet
