"""SRT through a POP into a data centre: callers of the real library, a network that loses datagrams
and changes addresses, and datagrams that no caller would send."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from edgecache import srt
from edgecache.control import sockets, srtsession
from edgecache.control.admission import Admission, Admitted
from edgecache.control.srt import Limits, SrtRouter
from edgecache.signing import sign
from origin import libsrt
from origin.config import Config
from origin.ffmpeg import find
from origin.receive import Body
from origin.server import Origin
from tests.looped import eventually, looped
from tests.srt import Caller, Network, calling, refused
from tests.unit.test_srt import CONCLUSION, INDUCTION

pytestmark = pytest.mark.timeout(60)

SECRET: Final = "0123456789abcdef0123456789abcdef"
SIGN: Final = functools.partial(sign, kid="k1", secret=SECRET.encode())
PASSPHRASE: Final = "correct horse battery"
QUICK: Final = Limits(session=srtsession.Limits(connect_s=0.5, idle_s=0.6, moved_s=0.1))
MOVES: Final = Limits(session=srtsession.Limits(moved_s=0.1))
MESSAGE: Final = 1316
CONNECTED, BROKEN = 5, 6
UNSECURE, BAD_SECRET = 11, 10  # libsrt's own
FLOOD: Final = 2000


@dataclass
class Taken(Body):
    """A body on its way to the ingest, and what of it came by."""

    body: Body
    data: bytearray = field(default_factory=bytearray)

    async def iter_any(self) -> AsyncIterator[bytes]:
        async for chunk in self.body.iter_any():
            self.data += chunk
            yield chunk


@dataclass
class Site:
    """A POP's router in front of a data centre."""

    origin: Origin
    router: SrtRouter
    port: int
    bodies: list[Taken]

    def key(self, stream: str) -> str:
        return self.origin._catalog.create_key(stream)


