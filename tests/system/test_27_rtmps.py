"""RTMP behind TLS: a real ffmpeg publishes, and whoever does not shake hands is not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edgecache import flv
from edgecache.control.admission import Admission
from edgecache.control.ingest import IngestRouter
from edgecache.control.tlsdoor import Certificate, TlsDoor
from edgecache.errors import ConfigError
from tests.certificates import FIRST, SECOND
from tests.looped import eventually, looped
from tests.running import Edge
from tests.system.test_20_ingest import KEY, DataCentre, _sign, publisher

pytestmark = pytest.mark.timeout(30)


@contextlib.asynccontextmanager
async def door(centre: DataCentre, folder: Path) -> AsyncIterator[tuple[IngestRouter, int]]:
    await centre.start()
    admission = Admission(data_centres=[f"http://127.0.0.1:{centre.port}"], sign=_sign)
    router = IngestRouter(admission=admission, sign=_sign)
    listener = socket.create_server(("127.0.0.1", 0))
    router.start_tls(listener, Certificate(*FIRST.write(folder)))
    try:
        yield router, listener.getsockname()[1]
    finally:
        await router.stop()
        await centre.stop()


@looped
async def test_ffmpeg_publishes(tmp_path: Path) -> None:
    centre = DataCentre()
    async with door(centre, tmp_path) as (router, port):
        async with publisher(f"rtmps://127.0.0.1:{port}/live/{KEY}", seconds=1) as ffmpeg:
            assert await ffmpeg.finish() == b""
            assert ffmpeg.returncode == 0
        await centre.until(lambda: centre.uploads and centre.uploads[0].whole)
        tags = centre.uploads[0].tags()
        coded = [tag for tag in tags if tag.kind == flv.VIDEO and tag.packet == flv.CODED]
        assert len(coded) == 25
        await eventually(lambda: router.counts["closed.ended"] == 1)


@looped
async def test_a_wrong_key_is_told_so(tmp_path: Path) -> None:
    centre = DataCentre()
    async with (
        door(centre, tmp_path) as (_, port),
        publisher(f"rtmps://127.0.0.1:{port}/live/wrong") as ffmpeg,
    ):
        assert b"bad stream key" in await ffmpeg.finish()


@looped
async def test_who_does_not_shake_hands_is_not_waited_for(tmp_path: Path) -> None:
    """Silence, plain RTMP, an old TLS, and more of them than there may be."""
    certificate = Certificate(*FIRST.write(tmp_path))
    counts: Counter[str] = Counter()
    made: list[asyncio.Protocol] = []

    def protocol() -> asyncio.Protocol:
        made.append(asyncio.Protocol())
        return made[-1]

    tls = TlsDoor(protocol, counts, handshakes=2, handshake_s=0.2)
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    tls.start(listener, certificate)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(address))
        await eventually(lambda: counts == {"rejected.handshakes": 1, "rejected.tls": 2})
        await eventually(lambda: not tls._tasks)
        plain = stack.enter_context(socket.create_connection(address))
        plain.sendall(b"\x03" + bytes(1536))
        await eventually(lambda: counts["rejected.tls"] == 3)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    # an alert, or a reset before it is read
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection(*address, ssl=old)
    await eventually(lambda: counts["rejected.tls"] == 4)
    await tls.stop()


def test_files_that_are_no_certificate_are_one_line(tmp_path: Path) -> None:
    chain, key = FIRST.write(tmp_path)
    chain.write_text(SECOND.chain)
    with pytest.raises(ConfigError, match=r"^ingest.certificate: found .*KEY_VALUES_MISMATCH"):
        Certificate(chain, key)
    key.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        Certificate(chain, key)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    chain, key = FIRST.write(tmp_path)
    files = (f"ingest.certificate={chain}", f"ingest.private_key={key}")
    with Edge(("ingest.rtmps_listen=127.0.0.1:0", *files)) as daemon:
        yield daemon
        assert daemon.stop() == 0, "".join(daemon.lines[-20:])


def shown(edge: Edge) -> bytes:
    """The certificate that its door has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with edge.raw(str(edge.ready["rtmps"])) as plain, context.wrap_socket(plain) as connection:
        return connection.getpeercert(binary_form=True) or b""


def test_a_daemon_takes_a_new_certificate_while_it_serves(edge: Edge, tmp_path: Path) -> None:
    assert shown(edge) == FIRST.der
    SECOND.write(tmp_path)
    edge.process.send_signal(signal.SIGHUP)
    edge.logged("reloaded")
    assert shown(edge) == SECOND.der
    (tmp_path / "key.pem").write_text("nonsense")
    edge.process.send_signal(signal.SIGHUP)
    edge.logged_like("certificate rejected, the old one stays: ingest.certificate: found ")
    assert shown(edge) == SECOND.der
