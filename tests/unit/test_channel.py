"""Packets between two processes: whole, with their descriptors, however large."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from edgecache.control.channel import FDS_MAX, Channel


def pair() -> tuple[Channel, Channel]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)


@pytest.mark.parametrize("size", [0, 10, 40_000, 5_000_000])
def test_what_is_sent_comes_whole(size: int) -> None:
    async def run() -> None:
        sender, receiver = pair()
        raw = os.urandom(size)
        await sender.send("state", [{"a": 1}], raw=raw)
        found = await receiver.receive()
        assert (found.kind, found.value, found.raw, found.fds) == ("state", [{"a": 1}], raw, [])
        sender.close()
        with pytest.raises(EOFError):
            await receiver.receive()
        receiver.close()

    asyncio.run(run())


def test_more_packets_with_descriptors_than_a_socket_holds() -> None:
    async def run(passed: int) -> None:
        sender, receiver = pair()

        async def send() -> None:
            for number in range(40):
                fds = [passed] * FDS_MAX
                await sender.send("connections", number, raw=bytes(50_000), fds=fds)

        sending = asyncio.create_task(send())
        for number in range(40):
            packet = await receiver.receive()
            assert (packet.value, len(packet.fds)) == (number, FDS_MAX)
            for fd in packet.fds:
                assert os.fstat(fd).st_ino == os.fstat(passed).st_ino
                assert not os.get_inheritable(fd)
                os.close(fd)
        await sending
        assert sender.peer() == (os.getpid(), os.getuid())
        sender.close()
        receiver.close()

    with open(os.devnull, "rb") as file:
        asyncio.run(run(file.fileno()))
