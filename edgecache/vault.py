"""What the parent of `serve --supervise` keeps of its child's cache, for the next one.

Items of control/carry.py, which this does not read, each under the number of a mark in memory that
both processes map (native/deposit.pxd): what the child marks as left is let go of with the next
packet, and never given to anybody. Memfds are held, not copied; the rest is counted by the child.

Laws: one vault for each process that serves or is to take over; what a killed one left goes to the
next as it is, once its last packets are read. Bounds: ROOM items; as many descriptors as the limit
of the process allows, but for SPARE; what is beyond is not kept. Peers are processes of this user.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import resource
import socket
from typing import Final

from .control import carry
from .control.channel import Channel, Packet

log = logging.getLogger(__name__)

ROOM: Final = 65536
SPARE: Final = 512  # descriptors for all else
_FREE, _KEPT, _LEFT = b"\0", b"\1", b"\2"


class Vault:
    """Of one process, and then of the next. close() lets go of everything."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.format = carry.FORMAT
        self.reader: asyncio.Task[None] | None = None
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
        if self.reader is not None:
            self.reader.cancel()
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
    """Where processes deposit: `name` is the abstract name of its socket."""

    def __init__(self) -> None:
        self._serving = 0
        self._vaults: dict[int, Vault] = {}  # by process id
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind("")
        self._socket.listen(8)
        self._socket.setblocking(False)
        self.name = self._socket.getsockname()[1:].decode()

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def serves(self, pid: int, after: int) -> None:
        """`pid` serves from now on: it was started because `after` died, or (it has opened a vault
        of its own) took over from that one."""
        old = self._vaults.pop(after, None)
        if pid not in self._vaults:
            self._vaults[pid] = old if old is not None else Vault()
        elif old is not None:
            old.close()
        self._serving = pid

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self._socket.accept()
            channel = Channel(sock)
            pid, user = channel.peer()
            if user != os.getuid():
                channel.close()
                return
            task = asyncio.create_task(self._read(channel, pid))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _read(self, channel: Channel, pid: int) -> None:
        vault = (
            self._vaults.setdefault(pid, Vault()) if pid not in self._vaults else self._vaults[pid]
        )
        before, vault.reader = vault.reader, asyncio.current_task()
        try:
            if before is not None:
                await asyncio.wait([before])  # to the last words of who was killed
            first = await channel.receive()
            if first.value != vault.format:
                vault = self._vaults[pid] = Vault()
            await vault.give(channel)
            while True:
                vault.take(await channel.receive())
        except (OSError, EOFError):
            if pid != self._serving and self._vaults.get(pid) is vault:
                self._vaults.pop(pid).close()
        except (ValueError, KeyError, TypeError) as error:
            log.error("what was to be kept of the cache cannot be: %s", error)
        finally:
            channel.close()

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for vault in self._vaults.values():
            vault.close()
        self._socket.close()
