"""What breaks off: a process that is killed in mid-sentence, and a wall clock that jumps."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path

import pytest

from edgecache.signing import sign
from tests.authority import Authority, serving
from tests.running import KID, LIMIT_S, ROOT, SECRET, Edge, ScriptedOrigin, ask, ok, read_head
from tests.sockets import free_port
from tests.supervised import Supervised
from tests.system.test_40_push_receiver import object_fields, push_part, push_version

pytestmark = pytest.mark.timeout(60)

BODY = os.urandom(300_000)
HOUR = 3600


def test_killed_in_mid_push_and_mid_fill_nothing_half_is_left(
    tmp_path: Path, origin: ScriptedOrigin
) -> None:
    """The next one on the same addresses, and beside the dead one's socket, begins empty."""
    go, pushed, again = threading.Event(), "/live/k/a/v/init0.mp4", "/live/k/a/v/init1.mp4"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    origin.says("/killed.m4s", head + BODY[:1000], go, BODY[1000:])
    options = [f"{door}.listen=127.0.0.1:{free_port()}" for door in ("http", "push", "admin")]
    options += [f"takeover.socket={tmp_path}/sock", f"origin.urls={origin.url}"]
    with Edge([*options, "origin.min_rate=0"]) as edge, edge.raw() as viewer:
        viewer.sendall(b"GET /killed.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        read_head(viewer)
        push_part(edge, "/live/k/a/v", 7, 0)
        overheard = object_fields(BODY) | {"Authorization": signature(again)}
        assert ask(edge.push, "PUT", again, overheard, BODY).status == 201
        with edge.raw(edge.push) as half:
            half.sendall(half_a_push(pushed))
            edge.settled("edge_push_connections", 1)
            edge.process.send_signal(signal.SIGKILL)
            edge.process.wait()
    go.set()
    with Edge(options) as edge:
        assert ask(edge.push, "PUT", again, overheard, BODY).status == 503, "a replay (battery G2)"
        assert edge.metrics()["edge_store_entries_now"] == 0
        assert edge.get("/killed.m4s").body == BODY
        assert [edge.get(path).status for path in (pushed, "/live/k/a/v/7.0.m4s")] == [404, 404]
        assert edge.put(pushed, BODY, object_fields(BODY)).status == 201
        assert edge.get(pushed).body == BODY
        assert edge.stop() == 0


def signature(path: str) -> str:
    return sign("PUT", path, object_fields(BODY).items(), kid=KID, secret=SECRET.encode())


def half_a_push(path: str) -> bytes:
    fields = object_fields(BODY) | {"Authorization": signature(path), "Host": "pop"}
    fields["Content-Length"] = str(len(BODY))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"PUT {path} HTTP/1.1\r\n{lines}\r\n".encode() + BODY[: len(BODY) // 2]


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Callable[[int], None]]:
    """(environment of a daemon whose wall clock is ours, what sets it to so many seconds off)."""
    home = tmp_path_factory.mktemp("clock")
    library, file = home / "shifted.so", home / "shift"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(ROOT / "tests/shifted.c")]
    subprocess.run(command, check=True, timeout=30)
    file.write_bytes(bytes(8))

    def shift(seconds: int) -> None:
        with file.open("r+b") as opened:
            opened.write(struct.pack("q", seconds))

    return {"LD_PRELOAD": str(library), "SHIFT_FILE": str(file)}, shift


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[ScriptedOrigin, Path]]:
    """(one by https, who vouches for it for a day)."""
    authority = Authority(tmp_path)
    server = ScriptedOrigin(tls=serving(authority.signs("127.0.0.1")))
    yield server, authority.file
    server.close()


