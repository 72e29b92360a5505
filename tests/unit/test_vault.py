"""What is kept of a cache: items that nobody reads here, in order, and their descriptors; and who
gets them."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from edgecache.control.channel import Channel, Packet
from edgecache.vault import Keeper, Vault
from tests.looped import looped

FREE, KEPT, LEFT = b"\0", b"\1", b"\2"
ROOM = 4096


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def file(text: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, text)
    return fd


def packet(*items: tuple[int, bytes, int]) -> Packet:
    """Each: slot, item, descriptor or -1."""
    value = {
        "slots": [slot for slot, _, _ in items],
        "sizes": [[len(item), int(fd >= 0)] for _, item, fd in items],
    }
    fds = [fd for _, _, fd in items if fd >= 0]
    return Packet("keep", value, b"".join(item for _, item, _ in items), fds)


class Given:
    """What the next process gets."""

    def __init__(self, vault: Vault | None = None) -> None:
        self.items: list[tuple[int, bytes, bytes]] = []  # slot, item, what is in its descriptor
        if vault is not None:
            asyncio.run(self._give(vault))

    async def _give(self, vault: Vault) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        giver, taker = Channel(ours), Channel(theirs)
        giving = asyncio.create_task(vault.give(giver))
        await self.take(taker)
        await giving
        giver.close()
        taker.close()

    async def take(self, taker: Channel) -> None:
        first = await taker.receive()
        self.marks = mmap.mmap(first.fds[0], first.value)
        os.close(first.fds[0])
        while (packet := await taker.receive()).kind == "state":
            start, fds = 0, list(packet.fds)
            for slot, (size, has) in zip(packet.value["slots"], packet.value["sizes"], strict=True):
                body = b""
                if has:
                    body = os.pread(fds[0], 99, 0)
                    os.close(fds.pop(0))
                self.items.append((slot, packet.raw[start : start + size], body))
                start += size


def test_what_was_told_last_is_given_first_and_more_than_once() -> None:
    before = opened()
    vault = Vault(ROOM)
    marks = Given(vault).marks
    marks[0:3] = KEPT * 3
    vault.take(packet((2, b"first", file(b"1")), (0, b"second", -1)))
    vault.take(packet((1, b"third", file(b"3")), (2, b"first, grown", -1)))
    expected = [(2, b"first, grown", b"1"), (1, b"third", b"3"), (0, b"second", b"")]
    for _ in range(2):
        assert Given(vault).items == expected
    assert (len(vault), vault.descriptors) == (3, 2)
    vault.close()
    marks.close()
    assert opened() == before


def test_what_has_left_is_let_go_of_and_never_given() -> None:
    """Even if nobody told: the process was killed right after it marked that."""
    vault = Vault(ROOM)
    marks = Given(vault).marks
    marks[0:3] = KEPT * 3
    vault.take(packet((0, b"a", file(b"a")), (1, b"b", file(b"b"))))
    before = opened()
    marks[0:1] = LEFT
    marks[2:3] = KEPT  # and killed before it told of that one
    assert Given(vault).items == [(1, b"b", b"b")]
    assert opened() == before - 1
    assert marks[0:3] == FREE + KEPT + FREE
    marks[1:2] = LEFT
    vault.take(packet())
    assert (len(vault), vault.descriptors, marks[1:2]) == (0, 0, FREE)
    vault.take(packet((1, b"another", -1)))
    vault.take(Packet("gone", [1], b"", []))
    assert len(vault) == 0
    vault.close()


def test_beyond_its_descriptors_none_is_kept() -> None:
    vault = Vault(ROOM)
    vault.fds_max = 1
    Given(vault).marks[0:3] = KEPT * 3
    before = opened()
    vault.take(packet((0, b"a", file(b"a")), (1, b"b", file(b"b"))))
    lost = packet((2, b"c", 99))
    vault.take(Packet(lost.kind, lost.value, lost.raw, []))  # it did not come through
    assert [item for _, item, _ in Given(vault).items] == [b"a"]
    assert opened() == before + 1
    vault.close()


def test_what_is_no_packet_leaves_no_descriptor() -> None:
    vault = Vault(ROOM)
    before = opened()
    with pytest.raises(KeyError):
        vault.take(Packet("keep", {}, b"", [file(b"x")]))
    assert opened() == before
    vault.close()


class Process:
    """What one that serves, or is to, does at a keeper."""

    def __init__(self, keeper: Keeper, number: int = 1) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(keeper.name)
        self.channel, self._number = Channel(sock), number

    async def opens(self) -> list[bytes]:
        """Items that it is given."""
        given = Given()
        await self.channel.send("open", self._number)
        await given.take(self.channel)
        self._marks = given.marks
        return [item for _, item, _ in given.items]

    async def serves(self, *items: bytes) -> Process:
        await self.channel.send("serving")
        for slot, item in enumerate(items):
            self._marks[slot : slot + 1] = KEPT
            told = packet((slot, item, -1))
            await self.channel.send(told.kind, told.value, raw=told.raw)
        return self

    def ends(self) -> None:
        self.channel.close()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """Nothing is left of it."""
    uvloop.run(asyncio.sleep(0))  # the first loop of a process opens what stays
    before = opened()
    yield Keeper(f"{tmp_path}/socket")
    gc.collect()  # the marks of processes
    assert opened() == before


@looped
async def test_the_next_one_gets_what_was_kept(keeper: Keeper) -> None:
    """However the one before ended, and to its last words."""
    keeper.start()
    for turn in range(3):
        process = Process(keeper)
        assert await process.opens() == ([b"%d" % (turn - 1)] if turn else [])
        (await process.serves(b"%d" % turn)).ends()
    other = Process(keeper, 2)
    assert await other.opens() == []  # which it could not read
    other.ends()
    await keeper.close()


@looped
async def test_who_takes_over_from_one_that_lives_begins_its_own(keeper: Keeper) -> None:
    """It counts from when it serves; what the one before still has goes with that one."""
    keeper.start()
    first, fails, second = (Process(keeper) for _ in range(3))
    await first.opens()
    await first.serves(b"first")
    for other in (fails, second):
        assert await other.opens() == []
    fails.ends()
    await second.serves(b"second")
    first.ends()
    second.ends()
    third = Process(keeper)
    assert await third.opens() == [b"second"]
    third.ends()
    await keeper.close()


@looped
async def test_one_that_dies_before_another_has_taken_over_leaves_all_of_it(keeper: Keeper) -> None:
    keeper.start()
    first, fails = Process(keeper), Process(keeper)
    await first.opens()
    await first.serves(b"first")
    await fails.opens()
    first.ends()
    fails.ends()
    third = Process(keeper)
    assert await third.opens() == [b"first"]
    third.ends()
    await keeper.close()
