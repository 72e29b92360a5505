"""Start, refusal to start, reload, drain, end: as an operator or a service manager sees them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.running import (
    KEYS,
    LIMIT_S,
    ROOT,
    Edge,
    ScriptedOrigin,
    ask,
    heard,
    hung,
    ok,
    read_all,
    read_head,
)

pytestmark = pytest.mark.timeout(60)

BODY = os.urandom(500_000)


def command(
    *arguments: str, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgecache", *arguments],
        capture_output=True, text=True, timeout=LIMIT_S, cwd=ROOT,
        env={"PATH": "", **(environ or {})},
    )  # fmt: skip


def test_serve_without_a_file_is_a_caching_proxy(origin: ScriptedOrigin) -> None:
    origin.says("/any/file.mp4", ok(BODY, "Cache-Control: max-age=60"))
    with Edge(
        arguments=("--listen", "127.0.0.1:0", "--origin", origin.url, "--workers", "1")
    ) as edge:
        assert edge.get("/any/file.mp4").body == BODY
        edge.settled("edge_fill_completed_total", 1)
        assert edge.get("/any/file.mp4").fields["cache-status"].startswith("edge; hit")
        assert origin.count("/any/file.mp4") == 1
        assert edge.stop() == 0


FROZEN = """
import atexit, gc, runpy, sys
atexit.register(lambda: print("frozen", gc.get_freeze_count()))
sys.argv = ["edgecache", "serve", "--listen", sys.argv[1]]
runpy.run_module("edgecache", run_name="__main__")
"""


def test_what_was_imported_is_not_collected_again() -> None:
    """A full collection of it stopped the control plane for 15 ms, and a push with it. Seen on a
    daemon that ends by itself: its address is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        run = subprocess.run(
            [sys.executable, "-c", FROZEN, address],
            capture_output=True, text=True, timeout=LIMIT_S, cwd=ROOT,
        )  # fmt: skip
    assert "cannot be listened on" in run.stderr
    assert int(run.stdout.split()[-1]) > 10_000