@contextlib.asynccontextmanager
async def site(
    limits: Limits | None = None, door: socket.socket | None = None, **live: Any
) -> AsyncIterator[Site]:
    config = {
        "http": {"listen": "127.0.0.1:0", "drain": "200ms"},
        "admin": {"listen": ""},
        "live": {"segment": "1s", "parts": 3, "window": "10s", **live},
        "ladder": {"v": {"width": 160, "height": 90, "bitrate": "100kbps"}},
        "srt": {
            "listen": "127.0.0.1:0",
            "latency": "2s",  # what comes later is dropped, on a machine that is busy elsewhere
            "passphrases": {"secret": {"secret": PASSPHRASE}},
        },
        "keys": {"k1": {"secret": SECRET}},
    }
    origin = Origin(Config.model_validate(config))
    bodies: list[Taken] = []
    serve = origin._ingest.serve

    async def watched(stream: str, body: Body, **told: str) -> object:
        bodies.append(Taken(body))
        return await serve(stream, bodies[-1], **told)

    origin._ingest.serve = watched  # type: ignore[assignment]
    await origin.start()
    admission = Admission(data_centres=[f"http://127.0.0.1:{origin.port}"], sign=SIGN)
    router = SrtRouter(admission=admission, limits=limits)
    listener = door or sockets.listen_datagrams("ingest.srt_listen", "127.0.0.1:0")
    port = listener.getsockname()[1]
    await router.start(listener)
    try:
        yield Site(origin, router, port, bodies)
    finally:
        await router.stop()
        await origin.stop()
    closed = sum(count for name, count in router.counts.items() if name.startswith("closed."))
    assert (router.publishers, router.counts["accepted"]) == (0, closed)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of MPEG-TS in whole messages."""
    path: Path = tmp_path_factory.mktemp("srt") / "media.ts"
    command = [find().path, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=25", "-t", "2"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-b:v", "1M"]
    subprocess.run([*command, "-muxrate", "1500k", "-f", "mpegts", str(path)], check=True)
    data = path.read_bytes()
    return data[: len(data) // MESSAGE * MESSAGE]


async def send(caller: Caller, data: bytes) -> None:
    """As a live encoder would, at some 4 Mb/s."""
    for at in range(0, len(data), MESSAGE):
        assert caller.send(data[at : at + MESSAGE])
        await asyncio.sleep(0.0025)


@looped
async def test_nothing_is_lost_on_a_bad_network_that_changes(media: bytes) -> None:
    """1 % of the datagrams of either way never arrive, and halfway the publisher has another
    address: the same bytes are at the data centre, in order."""
    async with site(MOVES) as at:
        network = Network(at.port, loss=0.01)
        async with calling(network.port, at.key("cam")) as caller:
            half = len(media) // 2 // MESSAGE * MESSAGE
            await send(caller, media[:half])
            network.move()
            await send(caller, media[half:])
            await eventually(lambda: len(at.bodies[0].data) >= len(media))
            network.loss = 0.0  # its goodbye, which SRT says once
        await eventually(lambda: at.router.counts["closed.ended"] == 1)
        network.close()
        assert bytes(at.bodies[0].data) == media
        assert network.lost > 0
        assert at.router.counts["moved"] == 1


@looped
async def test_the_end_of_a_broadcast_is_not_cut_off(media: bytes) -> None:
    """What was there when the publisher said goodbye, but whose time had not come: `latency` after
    it was sent, and later by what its handshake had waited for, which all of it was lost by."""
    async with site() as at:
        ask = at.router._admission.ask

        async def far(key: str, address: str) -> Admitted:
            await asyncio.sleep(0.4)
            return await ask(key, address)

        at.router._admission.ask = far  # type: ignore[method-assign]
        async with calling(at.port, at.key("cam")) as caller:
            await send(caller, media[: 100 * MESSAGE])
            await eventually(lambda: not caller.unsent)
        await eventually(lambda: len(at.bodies[0].data) == 100 * MESSAGE)


@looped
async def test_every_refusal_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with site() as at:
        key, secret = at.key("cam"), at.key("secret")
        assert await refused(at.port, "cam_wrong-but-private") == srt.UNAUTHORIZED
        assert await refused(at.port, f"#!::r={key},m=request") == srt.BAD_MODE
        assert await refused(at.port, f"#!::r=other,u={key},m=publish") == srt.NOT_FOUND
        assert await refused(at.port, secret) == UNSECURE
        assert await refused(at.port, secret, "another passphrase") == BAD_SECRET
        assert await refused(at.port, f"#!::r=secret,u={secret},m=publish", PASSPHRASE) == 0
        async with calling(at.port, key) as first:
            assert first.code == 0
            await eventually(lambda: len(at.bodies) == 2)
            assert await refused(at.port, key) == srt.CONFLICT
            assert first.state == CONNECTED
        counts = at.router.counts
        assert {name: n for name, n in counts.items() if name.startswith("rejected.")} == {
            "rejected.bad_key": 1,
            "rejected.stream_id": 1,
            "rejected.bad_stream": 1,
            "rejected.refused": 2,
            "rejected.busy": 1,
        }
    assert not any(text in caplog.text for text in (key, secret, "wrong-but-private", PASSPHRASE))


@looped
async def test_a_second_publisher_takes_over_where_that_is_allowed() -> None:
    async with site(takeover=True) as at:
        key = at.key("cam")
        async with calling(at.port, key) as first, calling(at.port, key) as second:
            await eventually(lambda: first.state >= BROKEN)
            await eventually(lambda: len(at.bodies) == 2)
            assert second.state == CONNECTED


@looped
async def test_a_publisher_outlives_the_process_that_has_the_door(media: bytes) -> None:
    """Who is on goes on where it is while a successor has the door; who is new comes to that."""
    door = sockets.listen_datagrams("ingest.srt_listen", "127.0.0.1:0")
    async with site(door=door.dup()) as at, calling(at.port, at.key("cam")) as caller:
        await eventually(lambda: at.bodies)
        at.router.drain()
        heir = SrtRouter(admission=at.router._admission)
        await heir.start(door)
        async with calling(at.port, at.key("other")) as other:
            await send(caller, media[: 50 * MESSAGE])
            await send(other, media[: 20 * MESSAGE])
            await eventually(lambda: len(at.bodies[0].data) == 50 * MESSAGE)
            await eventually(lambda: len(at.bodies[1].data) == 20 * MESSAGE)
            assert (at.router.publishers, heir.publishers) == (1, 1)
        await heir.stop()


@looped
async def test_nobody_leads_a_publisher_away(media: bytes) -> None:
    """Who knows what its packets are for does not get what is sent to it, while it is heard."""
    async with site() as at, calling(at.port, at.key("cam")) as caller:
        await eventually(lambda: at.router._ids)
        (known,) = at.router._ids
        sending = asyncio.create_task(send(caller, media[: 100 * MESSAGE]))
        stolen = bytes(12) + known.to_bytes(4, "big") + bytes(100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            while not sending.done():
                thief.sendto(stolen, ("127.0.0.1", at.port))
                await asyncio.sleep(0.01)
        await sending
        await eventually(lambda: len(at.bodies[0].data) == 100 * MESSAGE)
        assert at.router.counts["dropped.stray"] > 0
        assert at.router.counts["moved"] == 0


@looped
async def test_a_program_that_begins_anew_at_the_same_port_is_another_publisher() -> None:
    async with site() as at:
        network = Network(at.port, loss=0)
        async with calling(network.port, at.key("cam")) as first:
            assert first.code == 0
            async with calling(network.port, at.key("other")) as second:
                assert second.code == 0
                assert at.router.counts["closed.replaced"] == 1
                assert at.router.publishers == 1
        network.close()


@looped
async def test_a_data_centre_that_goes_takes_its_publishers_along() -> None:
    async with site(QUICK) as at:
        key = at.key("cam")
        async with calling(at.port, key) as caller:
            await eventually(lambda: at.bodies)
            await at.origin.stop()
            await eventually(lambda: caller.state >= BROKEN)
        assert await refused(at.port, key) == srt.DOWN
        assert at.router.counts["rejected.away"] == 1


@looped
async def test_a_publisher_that_falls_silent_is_forgotten() -> None:
    async with site(QUICK) as at:
        network = Network(at.port, loss=0)
        async with calling(network.port, at.key("cam")):
            await eventually(lambda: at.bodies)
            network.close()
            await eventually(lambda: at.router.counts["closed.silent"] == 1)
            assert (at.router.publishers, at.router._sessions, at.router._ids) == (0, {}, {})


def hostile(chance: random.Random) -> bytes:
    """Noise, or a packet of SRT with a part of it changed, cut off or repeated."""
    like = chance.choice((b"", INDUCTION, CONCLUSION, srt.shutdown(1), bytes(MESSAGE)))
    if not like:
        return chance.randbytes(chance.randrange(1600))
    at = chance.randrange(len(like))
    changed = like[:at] + chance.randbytes(chance.randrange(8)) + like[at:]
    return changed[: chance.randrange(len(changed))] if chance.random() < 0.5 else changed


@looped
async def test_hostile_datagrams_get_little_and_leave_nothing() -> None:
    """They are answered less often than they are sent, with fewer bytes, and hold nothing."""
    chance = random.Random(26)
    async with site() as at:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", at.port))
            sock.setblocking(False)
            sent = answered = 0
            for number in range(FLOOD):
                data = hostile(chance) if number % 4 else INDUCTION
                sent += sock.send(data)
                if number % 16 == 0:
                    await asyncio.sleep(0)
                with contextlib.suppress(BlockingIOError):
                    answer = sock.recv(2048)
                    answered += len(answer)
                    assert len(answer) <= len(INDUCTION)
        assert 0 < answered < sent / 10
        counts = at.router.counts
        assert counts["dropped.rate"] > FLOOD / 2
        assert (counts["accepted"], at.router._sessions) == (0, {})
        assert await refused(at.port, at.key("cam")) == 0  # it serves as before


@looped
async def test_no_more_publishers_than_allowed() -> None:
    async with site(Limits(publishers=1)) as at, calling(at.port, at.key("cam")) as first:
        assert first.code == 0
        assert await refused(at.port, at.key("other")) == srt.OVERLOAD


@looped
async def test_without_the_library_all_else_is_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = libsrt._NAMES
    monkeypatch.setattr(libsrt, "_NAMES", ("libsrt-that-is-not.so",))
    async with site() as at:
        monkeypatch.setattr(libsrt, "_NAMES", names)
        lines = [record.getMessage() for record in caplog.records if "srt" in record.name]
        assert lines == [
            "srt.listen: no SRT, the rest is served: found no libsrt 1.5 on this host;"
            " install it (Debian: apt-get install libsrt1.5-gnutls)"
        ]
        assert await refused(at.port, at.key("cam")) == srt.UNIMPLEMENTED