def test_a_wall_clock_that_jumps_ages_nothing_new(
    clock: tuple[dict[str, str], Callable[[int], None]],
    origin: ScriptedOrigin,
    secure: tuple[ScriptedOrigin, Path],
) -> None:
    """What comes while it is off is kept for its time, though its Date is of another hour; logs say
    the time that it is said to be, and how long things took; a reload is one. A certificate that is
    over by that clock is refused, until the clock is right again."""
    (environ, shift), (private, signer) = clock, secure
    private.says("/private/page", ok(b"private", "Cache-Control: no-store"), "fin")
    options = [
        f"origin.urls={origin.url}", f"origin.ca_file={signer}", "origin.breaker_failures=1000",
        "log.access=true", 'route=[{prefix="/site/", kind="http"},'
        f'{{prefix="/private/", kind="http", origins=["{private.url}"]}}, {{prefix="/"}}]',
    ]  # fmt: skip
    with Edge(options, environ=environ) as edge:
        for off in (HOUR, -HOUR, 5 * 365 * 24 * HOUR, 0):
            shift(off)
            for kind in ("media", "site"):
                path = f"/{kind}/{off}.m4s"
                now = format_datetime(datetime.now(UTC), usegmt=True)
                origin.says(path, ok(BODY, "Cache-Control: max-age=60", f"Date: {now}"))
                assert edge.get(path).body == BODY
                if kind == "media":
                    edge.complete(path)
                again = edge.get(path)
                assert (again.body, int(again.fields.get("age", "0")) <= 60) == (BODY, True)
                edge.logged(f"GET {path}")
                told = edge.logged(f"GET {path}")
                assert (told["cache"], origin.count(path)) == ("hit", 1)
                _is_now(float(str(told["at_ns"])) / 1e9, off)
                assert 0 <= int(str(told["duration_us"])) < LIMIT_S * 1e6
            edge.process.send_signal(signal.SIGHUP)
            stamp = str(edge.logged("reloaded")["time"])
            _is_now(datetime.fromisoformat(stamp).timestamp(), off)
            status = edge.get("/private/page").status
            assert status == (502 if off > 24 * HOUR else 200)
        assert edge.stop() == 0


def _is_now(unix_s: float, off: int) -> None:
    """By a clock that is off; a minute is how slow a test may be."""
    assert abs(unix_s - time.time() - off) < 60


def test_a_wall_clock_that_jumps_expires_nothing_and_wakes_nobody(
    clock: tuple[dict[str, str], Callable[[int], None]], origin: ScriptedOrigin
) -> None:
    """Timers, lifetimes and Age are monotonic. Only signatures look at the wall, with a window."""
    environ, shift = clock
    paths = ("/pulled.m4s", "/site/page")
    for path in paths:
        origin.says(path, ok(BODY, "Cache-Control: max-age=60"))
    options = [f"origin.urls={origin.url}", 'route=[{prefix="/site/", kind="http"}]']
    with Edge(options, environ=environ) as edge, edge.raw() as parked:
        for path in paths:
            edge.get(path)
        edge.complete("/pulled.m4s")
        assert push_part(edge, "/live/c/a/v", 7, 0).status == 201
        push_version(edge, "/live/c/v.m3u8", b"#EXTM3U\n1", "7.1.6", hold_ms=50_000)
        parked.sendall(b"GET /live/c/v.m3u8?_HLS_msn=7&_HLS_part=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        edge.settled("edge_parked_now", 1)
        for off in (HOUR, -HOUR, 5 * 365 * 24 * HOUR, -20):
            before = _date(edge)
            shift(off)
            _until(lambda: abs(_date(edge) - before) > 15)  # noqa: B023 - called at once
            for path in (*paths, "/live/c/a/v/7.0.m4s"):
                answer = edge.get(path)
                assert answer.status == 200
                assert re.search(r"edge; hit", answer.fields["cache-status"])
                assert int(answer.fields.get("age", "0")) <= 60
            status = push_part(edge, "/live/c/a/v", 7, 1).status
            assert status in ((200, 201) if abs(off) < 30 else (403,))
            counts = edge.metrics()
            assert (counts["edge_parked_now"], counts["edge_park_timeout_total"]) == (1, 0)
            assert counts["edge_store_expired_total"] == 0
        shift(0)
        assert push_version(edge, "/live/c/v.m3u8", b"#EXTM3U\n2", "7.2.6").status == 204
        assert parked.recv(9999).endswith(b"#EXTM3U\n2")
        assert [origin.count(path) for path in paths] == [1, 1]
        assert edge.stop() == 0


def _date(edge: Edge) -> float:
    return parsedate_to_datetime(edge.get("/live/c/v.m3u8").fields["date"]).timestamp()


def _until(what: Callable[[], bool]) -> None:
    """The date is made again four times a second."""
    while not what():
        threading.Event().wait(0.02)


def test_a_crash_is_told_and_the_next_one_serves() -> None:
    """E8, in a worker: which of them it was stands on stderr, with what all others were doing."""
    options = [f"{door}.listen=127.0.0.1:{free_port()}" for door in ("http", "push", "admin")]
    with Supervised([*options, "http.workers=2"]) as edge:
        crashed = edge.serving()
        tasks = sorted(int(task) for task in os.listdir(f"/proc/{crashed}/task"))
        ctypes.CDLL(None).tgkill(crashed, tasks[-1], signal.SIGSEGV)
        assert edge.logged("serving")
        assert edge.serving() != crashed
        told = "".join(edge.lines)
        assert "Fatal Python error: Segmentation fault" in told
        worker = told.partition("Current thread 0x")[2].partition("\n\n")[0]
        assert "in _bootstrap" in worker, "the main thread begins elsewhere"
        assert edge.stop() == 0
