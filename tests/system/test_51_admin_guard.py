"""Who may use the operators' door: a token, a Unix socket, and nobody's web page (battery G9)."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.described import exercise
from tests.running import LIMIT_S, ROOT, Edge, ScriptedOrigin, ask, ok, read_all

pytestmark = pytest.mark.timeout(60)

TOKEN = "a-token-of-operators"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgecache", *map(str, arguments)],
        capture_output=True, text=True, timeout=LIMIT_S, cwd=ROOT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("token") / "admin"
    file.write_text(TOKEN + "\n")
    return file


@pytest.fixture(scope="module")
def guarded(token_file: Path) -> Iterator[Edge]:
    with Edge([f"admin.token_file={token_file}", "http.workers=1"], token=TOKEN) as daemon:
        yield daemon
        assert TOKEN not in "".join(daemon.lines)
        assert TOKEN not in Path(f"/proc/{daemon.process.pid}/cmdline").read_text()
        assert daemon.stop() == 0


@pytest.mark.parametrize("path", ["/metrics", "/state", "/explain?url=/a", "/nothing"])
@pytest.mark.parametrize(
    "given", ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN]
)
def test_without_the_token_there_is_only_health(guarded: Edge, path: str, given: str) -> None:
    answer = ask(guarded.admin, "GET", path, {"Authorization": given} if given else {})
    assert answer.status == 401
    assert answer.fields["www-authenticate"] == "Bearer"
    assert b"edge_" not in answer.body
    for health in ("/healthz", "/readyz"):
        assert ask(guarded.admin, "GET", health, {}).status == 200


def test_whatever_is_asked_is_answered_as_described(guarded: Edge) -> None:
    """G14: with the token and without."""
    assert exercise(guarded.admin, TOKEN, examples=150) == {200, 400, 401}


def test_with_the_token_the_other_rules_stay(guarded: Edge) -> None:
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(guarded.admin, "GET", "/metrics", known).status == 200
    for path, fields, status in (
        ("/purge?prefix=/", {"Origin": "http://evil.example"}, 403),
        ("/purge?prefix=/", {"Origin": "null"}, 403),
        ("/purge?prefix=/", {"Host": "evil.example"}, 421),
        ("/purge?prefix=/", {}, 200),
    ):
        assert ask(guarded.admin, "POST", path, {**known, **fields}, b"").status == status


def test_twenty_reloads_in_a_row_good_and_bad(tmp_path: Path, origin: ScriptedOrigin) -> None:
    """Battery E2, and a token that is changed each time: with a good configuration the new one
    counts from then on, with a bad one everything stays; no viewer is cut."""
    origin.says("/kept.m4s", ok(b"kept", "Cache-Control: max-age=600"))
    file, token = tmp_path / "edge.toml", tmp_path / "token"
    good = f'origin.urls = ["{origin.url}"]\nadmin.token_file = "{token}"\n'
    tokens = [f"token-of-the-{number:02}-turn" for number in range(20)]
    file.write_text(good)
    token.write_text(tokens[0])
    going, wrong = threading.Event(), list[str]()

    def watches(edge: Edge) -> None:
        """On one connection, to the end."""
        host, _, port = edge.http.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
        with contextlib.closing(connection):
            connection.connect()
            connection.auto_open = 0
            while not going.is_set():
                connection.request("GET", "/kept.m4s")
                answer = connection.getresponse()
                if (answer.status, answer.read()) != (200, b"kept"):
                    wrong.append(str(answer.status))

    with (
        Edge(arguments=("-c", str(file)), token=tokens[0]) as edge,
        ThreadPoolExecutor(4) as viewers,
    ):
        watching = [viewers.submit(watches, edge) for _ in range(4)]
        for number in range(1, 20):
            bad = number % 2
            token.write_text(tokens[number])
            file.write_text(good + ("[cache]\nmemory = 1\n" if bad else ""))
            edge.process.send_signal(signal.SIGHUP)
            if bad:
                edge.logged_like("configuration rejected")
                edge.settled("edge_reloads_rejected", (number + 1) // 2)
            else:
                edge.logged("reloaded")
                old, edge.token = edge.token, tokens[number]
                refused = ask(edge.admin, "GET", "/state", {"Authorization": f"Bearer {old}"})
                assert refused.status == 401
                edge.settled("edge_reloads_applied", number // 2)
        going.set()
        for each in watching:
            each.result(LIMIT_S)
        assert wrong == []
        assert origin.count("/kept.m4s") == 1
        assert not [line for line in edge.lines if "token-of-the" in line]
        assert edge.stop() == 0


def test_the_commands_take_it_from_a_file(guarded: Edge, token_file: Path) -> None:
    admin = f"http://{guarded.admin}"
    assert command("purge", "/a", "--admin", admin).returncode == 1
    run = command("purge", "/a", "--admin", admin, "--token-file", token_file)
    assert "purged" in run.stdout, run.stderr
    gone = command("purge", "/a", "--admin", admin, "--token-file", "/nonexistent")
    assert gone.stderr == "error: --token-file: found /nonexistent: No such file or directory\n"


def test_beyond_loopback_a_token_is_needed(token_file: Path) -> None:
    for listen in ("0.0.0.0:0", "192.0.2.1:80", "[::]:0", "pop.example:80"):
        run = command("serve", "-t", "-o", f"admin.listen={listen}")
        assert run.returncode == 78
        assert "admin.token_file" in run.stderr
    run = command("serve", "-t", "-o", "admin.listen=:0", "-o", f"admin.token_file={token_file}")
    assert run.returncode == 0, run.stderr
    token_file.with_name("short").write_text("short")
    run = command("serve", "-t", "-o", f"admin.token_file={token_file.with_name('short')}")
    assert run.stderr == "error: admin.token_file: found under 16 bytes, allowed 16 or more\n"


def test_a_unix_socket_is_for_its_owner(tmp_path: Path) -> None:
    """A file that a killed daemon left is taken over; one in use is not, and no other file is."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Edge([f"admin.listen=unix:{path}", "http.workers=1"]) as edge:
        assert edge.admin == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as operator:
            operator.connect(str(path))
            operator.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            assert read_all(operator).endswith(b"ok\n")
        assert "purged" in command("purge", "/a", "--admin", f"unix:{path}").stdout
        taken = command("serve", "--listen", "127.0.0.1:0", "-o", f"admin.listen=unix:{path}")
        assert taken.returncode == 1
        assert taken.stderr.startswith(f"error: admin.listen: found unix:{path}, ")
        assert edge.stop() == 0
    file = tmp_path / "file"
    file.write_text("mine")
    run = command("serve", "--listen", "127.0.0.1:0", "-o", f"admin.listen=unix:{file}")
    assert run.returncode == 1
    assert file.read_text() == "mine"