def test_a_wrong_configuration_is_told_whole_and_exits_78(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('[cache]\nmemory = 64\n[http]\nworkrs = 2\n[log]\nlevel = "inf"\n')
    for flags in ((), ("-t",), ("-T",)):
        run = command("serve", "-c", str(file), "-o", "origin.urls=ftp://x", *flags)
        assert run.returncode == 78
        assert run.stdout == ""
        lines = run.stderr.splitlines()
        assert len(lines) == 4, run.stderr
        assert all(line.startswith("error: ") for line in lines)
        assert f"{file}:2: cache.memory: found 64, allowed a size with its unit" in run.stderr
        assert f"{file}:4: http.workrs: " in run.stderr
        assert run.stderr.count("did you mean") == 2


def test_effective_values_name_their_source_and_hide_secrets(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('[cache]\nmemory = "64MiB"\n')
    environ = {"EDGECACHE__HTTP__WORKERS": "3"}
    run = command("serve", "-c", str(file), "-o", KEYS, "-T", environ=environ)
    assert run.returncode == 0
    rows = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines()}
    assert rows["cache.memory"] == ["64MiB", f"{file}:2"]
    assert rows["http.workers"] == ["3", "environment", "EDGECACHE__HTTP__WORKERS"]
    assert rows["http.drain"] == ["30s", "default"]
    assert "0123456789abcdef" not in run.stdout


@pytest.mark.parametrize("door", ["http", "push", "admin", "ingest"])
def test_a_busy_port_is_one_clear_line(door: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        others = {"http", "push", "admin", "ingest"} - {door}
        options = [f"{other}.listen=127.0.0.1:0" for other in others] + [KEYS]
        flags = [part for option in options for part in ("-o", option)]
        run = command("serve", *flags, "-o", f"{door}.listen={address}")
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: {door}.listen: found {address}, ")
    assert run.stderr.count("\n") == 1


def test_a_running_daemon_does_not_share_its_port(edge: Edge) -> None:
    run = command("serve", "--listen", edge.http, "-o", "admin.listen=127.0.0.1:0")
    assert run.returncode == 1
    assert "http.listen" in run.stderr


@pytest.mark.parametrize("setting", ["keys.k.secret_file", "origin.ca_file"])
def test_a_missing_file_is_a_configuration_error(setting: str) -> None:
    run = command("serve", "-o", f"{setting}=/nonexistent/key")
    assert run.returncode == 78
    assert run.stderr.startswith(f"error: {setting}: found /nonexistent/key: ")
    assert run.stderr.count("\n") == 1


def test_drain_finishes_answers_and_frees_the_parked(origin: ScriptedOrigin) -> None:
    go = threading.Event()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    origin.says("/drain.m4s", head + BODY[:1000], go, BODY[1000:])
    origin.says("/parked.m4s", go, ok(b"late"))
    options = (f"origin.urls={origin.url}", "origin.first_byte=10s", "origin.min_rate=0")
    with Edge(options) as edge, edge.raw() as busy, edge.raw() as parked, edge.raw() as idle:
        idle.sendall(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
        read_head(idle)
        busy.sendall(b"GET /drain.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        _, body = read_head(busy)
        parked.sendall(b"GET /parked.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        edge.settled("edge_parked_now", 2)
        edge.process.send_signal(signal.SIGTERM)
        edge.logged("draining")
        assert read_all(parked).startswith(b"HTTP/1.1 503 ")
        assert ask(edge.admin, "GET", "/readyz", {}).status == 503
        with pytest.raises(ConnectionRefusedError):
            edge.raw()
        go.set()
        while len(body) < len(BODY):
            body += busy.recv(65536)
        assert body == BODY
        assert b"HTTP/1.1" not in read_all(idle)
        assert edge.process.wait(LIMIT_S) == 0


def test_a_second_signal_ends_it_at_once() -> None:
    with Edge(["http.drain=50s"]) as edge, edge.raw() as slow:
        slow.sendall(b"GET / HT")
        edge.settled("edge_connections_now", 1)
        edge.process.send_signal(signal.SIGTERM)
        edge.logged("draining")
        started = time.monotonic()
        assert edge.stop(signal.SIGTERM) == 0
        assert time.monotonic() - started < 5


def test_the_drain_deadline_cuts_what_is_left(origin: ScriptedOrigin) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    origin.says("/forever.m4s", head + b"x", 12.0, "fin")
    options = (f"origin.urls={origin.url}", "http.drain=300ms", "origin.min_rate=0")
    with Edge(options) as edge, edge.raw() as viewer:
        viewer.sendall(b"GET /forever.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        read_head(viewer)
        started = time.monotonic()
        assert edge.stop() == 0
        assert time.monotonic() - started < 5


def test_reload_takes_what_it_can_and_says_the_rest(
    tmp_path: Path, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(f'origin.urls = ["{origin.url}"]\n')
    origin.says("/before.m4s", ok(b"first"))
    spare.says("/after.m4s", ok(b"second"))
    with Edge(arguments=("-c", str(file))) as edge:
        assert edge.get("/before.m4s").body == b"first"
        with edge.raw() as kept:
            file.write_text(f'origin.urls = ["{spare.url}"]\n[cache]\nmemory = "128MiB"\n')
            edge.process.send_signal(signal.SIGHUP)
            record = edge.logged("reloaded")
            assert record["needs_restart"] == "['cache.memory']"
            assert edge.get("/after.m4s").body == b"second"
            file.write_text("[cache]\nmemory = 1\n")
            edge.process.send_signal(signal.SIGHUP)
            edge.settled("edge_reloads_rejected", 1)
            kept.sendall(b"GET /after.m4s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_all(kept).endswith(b"second")
        assert any(f"{file}:2: cache.memory" in line for line in edge.lines)
        assert edge.stop() == 0


def test_a_dump_of_what_it_knows(origin: ScriptedOrigin) -> None:
    """SIGUSR1: workers, connections, who is parked, the store and the fills, line by line."""
    go = threading.Event()
    origin.says("/dumped.m4s", go, ok(b"late"))
    options = (f"origin.urls={origin.url}", "origin.first_byte=10s", "http.workers=2")
    with Edge(options) as edge, edge.raw() as viewer:
        viewer.sendall(b"GET /dumped.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        edge.settled("edge_parked_now", 1)
        edge.process.send_signal(signal.SIGUSR1)
        edge.logged("state end")
        told = [json.loads(line)["message"] for line in edge.lines if '"state ' in line]
        workers = [line for line in told if line.startswith("state workers[")]
        assert len(workers) == 2
        assert sum("parked_now 1" in line for line in workers) == 1
        assert "state connections: 1" in told
        assert "state fills[/dumped.m4s]: received 0, waiters 1" in told
        assert any(line.startswith("state store: store_bytes_now ") for line in told)
        origins = [line for line in told if line.startswith("state origins[")]
        assert [line.partition(", failed")[0] for line in origins] == [
            f"state origins[{origin.url}]: healthy true, breaker closed"
        ]
        go.set()
        assert edge.stop(signal.SIGINT) == 0


def test_a_service_manager_is_told() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bus,
    ):
        bus.bind(f"{home}/notify")
        bus.settimeout(LIMIT_S)
        environ = {"NOTIFY_SOCKET": f"{home}/notify", "WATCHDOG_USEC": "400000"}
        with Edge(environ=environ) as edge:
            heard(bus, b"READY=1")
            assert heard(bus, b"WATCHDOG=1") == b"WATCHDOG=1"
            assert edge.stop() == 0
            assert heard(bus, b"STOPPING=1") == b"STOPPING=1"


def test_inherited_sockets_are_served(origin: ScriptedOrigin) -> None:
    origin.says("/inherited.m4s", ok(b"yes"))
    with socket.create_server(("127.0.0.1", 0)) as viewers:
        port = viewers.getsockname()[1]
        script = "import os,sys; os.environ['LISTEN_PID']=str(os.getpid()); "
        script += "os.execv(sys.executable,[sys.executable,'-m','edgecache','serve',*sys.argv[1:]])"
        flags = _flags("admin.listen=127.0.0.1:0", f"origin.urls={origin.url}", "http.workers=2")
        process = subprocess.Popen(
            [sys.executable, "-c", f"import os; os.dup2({viewers.fileno()}, 3); {script}", *flags],
            env={"PATH": "", "LISTEN_FDS": "1"}, cwd=ROOT, pass_fds=(viewers.fileno(), 3),
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            for _ in range(4):
                answer = ask(f"127.0.0.1:{port}", "GET", "/inherited.m4s", {})
                assert answer.body == b"yes"
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors


def _flags(*options: str) -> Sequence[str]:
    return [part for option in options for part in ("-o", option)]


def test_hits_go_on_while_the_control_thread_hangs(origin: ScriptedOrigin) -> None:
    """Promise R6: stopped by a debugger, wherever it is, is the hardest hang there is."""
    origin.says("/hot.m4s", ok(BODY))
    with Edge([f"origin.urls={origin.url}", "http.workers=1"]) as edge:
        assert edge.get("/hot.m4s").body == BODY
        with edge.raw(edge.admin) as operator:
            try:
                with hung(edge):
                    operator.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    operator.settimeout(0.5)
                    for _ in range(50):
                        assert edge.get("/hot.m4s").body == BODY
                    with pytest.raises(TimeoutError):
                        operator.recv(1)
            except PermissionError:
                pytest.skip("ptrace is not allowed here")
            operator.settimeout(LIMIT_S)
            assert operator.recv(99).startswith(b"HTTP/1.1 200 ")
        assert edge.stop() == 0


def test_the_access_log_has_one_record_a_request(origin: ScriptedOrigin) -> None:
    origin.says("/logged.m4s", ok(b"12345"))
    with Edge([f"origin.urls={origin.url}", "log.access=true"]) as edge:
        edge.get("/logged.m4s?token=s3cr3t")
        record = edge.logged("GET /logged.m4s")
        assert (record["status"], record["cache"]) == (200, "miss")
        assert record["client"] == "127.0.0.1"
        assert edge.stop() == 0
        assert "s3cr3t" not in "".join(edge.lines)


def test_the_access_log_has_pages_too(origin: ScriptedOrigin) -> None:
    """Of a route of kind `http`, which the control plane answers: the same record, whose `cache` is
    what the viewer was told."""
    origin.says("/page", ok(b"12345", "Cache-Control: max-age=60"))
    route = 'route=[{prefix="/",kind="http"}]'
    with Edge([f"origin.urls={origin.url}", route, "log.access=true"]) as edge:
        for word in ("uri-miss", "hit"):
            edge.get("/page?token=s3cr3t")
            record = edge.logged("GET /page")
            assert (record["status"], record["cache"]) == (200, word)
            assert record["client"] == "127.0.0.1"
            assert int(str(record["bytes"])) > 5
            assert int(str(record["duration_us"])) > 0
        assert edge.stop() == 0
        assert "s3cr3t" not in "".join(edge.lines)
