"""What the parent keeps: items that it does not read, in order, and their descriptors."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
from pathlib import Path

import pytest

from edgecache.control.channel import Channel, Packet
from edgecache.vault import Vault

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

    def __init__(self, vault: Vault) -> None:
        self.items: list[tuple[int, bytes, bytes]] = []  # slot, item, what is in its descriptor
        asyncio.run(self._take(vault))

    async def _take(self, vault: Vault) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        giver, taker = Channel(ours), Channel(theirs)
        giving = asyncio.create_task(vault.give(giver))
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
        await giving
        giver.close()
        taker.close()


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
