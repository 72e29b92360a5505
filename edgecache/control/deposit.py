"""What is in the cache is told, as it comes and goes, to the process that keeps it for the next
one, should this one be killed or restarted (edgecache/vault.py): memfds are passed and stay where
they are, what is on the heap is copied, and counted in the budget. The next process begins with it.

Laws: no request and no push waits for this: what changed is told behind them, in the order in which
it changed, so a playlist never gets ahead of what it names. That something left, the keeper sees in
the marks, whenever this process dies (native/deposit.pxd). What finds no mark is not kept, and is
counted. Without a keeper, or once it is gone, nobody keeps and all else is the same.
Takes what was carried the way a successor does (carry.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from . import carry, manager
from .channel import FDS_MAX, Channel, Packet

if TYPE_CHECKING:
    from .._core import Holding, Plane
    from .follow import Follower
    from .push import PushReceiver

log = logging.getLogger(__name__)

_STEP_S: Final = 10.0
_RECORD_BYTES: Final = 256  # that an item costs beside its own bytes where it is kept


async def connect(environ: Mapping[str, str] = os.environ) -> Deposit | None:
    """To who keeps; None: nobody does."""
    if not (name := environ.get(manager.KEEPER, "")):
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect("\0" + name[1:] if name[0] == "@" else name)
        channel = Channel(sock)
        await channel.send("open", carry.FORMAT)
        first = await _next(channel)
    except (OSError, EOFError, TimeoutError) as error:
        sock.close()
        log.warning("nobody keeps the cache: %s", error or "too slow")
        return None
    return Deposit(channel, first)


class Deposit:
    """take() before anything else is stored, then run() for as long as we serve. `counts`: told, of
    these kept (the first time) and left_out; resumed, which the process before us had kept."""

    def __init__(self, channel: Channel, first: Packet) -> None:
        self._channel = channel
        self._room: int = first.value
        self._marks = first.fds[0]
        self._changed = asyncio.Event()
        self.known = asyncio.Event()  # all that we began with
        self._gone: list[int] = []  # marks of what did not come back
        self._plane: Plane
        self._receiver: PushReceiver
        self.counts: Counter[str] = Counter()

    async def take(self, plane: Plane, receiver: PushReceiver, follower: Follower) -> None:
        """What the process before us left, which comes backwards. Viewers may be there already."""
        self._plane, self._receiver = plane, receiver
        pushed: list[tuple[bytes, int, int]] = []
        unpacker = carry.Unpacker(
            plane, pushed=lambda *each: pushed.append(each), grows=receiver.resume
        )
        slots: dict[bytes, tuple[int, int]] = {}
        try:
            await self._unpack(unpacker, slots)
        except (OSError, EOFError, TimeoutError, ValueError, KeyError, TypeError) as error:
            log.error("what was kept of the cache cannot be taken: %s", error or "too slow")
        for each in reversed(pushed):
            receiver.stored(*each)
        unpacker.follow(follower.resume)
        self._bind(slots)
        if unpacker.taken or unpacker.left:
            facts = {"entries": unpacker.taken, "left": unpacker.left}
            log.info("cache kept", extra=facts)

    async def _unpack(self, unpacker: carry.Unpacker, slots: dict[bytes, tuple[int, int]]) -> None:
        """`slots`: key -> mark, bytes of the item."""
        while (packet := await _next(self._channel)).kind == "state":
            sizes = packet.value["sizes"]
            keys = unpacker.take(sizes, packet.raw, packet.fds)
            for key, slot, (size, _) in zip(keys, packet.value["slots"], sizes, strict=True):
                slots[key] = slot, size

    def _bind(self, slots: dict[bytes, tuple[int, int]]) -> None:
        """What is here again keeps its mark, what is not gives it up; changes are told from now
        on."""
        from .._core import holdings

        self._plane.keep(self._marks, self._room, self._changed.set)
        os.close(self._marks)
        for holding in holdings(self._plane):
            slot, size = slots.get(holding.key, (-1, 0))
            if slot >= 0 and holding.keep(_RECORD_BYTES + size, slot) >= 0:
                self.counts["resumed"] += 1
                del slots[holding.key]
        self._gone = [slot for slot, _ in slots.values()]

    async def run(self) -> None:
        """Until the keeper is gone."""
        try:
            await self._channel.send("gone", self._gone)
            while True:
                self._changed.clear()
                await self._tell()
                if not self.known.is_set():
                    await self._channel.send("serving")  # from now on it is ours that counts
                    self.known.set()
                await self._changed.wait()
        except OSError as error:
            self._plane.keep_no_more()
            log.warning("nobody keeps the cache any more: %s", error)
        finally:
            self.known.set()

    async def _tell(self) -> None:
        from .._core import noted

        while True:
            batch, slots = carry.Batch(), list[int]()
            some = noted(self._plane, FDS_MAX)
            for holding in some:
                self._add(holding, batch, slots)
            value = {"slots": slots, "sizes": batch.sizes}
            await self._channel.send("keep", value, raw=bytes(batch.raw), fds=batch.fds)
            if len(some) < FDS_MAX:
                return

    def _add(self, holding: Holding, batch: carry.Batch, slots: list[int]) -> None:
        if not carry.carried(holding, self._receiver.keys):
            return
        item = carry.item_of(holding)
        fresh = holding.slot < 0
        passed = fresh and holding.parent is None
        slot = holding.keep(_RECORD_BYTES + len(item))
        self.counts["told"] += 1
        if slot < 0:
            self.counts["left_out"] += 1
            return
        self.counts["kept"] += fresh
        batch.put(item, holding.fd if passed else -1, holding)
        slots.append(slot)

    def close(self) -> None:
        self._channel.close()


async def _next(channel: Channel) -> Packet:
    async with asyncio.timeout(_STEP_S):
        return await channel.receive()
