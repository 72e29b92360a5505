"""The origin as a process: its end, and how it says that it cannot begin."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from origin.ffmpeg import find
from origin.rows import CatalogError
from origin.server import Origin
from origin.testpattern import Pattern, argv
from tests.looped import looped
from tests.scripted_pop import KID, SECRET
from tests.serving_origin import ROOT, child, config, run, upload

pytestmark = pytest.mark.timeout(60)


def children(pid: int) -> set[int]:
    """Process ids that have `pid` as an ancestor."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@looped
async def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "o.toml").write_text(
        f'http = {{ listen = "127.0.0.1:{port}", drain = "1s" }}\nadmin.listen = ""\n'
        f'data.dir = "{tmp_path}"\nkeys.{KID}.secret = "{SECRET.decode()}"\n'
        'ladder.v = { width = 320, height = 180, bitrate = "250kbps" }\n'
    )
    serve = (sys.executable, "-m", "origin", "serve", "-c", str(tmp_path / "o.toml"))
    pattern = argv(find(), "pipe:1", Pattern(width=320, height=180))
    async with (
        child(*serve, cwd=ROOT) as origin,
        child(*pattern, stdout=asyncio.subprocess.PIPE) as source,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        await answering(http, "/api/streams")
        sent = asyncio.create_task(upload(http, source))
        await answering(http, "/live/cam/v.m3u8")
        born = children(origin.pid)
        assert born
        origin.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await origin.wait() == 0
        await asyncio.gather(sent, return_exceptions=True)
    assert not [pid for pid in born if alive(pid)]
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
    assert "#EXT-X-ENDLIST" in (tmp_path / "window/cam/index.json").read_text()


async def answering(http: aiohttp.ClientSession, path: str) -> None:
    """Until `path` is there."""
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with http.get(path) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("door", "other"), [("http", "admin"), ("admin", "http")])
def test_a_busy_port_is_one_line(door: str, other: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        free = f"{other}.listen=127.0.0.1:0"
        got = run("serve", "-o", f"{door}.listen={address}", "-o", free)
    assert got.returncode == 1
    assert got.stderr.splitlines()[-1] == (
        f"error: {door}.listen: found {address}, which cannot be listened on: "
        "Address already in use"
    )
    assert "Traceback" not in got.stderr


def test_a_wrong_configuration_is_78(tmp_path: Path) -> None:
    bad = tmp_path / "o.toml"
    bad.write_text('http.lisen = "x"\nlive.window = 5\n[pops.a]\npush = "ftp://x"\n')
    got = run("serve", "-c", str(bad), "-t")
    assert got.returncode == 78
    lines = got.stderr.splitlines()
    assert len(lines) == 3
    assert "did you mean listen?" in got.stderr
    assert f"{bad}:2: live.window" in got.stderr
    got = run("serve", "-t", EDGECACHE_FFMPEG="/nowhere/ffmpeg")
    assert got.returncode == 78
    assert "/nowhere/ffmpeg" in got.stderr


def test_a_data_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match=r"data\.dir: found"):
        Origin(config(f"data.dir={tmp_path}/file/deeper"))
