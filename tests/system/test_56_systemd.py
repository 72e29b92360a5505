"""The units of `deploy` under a real systemd, which is process 1 of its own namespaces: started,
reloaded, restarted, killed, hung and stopped, in one boot."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from origin import ffmpeg, testpattern
from tests.booted import SYSTEMD, UNITS, Booted
from tests.running import KID, LIMIT_S, SECRET, Answer, ScriptedOrigin, ask, ok, read_head
from tests.sockets import free_port

pytestmark = pytest.mark.timeout(120)

EDGE, ORIGIN, KEEPER = "edgecache.service", "edgecache-origin.service", "edgecache-keeper.service"
SOCKET = "edgecache.socket"
CONFIG = "etc/edgecache/edge.toml"
BODY = os.urandom(200_000)
EDGE_TOML = """
pop.name = "{name}"
http = {{ listen = "127.0.0.1:{http}", workers = 2, drain = "20s" }}
admin.listen = "127.0.0.1:{admin}"
push.listen = "127.0.0.1:{push}"
ingest = {{ listen = "127.0.0.1:{rtmp}", data_centres = ["http://127.0.0.1:{centre}"] }}
origin.urls = ["{origin}"]
keys.{kid}.secret = "{secret}"
"""
ORIGIN_TOML = """
http.listen = "127.0.0.1:{centre}"
admin.listen = ""
data.dir = "/var/lib/edgecache-origin"
live.segment = "1s"
keys.{kid}.secret = "{secret}"
pops.a = {{ push = "http://127.0.0.1:{push}", hot = ["*"] }}
ladder.v = {{ width = 160, height = 90, bitrate = "100kbps", preset = "ultrafast" }}
"""
# To the manager, as one of the unit's processes.
SAY = 'echo $$ >"$1"; NOTIFY_SOCKET=/run/systemd/notify exec systemd-notify "$2"'
PORTS = ("http", "admin", "other_admin", "push", "rtmp", "centre")


class Host(Booted):
    """One with a POP and a data centre, configured as its files say."""

    def __init__(self, origin: ScriptedOrigin) -> None:
        ports = {name: free_port() for name in PORTS}
        self.facts: dict[str, object] = {
            **ports, "name": "edge", "origin": origin.url, "kid": KID, "secret": SECRET,
        }  # fmt: skip
        self.viewers = f"127.0.0.1:{ports['http']}"
        address = f"[Socket]\nListenStream=\nListenStream={self.viewers}\n"
        super().__init__(
            {
                CONFIG: self.edge_toml(),
                "etc/edgecache/origin.toml": ORIGIN_TOML.format(**self.facts),
                f"{UNITS}/{SOCKET}.d/address.conf": address,
            }
        )

    def edge_toml(self, **other: object) -> str:
        return EDGE_TOML.format(**{**self.facts, **other})

    def get(self, path: str) -> Answer:
        return ask(self.viewers, "GET", path, {})

    def status(self, pid: int) -> dict[str, str]:
        """/proc/…/status of a process there."""
        lines = self.run("cat", f"/proc/{pid}/status").stdout.splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def group(self, unit: str) -> str:
        """The file of its processes."""
        return f"/sys/fs/cgroup{self.shows(unit, 'ControlGroup')}/cgroup.procs"

    def processes(self, unit: str) -> list[int]:
        """By the numbers that they have there."""
        return [int(pid) for pid in self.run("cat", self.group(unit)).stdout.split()]


@pytest.fixture(scope="module")
def host(origin: ScriptedOrigin) -> Iterator[Host]:
    if not SYSTEMD.exists():
        pytest.skip("systemd is not installed: run scripts/setup test")
    origin.says("/kept.m4s", ok(BODY, "Cache-Control: max-age=600"))
    booting = Host(origin)
    try:
        booting.__enter__()
    except PermissionError as error:
        pytest.skip(f"namespaces are not allowed here: {error}")
    try:
        yield booting
    finally:
        booting.__exit__()


class Viewers:
    """Who asks again and again while something is done: two on new connections, two on kept ones.
    `seen`: `whole` answers; `closed`: kept connections that ended between two of them; errors."""

    def __init__(self, host: Host) -> None:
        self._door = host.viewers
        self._over = threading.Event()
        self.seen: Counter[str] = Counter()
        self.longest_s = 0.0
        who = (self._anew, self._anew, self._kept, self._kept)
        self._threads = [threading.Thread(target=self._watch, args=(each,)) for each in who]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.go_on(50)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def go_on(self, answers: int) -> None:
        """Wait for so many more."""
        until, deadline = self.seen["whole"] + answers, time.monotonic() + LIMIT_S
        while self.seen["whole"] < until:
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.005)

    def _watch(self, asks: Callable[[], None]) -> None:
        while not self._over.is_set():
            try:
                asks()
            except (OSError, http.client.HTTPException) as error:
                self.seen[repr(error)] += 1

    def _anew(self) -> None:
        began = time.monotonic()
        self._judge(ask(self._door, "GET", "/kept.m4s", {}).body)
        self.longest_s = max(self.longest_s, time.monotonic() - began)

    def _kept(self) -> None:
        name, _, port = self._door.rpartition(":")
        connection = http.client.HTTPConnection(name, int(port), timeout=LIMIT_S)
        used = False
        try:
            while not self._over.is_set():
                try:
                    connection.request("GET", "/kept.m4s")
                    answer = connection.getresponse()
                except (http.client.RemoteDisconnected, ConnectionError):
                    if not used:
                        raise
                    self.seen["closed"] += 1
                    return
                self._judge(answer.read())
                used = connection.sock is not None
        finally:
            connection.close()

    def _judge(self, body: bytes) -> None:
        self.seen["whole" if body == BODY else "other bytes"] += 1


def test_it_is_started_once_it_serves(host: Host, origin: ScriptedOrigin) -> None:
    host.systemctl("start", SOCKET, EDGE)
    assert [host.shows(EDGE, name) for name in ("ActiveState", "SubState", "StatusText")] == [
        "active", "running", "serving",
    ]  # fmt: skip
    assert [host.get("/kept.m4s").body for _ in range(3)] == [BODY] * 3
    assert origin.count("/kept.m4s") == 1
    assert host.shows(KEEPER, "ActiveState") == "active"
    assert host.shows(EDGE, "NFileDescriptorStore") == "3"  # but for http, which the unit keeps
    assert host.logged(EDGE, "serving  http=")["PRIORITY"] == "6"


def test_it_is_confined(host: Host) -> None:
    """And what it needs is there. Exposure as `systemd-analyze security` has it: 0 to 10."""
    for unit in (EDGE, KEEPER):
        status = host.status(host.main(unit))
        assert int(status["Uid"].split()[0]) >= 61184  # DynamicUser, systemd.exec(5)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert int(status["CapBnd"], 16) == (1 << 10 if unit == EDGE else 0)  # NET_BIND_SERVICE
    assert host.shows(EDGE, "LimitNOFILE") == "1048576"
    if int(host.status(1)["CapEff"], 16) >> 24 & 1:  # CAP_SYS_RESOURCE: it may give that
        limits = host.run("cat", f"/proc/{host.main(EDGE)}/limits").stdout
        assert limits.partition("Max open files")[2].split()[:2] == ["1048576"] * 2
        score = host.run("cat", f"/proc/{host.main(EDGE)}/oom_score_adj").stdout
        assert score.strip() == "-500"
    assert [host.shows(unit, "OOMPolicy") for unit in (EDGE, ORIGIN)] == ["continue"] * 2
    units = [f"/{UNITS}/{name}" for name in (EDGE, ORIGIN, KEEPER, SOCKET)]
    verify = ("systemd-analyze", "verify", "--man=no", *units)
    assert host.run("env", f"SYSTEMD_UNIT_PATH=/{UNITS}", *verify).stderr == ""
    for unit, exposed in zip(units, (20, 23, 9), strict=False):
        threshold = f"--threshold={exposed}"
        host.run("systemd-analyze", "security", "--offline=true", threshold, unit)


def test_a_reload_is_a_successor_that_nobody_notices(host: Host, origin: ScriptedOrigin) -> None:
    before = host.main(EDGE)
    host.write(CONFIG, host.edge_toml(name="renamed", admin=host.facts["other_admin"]))
    with Viewers(host) as viewers:
        host.systemctl("reload", EDGE)
        host.logged(EDGE, "handed over")
        host.until(lambda: before not in host.processes(EDGE))
        viewers.go_on(50)
    assert viewers.seen.keys() == {"whole"}
    assert host.main(EDGE) != before
    assert host.get("/kept.m4s").fields["cache-status"] == "renamed; hit"
    assert ask(f"127.0.0.1:{host.facts['other_admin']}", "GET", "/healthz", {}).status == 200
    with pytest.raises(ConnectionRefusedError):  # also the manager has let go of it
        ask(f"127.0.0.1:{host.facts['admin']}", "GET", "/healthz", {})
    assert host.shows(EDGE, "NFileDescriptorStore") == "3"
    assert not any("not our child" in entry["MESSAGE"] for entry in host.journal("-u", EDGE))
    assert (host.shows(EDGE, "NRestarts"), origin.count("/kept.m4s")) == ("0", 1)


def test_a_reload_with_wrong_settings_fails_and_changes_nothing(host: Host) -> None:
    before, good = host.main(EDGE), host.path(CONFIG).read_text()
    host.write(CONFIG, good.replace("workers = 2", "workers = -2"))
    try:
        assert host.systemctl("reload", EDGE, check=False).returncode != 0
    finally:
        host.write(CONFIG, good)
    host.logged(EDGE, "http.workers: found -2, allowed")
    assert (host.shows(EDGE, "SubState"), host.main(EDGE)) == ("running", before)
    assert host.get("/kept.m4s").fields["cache-status"] == "renamed; hit"


def test_a_restart_refuses_and_cuts_nobody_and_keeps_the_cache(
    host: Host, origin: ScriptedOrigin, measured: Callable[..., None]
) -> None:
    """Who comes meanwhile waits in the queue of the socket unit. The main process was a successor:
    what is its end systemd has to know (it kills what is not its own child)."""
    before = host.main(EDGE)
    with Viewers(host) as viewers:
        host.systemctl("restart", EDGE)
        viewers.go_on(50)
    host.logged(EDGE, "edgecache.server  draining")
    assert viewers.seen.keys() <= {"whole", "closed"}
    assert viewers.seen["closed"] <= 2
    assert host.main(EDGE) != before
    assert host.get("/kept.m4s").fields["cache-status"] == "renamed; hit"
    assert (host.shows(EDGE, "NRestarts"), origin.count("/kept.m4s")) == ("0", 1)
    measured(seen=dict(viewers.seen), longest_wait_s=round(viewers.longest_s, 2))


def test_a_kill_costs_the_open_connections_and_nothing_else(
    host: Host, origin: ScriptedOrigin, measured: Callable[..., None]
) -> None:
    before = host.main(EDGE)
    with Viewers(host) as viewers:
        host.systemctl("kill", "-s", "KILL", "--kill-who=main", EDGE)
        host.until(lambda: host.main(EDGE) not in (0, before))
        host.until(lambda: host.shows(EDGE, "SubState") == "running")
        viewers.go_on(50)
    cut = {word: n for word, n in viewers.seen.items() if word not in ("whole", "closed")}
    assert not any("refused" in word or "other" in word for word in cut), cut
    assert sum(cut.values()) + viewers.seen["closed"] <= 4
    assert host.get("/kept.m4s").fields["cache-status"] == "renamed; hit"
    assert (host.shows(EDGE, "NRestarts"), origin.count("/kept.m4s")) == ("1", 1)
    measured(seen=dict(viewers.seen), longest_wait_s=round(viewers.longest_s, 2))


def test_what_hangs_is_replaced(host: Host, origin: ScriptedOrigin) -> None:
    """By WatchdogSec, made short while it hangs already; it says where, and the cache is kept."""
    assert host.shows(EDGE, "WatchdogUSec") == "10s"
    before = host.main(EDGE)
    host.systemctl("kill", "-s", "STOP", "--kill-who=main", EDGE)
    host.run("sh", "-euc", SAY, "sh", host.group(EDGE), "WATCHDOG_USEC=200000")
    host.until(lambda: host.main(EDGE) not in (0, before))
    host.until(lambda: host.shows(EDGE, "SubState") == "running")
    host.logged(EDGE, "Watchdog timeout")
    host.logged(EDGE, "Fatal Python error: Aborted")
    assert host.get("/kept.m4s").fields["cache-status"] == "renamed; hit"
    assert (host.shows(EDGE, "NRestarts"), origin.count("/kept.m4s")) == ("2", 1)


def test_without_its_keeper_it_serves_on(host: Host, origin: ScriptedOrigin) -> None:
    """The keeper is back at once, and has what comes from the next reload on."""
    before, serving = host.main(KEEPER), host.main(EDGE)
    host.systemctl("kill", "-s", "KILL", KEEPER)
    host.until(lambda: host.main(KEEPER) not in (0, before))
    origin.says("/new.m4s", ok(b"new"))
    assert host.get("/new.m4s").body == b"new"
    assert host.logged(EDGE, "nobody keeps the cache any more")["PRIORITY"] == "4"
    assert host.main(EDGE) == serving
    assert host.get("/kept.m4s").fields["cache-status"] == "renamed; hit"


def test_a_data_centre_encodes_within_its_unit(host: Host) -> None:
    """A broadcast by the POP to there and back. Its encoder has no network, and goes with it."""
    host.systemctl("start", ORIGIN)
    create = ("keys", "create", "show", "-c", "/etc/edgecache/origin.toml")
    key = host.run("edgecache-origin", *create)  # as root, before it has made anything
    host.logged(ORIGIN, "netless=True")  # it serves
    url = f"rtmp://127.0.0.1:{host.facts['rtmp']}/live/{key.stdout.strip()}"
    pattern = testpattern.Pattern(width=320, height=180, bitrate=400_000)
    with subprocess.Popen(
        testpattern.argv(ffmpeg.find(), url, pattern), stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as publisher:  # fmt: skip
        try:
            host.until(lambda: b".m4s" in host.get("/live/show/v.m3u8").body)
            main = host.main(ORIGIN)
            found = {pid: host.status(pid) for pid in host.processes(ORIGIN)}
            (encoder,) = [pid for pid, each in found.items() if each["Name"] == "ffmpeg"]
            assert found[encoder]["NoNewPrivs"] == "1"
            assert found[encoder]["Seccomp"] == found[main]["Seccomp"] == "2"
            net = [host.run("readlink", f"/proc/{pid}/ns/net").stdout for pid in (main, encoder)]
            assert net[0] != net[1]
            host.systemctl("stop", ORIGIN)
        finally:
            publisher.kill()
    assert (host.shows(ORIGIN, "Result"), host.shows(ORIGIN, "ExecMainStatus")) == ("success", "0")
    assert not any("written" in entry["MESSAGE"] for entry in host.journal("-u", ORIGIN))


def test_a_stop_waits_for_its_viewers_and_leaves_nothing(
    host: Host, origin: ScriptedOrigin
) -> None:
    go = threading.Event()
    origin.says("/slow.m4s", ok(BODY)[:1000], go, ok(BODY)[1000:])
    name, _, port = host.viewers.rpartition(":")
    with socket.create_connection((name, int(port)), LIMIT_S) as viewer:
        viewer.sendall(b"GET /slow.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        _, body = read_head(viewer)
        host.systemctl("stop", "--no-block", SOCKET, EDGE)
        host.logged(EDGE, "edgecache.server  draining", times=2)
        assert host.shows(EDGE, "ActiveState") == "deactivating"
        go.set()
        while more := viewer.recv(65536):
            body += more
    assert body == BODY
    host.until(lambda: host.shows(EDGE, "ActiveState") == "inactive")
    assert [host.shows(EDGE, name) for name in ("Result", "ExecMainStatus")] == ["success", "0"]
    host.until(lambda: host.shows(KEEPER, "ActiveState") == "inactive")
    assert host.shows(EDGE, "NFileDescriptorStore") == "0"
    with pytest.raises(ConnectionRefusedError):
        host.get("/kept.m4s")


def test_wrong_settings_are_not_tried_again(host: Host) -> None:
    host.systemctl("stop", SOCKET, EDGE)
    host.write(CONFIG, "http.workers = -2\n")
    assert host.systemctl("start", EDGE, check=False).returncode != 0
    assert host.shows(EDGE, "ExecMainStatus") == "78"
    assert [host.shows(EDGE, name) for name in ("ActiveState", "NRestarts")] == ["failed", "0"]
