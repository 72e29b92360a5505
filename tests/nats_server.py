"""A real NATS server with JetStream on loopback, that can be away and come back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from origin.nats_link import NatsPlace

LIMIT_S = 20.0
TOKEN = "a-token-of-the-tests"


@dataclass
class Nats:
    """`port` and what it stores stay the same over `stop` and `start`."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def place(self, bucket: str) -> NatsPlace:
        return NatsPlace(urls=(self.url,), token=TOKEN, bucket=bucket)

    def options(self, bucket: str) -> list[str]:
        """As overrides of the origin's configuration."""
        token = self.folder / "token"
        token.write_text(TOKEN)
        return [
            f"catalog.nats={self.url}",
            f"catalog.bucket={bucket}",
            f"catalog.token_file={token}",
        ]

    def start(self) -> None:
        wheel = Path(sys.executable).with_name("nats-server")
        binary = str(wheel) if wheel.exists() else shutil.which("nats-server")
        assert binary is not None
        here = ("--addr", "127.0.0.1", "--port", str(self.port), "--auth", TOKEN)
        store = ("--jetstream", "--store_dir", str(self.folder / "store"))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([binary, *here, *store], stdout=log, stderr=log)
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as made:
                    if made.recv(5) == b"INFO ":
                        return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def nats_server(folder: Path) -> Iterator[Nats]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Nats(folder, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A server of the module's own, which may stop it."""
    with nats_server(tmp_path_factory.mktemp("nats")) as found:
        yield found
