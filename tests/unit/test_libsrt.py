"""The binding of libsrt: addresses, and what cannot be listened on."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from origin import libsrt
from origin.config import Config
from origin.doors import StartError
from origin.ingest import Ingest
from origin.libsrt import LibraryError, Listener, Verdict
from origin.publishers import Publishers
from origin.srt import SrtDoor
from tests.looped import looped


@pytest.mark.parametrize("address", [("127.0.0.1", 9000), ("::1", 65535), ("2001:db8::1", 1)])
def test_an_address_is_read_back(address: tuple[str, int]) -> None:
    assert libsrt._unpacked(libsrt._packed(*address)) == address


def test_a_name_that_is_none() -> None:
    with pytest.raises(LibraryError, match=r"^not a name: "):
        libsrt._packed("not a name", 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_has_a_port_and_lets_go_of_it(host: str) -> None:
    listener = Listener(libsrt.load(), host, 0, latency_ms=120, judge=lambda _: Verdict(1401))
    port = listener.port
    listener.close()
    assert listener.accept() is None
    listener.release()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((host, port))


class Nobody(Ingest):
    """An ingest that is never asked."""

    def __init__(self) -> None:
        self.counts = Counter()


def door_of(config: Config) -> SrtDoor:
    publishers = Publishers(lambda *_: True)
    return SrtDoor(config, ingest=Nobody(), publishers=publishers, open_key=lambda _: None)


@looped
async def test_an_address_that_is_taken_is_one_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        config = Config.model_validate({"srt": {"listen": listen}})
        door = SrtDoor(
            config, ingest=Nobody(), publishers=Publishers(lambda *_: True), open_key=lambda _: None
        )
        with pytest.raises(StartError, match=f"^srt.listen: found {listen}, which cannot be"):
            await door.start()
        assert door.places("origin.example") == []
        await asyncio.wait_for(door.stop(), 5)


@looped
async def test_pops_are_told_where_to_route_to() -> None:
    for public, asked, told in (
        ("", "origin.example", "origin.example:{port}"),
        ("", "::1", "[::1]:{port}"),
        ("srt.example:9000", "origin.example", "srt.example:9000"),
    ):
        config = Config.model_validate({"srt": {"listen": "127.0.0.1:0", "public": public}})
        door = SrtDoor(
            config, ingest=Nobody(), publishers=Publishers(lambda *_: True), open_key=lambda _: None
        )
        await door.start()
        assert door.places(asked) == [told.format(port=door.port)]
        await door.stop()
