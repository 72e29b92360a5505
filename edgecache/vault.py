"""What outlives a process that serves of its cache, for the next one: kept by the parent of `serve
--supervise`, or by `edgecache keep`, a service of its own.

Items of control/carry.py, which this does not read, each under the number of a mark in memory that
both processes map (native/deposit.pxd): what the other marks as left is let go of with the next
packet, and never given to anybody. Memfds are held, not copied; the rest is counted by the other.

Laws: one vault for each process that serves or is to take over. Who opens one when the process that
serves is gone, killed or stopped, gets what that left, once its last packets are read; while that
is there, one of its own, which counts once it says that it serves. Bounds: ROOM items; as many
descriptors as the limit of the process allows, but for SPARE; what is beyond is not kept. Peers are
processes of this user.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Final

from . import logs
from .control import carry, manager
from .control.channel import Channel, Packet

log = logging.getLogger(__name__)

ROOM: Final = 65536
SPARE: Final = 512  # descriptors for all else
_FREE, _KEPT, _LEFT = b"\0", b"\1", b"\2"


class Vault:
    """Of one process, and then of the next. close() lets go of everything."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.format = 0  # of the items
        self.reader: asyncio.Task[None] | None = None
        self.channel: Channel | None = None
        self.fds_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE
        self._file = os.memfd_create("edgecache-marks")
        os.ftruncate(self._file, room)
        self._marks = mmap.mmap(self._file, room)
        self._items: dict[int, tuple[bytes, int]] = {}  # slot -> item, descriptor or -1
        self._fds = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def descriptors(self) -> int:
        return self._fds

    @property
    def left(self) -> bool:
        """By the process whose it was."""
        return self.channel is None or self.channel.gone

    def begin(self, number: int) -> None:
        """In format `number`: what is there in another one is worth nothing to who opens it."""
        if number != self.format:
            for slot in tuple(self._items):
                self._drop(slot)
        self.format = number

    def take(self, packet: Packet) -> None:
        """Raises ValueError, KeyError or TypeError for what is none."""
        unused = list(reversed(packet.fds))
        start = 0
        try:
            if packet.kind == "gone":
                for slot in packet.value:
                    self._drop(slot)
                return
            for slot, (size, has_fd) in zip(
                packet.value["slots"], packet.value["sizes"], strict=True
            ):
                fd = unused.pop() if has_fd and unused else -1
                self._put(slot, packet.raw[start : start + size], fd, bool(has_fd))
                start += size
        finally:
            for fd in unused:
                os.close(fd)
        self.sweep()

    def _put(self, slot: int, item: bytes, fd: int, wanted: bool) -> None:
        before = self._items.get(slot)
        if fd < 0 and before is not None:
            del self._items[slot]  # so that it is the last
            self._items[slot] = item, before[1]
        elif wanted and (fd < 0 or self._fds >= self.fds_max):
            if fd >= 0:
                os.close(fd)
        else:
            self._items[slot] = item, fd
            self._fds += fd >= 0

    def _drop(self, slot: int) -> None:
        _, fd = self._items.pop(slot, (b"", -1))
        if fd >= 0:
            os.close(fd)
            self._fds -= 1
        self._marks[slot : slot + 1] = _FREE

    def sweep(self) -> None:
        """What has left."""
        slot = self._marks.find(_LEFT)
        while slot >= 0:
            self._drop(slot)
            slot = self._marks.find(_LEFT, slot + 1)

    async def give(self, channel: Channel) -> None:
        """All that still stands, what was told last before all else, for that is what viewers ask
        for. Nobody else marks meanwhile."""
        self.sweep()
        slot = self._marks.find(_KEPT)
        while slot >= 0:  # marked, and never told
            if slot not in self._items:
                self._marks[slot : slot + 1] = _FREE
            slot = self._marks.find(_KEPT, slot + 1)
        await channel.send("marks", self.room, fds=[self._file])
        batch, slots = carry.Batch(), list[int]()
        for slot, (item, fd) in reversed(self._items.items()):
            batch.put(item, fd)
            slots.append(slot)
            if batch.full:
                await _send(channel, batch, slots)
                batch, slots = carry.Batch(), []
        await _send(channel, batch, slots)
        await channel.send("end")

    def close(self) -> None:
        for _, fd in self._items.values():
            if fd >= 0:
                os.close(fd)
        self._items.clear()
        self._marks.close()
        os.close(self._file)


async def _send(channel: Channel, batch: carry.Batch, slots: list[int]) -> None:
    if slots:
        value = {"slots": slots, "sizes": batch.sizes}
        await channel.send("state", value, raw=bytes(batch.raw), fds=batch.fds)


class Keeper:
    """Where processes deposit. `name` is the address of its socket: a path, or `@` with an abstract
    name. Raises OSError when it cannot listen there."""

    def __init__(self, path: str = "") -> None:
        self._serving = Vault()  # of who serves, or did last
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if path:
            Path(path).unlink(missing_ok=True)
        self._socket.bind(path)
        self._socket.listen(8)
        self._socket.setblocking(False)
        self.name = path or "@" + self._socket.getsockname()[1:].decode()

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self._socket.accept()
            channel = Channel(sock)
            if channel.peer()[1] != os.getuid():
                channel.close()
                return
            task = asyncio.create_task(self._read(channel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _read(self, channel: Channel) -> None:
        vault = self._serving if self._serving.left else Vault()
        before, vault.reader = vault.reader, asyncio.current_task()
        vault.channel = channel
        try:
            if before is not None:
                await asyncio.wait([before])  # to the last words of who was killed
            vault.begin((await channel.receive()).value)
            await vault.give(channel)
            while True:
                packet = await channel.receive()
                if packet.kind == "serving":
                    self._serves(vault)
                else:
                    vault.take(packet)
        except (OSError, EOFError):
            pass
        except (ValueError, KeyError, TypeError) as error:
            log.error("what was to be kept of the cache cannot be: %s", error)
        finally:
            channel.close()
            if vault is not self._serving:
                vault.close()

    def _serves(self, vault: Vault) -> None:
        """From now on."""
        before, self._serving = self._serving, vault
        if before is not vault and (before.reader is None or before.reader.done()):
            before.close()

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._serving.close()
        self._socket.close()


def keep(path: str) -> None:
    """Until SIGTERM. Raises OSError when it cannot listen at `path`."""

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        keeper = Keeper(path)
        keeper.start()
        log.info("keeping", extra={"at": path})
        manager.notify("READY=1")
        await stop.wait()
        await keeper.close()

    logs.setup()
    asyncio.run(run())
