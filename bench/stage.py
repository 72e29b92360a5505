"""Everything a measurement needs beside the server: network, scratch on tmpfs, origin, clients.

Laws. The scratch directory carries the run's tag and is removed with it; those of dead runs are
removed at the next start. Processes started here end with the block that started them.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .bodies import Blob
from .errors import BenchError
from .netns import Network, is_stale, network, run_tag
from .peers.peer import Running
from .process import await_listening, spawned, tail

TMPFS: Final = Path("/dev/shm")
REPOSITORY: Final = Path(__file__).parent.parent
_HTTP_TIMEOUT_S: Final = 10.0
_WARM_TRIES: Final = 20  # a cache may finish storing after it has answered (Traffic Server does)


@dataclass(frozen=True)
class Stage:
    network: Network
    scratch: Path
    origin_port: int

    @property
    def origin(self) -> tuple[str, int]:
        return self.network.client_ip, self.origin_port

    @property
    def docroot(self) -> Path:
        return self.scratch / "docroot"

    def get(self, address: tuple[str, int], path: str) -> tuple[int, bytes]:
        """(status, body), asked from the client's side."""
        with self.network.client_side():
            connection = http.client.HTTPConnection(*address, timeout=_HTTP_TIMEOUT_S)
            with contextlib.closing(connection):
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read()

    def asked(self) -> dict[str, int]:
        """Requests per path that reached the origin."""
        rows = json.loads(self.get(self.origin, "/_stub/paths")[1])
        return {path: int(row["requests"]) for path, row in rows.items()}

    def forget(self) -> None:
        self.get(self.origin, "/_stub/forget")

    def publish_files(self, blobs: Sequence[Blob]) -> None:
        """Bodies as files, for servers of files."""
        for blob in blobs:
            path = self.docroot / blob.path.lstrip("/")
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(blob.body())


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    with network() as net, _scratch() as scratch:
        port = net.origin_port()
        argv = [sys.executable, "-m", "bench.originstub", net.client_ip, str(port)]
        log = scratch / "origin.log"
        (scratch / "docroot").mkdir()
        with spawned(net.on_client(argv), log=log, env=_environment()) as origin:
            await_listening(origin, port, log)
            yield Stage(net, scratch, port)


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(REPOSITORY)}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    for path in TMPFS.iterdir():
        if is_stale(path.name):
            shutil.rmtree(path, ignore_errors=True)
    scratch = TMPFS / run_tag()
    scratch.mkdir()
    scratch.chmod(0o755)  # peers that drop root read their files here
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def warm(stage: Stage, running: Running, blobs: Sequence[Blob]) -> None:
    """Asks for every object until it is served right and without the origin.

    Raises BenchError when a body is wrong or an object is still pulled after `_WARM_TRIES`. The
    floor does not know what it is asked: the load's own byte count is its check."""
    if running.peer.feeds == "canned":
        return
    address = (running.address, running.port)
    for blob in blobs:
        wanted = hashlib.sha256(blob.body()).digest()
        for _ in range(_WARM_TRIES):
            before = stage.asked().get(blob.path, 0)
            status, body = stage.get(address, blob.path)
            if status != 200 or len(body) != blob.size:
                raise BenchError(f"{blob.path}: status {status}, {len(body)} bytes")
            if hashlib.sha256(body).digest() != wanted:
                raise BenchError(f"{blob.path}: wrong bytes")
            pulled = stage.asked().get(blob.path, 0) != before
            if running.peer.feeds == "files" or (before and not pulled):
                break
            time.sleep(0.01)
        else:
            raise BenchError(f"{blob.path}: still pulled from the origin after {_WARM_TRIES} asks")


def _client_argv(stage: Stage, name: str, params: Mapping[str, Any]) -> list[str]:
    argv = [sys.executable, "-m", "bench.clients", name, json.dumps(params)]
    return stage.network.on_client(argv)


class Client:
    """A running client of bench.clients and the JSON values it prints, in order."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log

    def answer(self, timeout_s: float) -> Any:
        """The next value. Raises BenchError when there is none in time."""
        out = self._process.stdout
        assert out is not None
        readable, _, _ = select.select([out], [], [], timeout_s)
        line = out.readline() if readable else b""
        if not line:
            raise BenchError(f"client {self._name}: no answer: {tail(self._log, 3)}")
        return json.loads(line)

    def release(self) -> None:
        """A holder lets go when its stdin ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()


@contextlib.contextmanager
def client(stage: Stage, name: str, params: Mapping[str, Any]) -> Iterator[Client]:
    log = stage.scratch / f"{name}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            _client_argv(stage, name, params),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            env={**os.environ, **_environment()},
            start_new_session=True,
        )
    try:
        yield Client(process, name, log)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
