"""A WHIP publisher's media as a body for Ingest."""

from __future__ import annotations

import asyncio

from edgecache import flv
from origin.dtls import Dtls, identity
from origin.whippeer import Peer


async def body(peer: Peer) -> list[bytes]:
    async with asyncio.timeout(5):
        return [data async for data in peer.iter_any()]


def test_a_body_ends_with_what_waited_when_its_publisher_left() -> None:
    """It went on until nothing had come for 10 s, in which nobody else could publish."""
    peer = Peer(Dtls(identity(), bytes(32), server=True), (), send=lambda _: None, now_s=0.0)
    peer.end("the publisher said goodbye")
    assert asyncio.run(body(peer)) == [flv.HEADER]


def test_a_body_that_is_waited_for_ends_at_the_goodbye() -> None:
    async def left() -> list[bytes]:
        peer = Peer(Dtls(identity(), bytes(32), server=True), (), send=lambda _: None, now_s=0.0)
        reading = asyncio.create_task(body(peer))
        await asyncio.sleep(0)  # it has taken the head, and waits
        peer.end("the publisher said goodbye")
        return await reading

    assert asyncio.run(left()) == [flv.HEADER]
