"""An origin that serves on a free port, and the signed requests of a POP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import xxhash

from edgecache.signing import sign
from origin.config import Config, load_config
from origin.model import Publication
from origin.server import Origin
from tests.scripted_pop import KID, SECRET

ROOT = Path(__file__).resolve().parents[1]
SIGN = functools.partial(sign, kid=KID, secret=SECRET)


def config(*overrides: str) -> Config:
    given = (
        "http.listen=127.0.0.1:0",
        "admin.listen=127.0.0.1:0",
        f"keys.{KID}.secret={SECRET.decode()}",
        "http.drain=1s",
        *overrides,
    )
    return load_config(None, overrides=given, environ={}).value


@asynccontextmanager
async def serving(*overrides: str) -> AsyncIterator[tuple[Origin, aiohttp.ClientSession]]:
    origin = Origin(config(*overrides))
    await origin.start()
    base = f"http://127.0.0.1:{origin.port}"
    try:
        async with aiohttp.ClientSession(base, auto_decompress=False) as session:
            yield origin, session
    finally:
        await origin.stop()


def operators(origin: Origin) -> aiohttp.ClientSession:
    """A client of its admin door."""
    return aiohttp.ClientSession(f"http://127.0.0.1:{origin.admin_port}")


def publish(origin: Origin, items: Sequence[Publication], stream: str = "cam") -> None:
    for item in items:
        origin.publish(stream, item)


async def post(
    http: aiohttp.ClientSession, target: str, body: object, **headers: str
) -> aiohttp.ClientResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Edge-Digest": xxhash.xxh3_128_hexdigest(data)}
    signed = {**fields, "Authorization": SIGN("POST", target, fields.items()), **headers}
    return await http.post(target, data=io.BytesIO(data), headers=signed)


@asynccontextmanager
async def child(*command: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is gone at the end."""
    process = await asyncio.create_subprocess_exec(*command, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if process.stderr is not None:
            await process.stderr.read()  # uvloop's wait() needs its pipes read to the end
        await process.wait()


async def listening(port: int, within_s: float = 30.0, host: str = "127.0.0.1") -> None:
    """Until a process that was started takes connections."""
    async with asyncio.timeout(within_s):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return
            await asyncio.sleep(0.05)


async def upload(
    http: aiohttp.ClientSession, source: asyncio.subprocess.Process
) -> aiohttp.ClientResponse:
    """What `source` prints, as a publisher's body."""
    fields = {"Content-Type": "video/x-flv", "Authorization": SIGN("PUT", "/ingest/cam")}
    return await http.put("/ingest/cam", data=source.stdout, headers=fields)


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "origin", *arguments]
    env = {**os.environ, **environ}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT, env=env)
