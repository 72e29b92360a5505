"""Broadcasters by WHIP: real publishers to a real POP, whose media goes to a real origin; and what
a POP's relay does with whatever else it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

import imageio_ffmpeg
import pytest

from edgecache import stun
from edgecache.control import sockets
from edgecache.control.whip import Limits, Session, WhipRelay
from origin.server import Origin
from tests.looped import eventually, looped
from tests.serving_origin import config
from tests.system.test_26_upload import Site, more_than, site

pytestmark = pytest.mark.timeout(60)

FFMPEG: Final = imageio_ffmpeg.get_ffmpeg_exe()  # the first with this muxer is 8.0
SOURCE: Final = (
    *("-re", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=15"),
    *("-re", "-f", "lavfi", "-i", "sine=1000:r=48000"),
)
FORM: Final = (
    *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-bf", "0"),
    *("-pix_fmt", "yuv420p", "-c:a", "libopus", "-ac", "2", "-f", "whip"),
)
GOODBYE_S: Final = 5.0
TYPE: Final = ("-H", "Content-Type: application/sdp")
OFFER: Final = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"


def site_of(test: Callable[[Site], object]) -> Callable[[], None]:
    """An async test of a site that takes WHIP."""

    async def run() -> None:
        async with site(["whip.listen=127.0.0.1:0"], ["ingest.whip_listen=127.0.0.1:0"]) as at:
            await test(at)  # type: ignore[misc]

    return looped(run, 50.0)


@contextlib.asynccontextmanager
async def publisher(at: Site, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One that says goodbye at the end, unless it is gone."""
    told = ("-authorization", at.key, *options, at.url + "whip")
    process = await asyncio.create_subprocess_exec(
        *(FFMPEG, "-hide_banner", "-loglevel", "error", *SOURCE, *FORM, *told),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(b"q")
            await process.stdin.drain()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def offered(at: Site, key: str, offer: str = OFFER) -> tuple[int, str]:
    return await at.curl(*TYPE, "-d", offer, key=key, path="whip")


async def ended(at: Site, session: str) -> tuple[int, str]:
    return await at.curl("-X", "DELETE", key=at.key, path=f"whip/{session}")


def is_forgotten(origin: Origin) -> bool:
    door = origin._whip
    return not (door._sessions or door._ufrags or door._addresses or door._serving)


@site_of
async def test_publishers_from_offer_to_goodbye(at: Site) -> None:
    """Whichever side begins the handshake. A second one is refused meanwhile; after the goodbye
    nothing of it is left anywhere; a take-over, and a key that is revoked, end who came with it,
    and its session's address says so (RFC 9725 4.2: DELETE), once."""
    async with publisher(at):
        await eventually(lambda: more_than(at.parts, 6), 20)
        assert at.live.describe()["source"] == "avc1 160x90, Opus"
        assert await offered(at, at.key) == (409, "stream cam is being published already")
        assert at.edge.metrics()["edge_whip_publishers"] == 1
    await eventually(lambda: at.live.state == "reconnecting")
    await eventually(lambda: is_forgotten(at.origin))
    counts = at.edge.metrics()
    assert counts["edge_whip_publishers"] == 0
    assert counts['edge_whip_closed_total{reason="ended"}'] == 1
    assert counts['edge_whip_closed_total{reason="rejected"}'] == 1
    assert at.origin._ingest.counts["results.200"] == 1
    enough = len(at.parts) + 6
    async with publisher(at, "-whip_flags", "dtls_active") as revoked:
        await eventually(lambda: more_than(at.parts, enough), 20)
        old, (name,) = at.key, at.origin._whip._sessions
        at.key = at.origin._catalog.rotate_keys("cam")
        await eventually(lambda: is_forgotten(at.origin))
        assert (await offered(at, old))[0] == 401
        assert await ended(at, name) == (410, "this stream key was revoked")
        assert (await ended(at, name))[0] == 404
        revoked.kill()  # it does not listen
    async with publisher(at) as replaced:
        await eventually(lambda: at.live.state == "live")
        (name,) = at.origin._whip._sessions
        at.origin._ingest.let_go("cam", at.live.epoch)
        await eventually(lambda: is_forgotten(at.origin))
        assert await ended(at, name) == (410, "another publisher took this stream over")
        replaced.kill()


@site_of
async def test_who_may_not_is_told_why(at: Site) -> None:
    needed = "a stream key is needed: Authorization: Bearer KEY"
    assert await offered(at, "") == (401, needed)
    assert await offered(at, "cam.wrong") == (401, "bad stream key")
    nothing = "SDP: found neither H.264 nor Opus, one of them is needed"
    assert await offered(at, at.key) == (400, nothing)
    assert (await offered(at, at.key, "x" * (1 << 16) + "x"))[0] == 413
    assert (await at.curl("-d", OFFER, key=at.key, path="whip"))[0] == 415
    assert (await at.curl("-X", "PATCH", key=at.key, path="whip/session"))[0] == 405
    assert (await at.curl("-X", "DELETE", key=at.key, path="whip/session"))[0] == 404
    _, fields = await at.curl("-X", "OPTIONS", "-D", "-", path="whip")
    assert "Accept-Post: application/sdp" in fields
    assert "Access-Control-Allow-Origin: *" in fields
    counts = at.edge.metrics()
    assert counts['edge_whip_rejected_total{reason="bad_key"}'] == 1
    assert counts["edge_whip_accepted_total"] == 1
    assert counts['edge_whip_closed_total{reason="rejected"}'] == 1
    assert is_forgotten(at.origin)
    assert at.origin._ingest.stream("cam") is None


@looped
async def test_without_the_packages_all_else_is_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pylibsrtp", None)
    monkeypatch.delitem(sys.modules, "origin.dtls", raising=False)
    monkeypatch.delattr("origin.dtls", raising=False)
    origin = Origin(config("whip.listen=127.0.0.1:0"))
    await origin.start()
    await origin.stop()
    lines = [record.getMessage() for record in caplog.records if "whip" in record.name]
    assert lines == [
        "whip.listen: no WHIP, the rest is served: found no package pylibsrtp;"
        " install edgecache[whip]"
    ]


# -- the relay alone


class Centre(asyncio.DatagramProtocol):
    """A data centre that sends everything back, and keeps who it came from."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, tuple[str, int]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is no subclass

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.seen.append((data, address))
        self.transport.sendto(data, address)


@contextlib.asynccontextmanager
async def relayed(
    limits: Limits | None = None, door: socket.socket | None = None
) -> AsyncIterator[tuple[WhipRelay, Centre]]:
    relay = WhipRelay(limits=limits)
    await relay.start(door or sockets.listen_datagrams("ingest.whip_listen", "127.0.0.1:0"))
    loop = asyncio.get_running_loop()
    transport, centre = await loop.create_datagram_endpoint(Centre, ("127.0.0.1", 0))
    try:
        yield relay, centre
    finally:
        transport.close()
        relay.stop()
    closed = sum(count for name, count in relay.counts.items() if name.startswith("closed."))
    assert (relay.publishers, relay.counts["accepted"]) == (0, closed)


async def led(relay: WhipRelay, centre: Centre) -> Session:
    session = relay.expect()
    host, port = centre.transport.get_extra_info("sockname")
    await relay.lead(session, f"{host}:{port}")
    return session


def client(relay: WhipRelay) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect(relay.place("127.0.0.1"))
    return sock


def asking(session: Session, password: str = "") -> bytes:
    name = f"{session.ufrag}:theirs".encode()
    body = b"\0\x06" + len(name).to_bytes(2, "big") + name + bytes(-len(name) % 4)
    return stun.seal(1, bytes(12), body, password or session.password)


async def echoed(sock: socket.socket, data: bytes) -> None:
    sock.send(data)
    async with asyncio.timeout(5):
        assert await asyncio.get_running_loop().sock_recv(sock, 2048) == data


@looped
async def test_each_address_of_a_publisher_is_a_way_to_its_data_centre() -> None:
    """Nothing passes before it has asked with the session's password."""
    async with relayed(Limits(ways=2)) as (relay, centre):
        session = await led(relay, centre)
        with contextlib.ExitStack() as held:
            first, second, third = (held.enter_context(client(relay)) for _ in range(3))
            first.send(b"\x80media too early")
            first.send(asking(session, "wrong"))
            await eventually(lambda: relay.counts["dropped.stray"] == 2)
            await echoed(first, asking(session))
            await echoed(second, asking(session))
            await echoed(first, b"\x80media")
            await echoed(second, b"\x16handshake")
            third.send(asking(session))
            await eventually(lambda: relay.counts["dropped.ways"] == 1)
        assert len({address for _, address in centre.seen}) == 2
        assert relay.counts["bytes_in"] == relay.counts["bytes_out"] > 0
        relay.end(session, "ended")
        assert relay.counts["closed.ended"] == 1


@looped
async def test_a_publisher_outlives_the_process_that_has_the_door() -> None:
    door = sockets.listen_datagrams("ingest.whip_listen", "127.0.0.1:0")
    async with relayed(door=door.dup()) as (relay, centre):
        session = await led(relay, centre)
        with client(relay) as sock:
            await echoed(sock, asking(session))
            relay.drain()
            heir = WhipRelay()
            await heir.start(door)
            await echoed(sock, b"\x80media")
            assert heir.counts["dropped.stray"] == 0
            heir.stop()


@looped
async def test_what_falls_silent_or_is_lost_is_over() -> None:
    async with relayed(Limits(idle_s=0.2)) as (relay, centre):
        await led(relay, centre)
        await eventually(lambda: relay.counts["closed.silent"] == 1)
        session = await led(relay, centre)
        with client(relay) as sock:
            await echoed(sock, asking(session))
            centre.transport.close()
            await asyncio.sleep(0)
            sock.send(b"\x80media")
            await eventually(lambda: relay.counts["closed.away"] == 1)


@looped
async def test_no_more_publishers_than_allowed_and_no_flood() -> None:
    async with relayed(Limits(publishers=1, asks_at_once=10, asks_per_s=0.1)) as (relay, centre):
        session = await led(relay, centre)
        with pytest.raises(Exception, match="1 publishers are on"):
            relay.expect()
        with client(relay) as sock:
            for _ in range(30):
                sock.send(b"\x80noise")
            await eventually(lambda: relay.counts["dropped.rate"] == 20)
        relay.end(session, "ended")
