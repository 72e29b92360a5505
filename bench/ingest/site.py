"""The pair that is published to: a POP and an origin, as processes, with short times.

Laws: ports are free ones of loopback; everything lives in one directory that goes when it ends; the
whole broadcast stays in the playlists, so that it can be looked at afterwards.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgecache.demo_plan import HOST, Ports, free_ports
from origin.command import catalog_of

from ..errors import BenchError
from ..ledger import LAWS, ORIGIN_LAWS, broken, read
from ..process import spawned, tail

SEGMENT_S: Final = 1.0
TRACK: Final = "v"
_START_S: Final = 30.0
_CLOSE_S: Final = 15.0
_PATIENCE_S: Final = 30.0
_POLL_S: Final = 0.1
_POP: Final = """\
pop.name = "pop"
http.listen = "{host}:{http_a}"
origin.urls = ["http://{host}:{origin}"]
keys.k.secret_file = "{secret}"
push.listen = "{host}:{push_a}"
ingest = {{ listen = "{host}:{rtmp_a}", http = true, srt_listen = "{host}:{srt_a}" }}
admin = {{ listen = "{host}:{admin_a}", refresh = "0s" }}
log.format = "json"
"""
_ORIGIN: Final = """\
http.listen = "{host}:{origin}"
admin.listen = "{host}:{admin_origin}"
data.dir = "{home}/data"
live = {{ segment = "1s", parts = 4, window = "10s", dvr = "10m", reconnect = "{reconnect}s" }}
keys.k.secret_file = "{secret}"
pops.pop = {{ push = "http://{host}:{push_a}", hot = ["*"] }}
srt.listen = "{host}:{srt_origin}"
encoder.streams = 64
ladder.v = {{ width = 160, height = 90, bitrate = "100kbps", preset = "ultrafast" }}
log.format = "json"
"""


@dataclass
class Site:
    """Doors as host:port by name: rtmp, srt, http. keys: of each stream. Many threads ask it."""

    doors: Mapping[str, str]
    admin: Mapping[str, str]  # base URL by daemon
    keys: Mapping[str, str]
    reconnect_s: float
    home: Path
    _rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    _asked_s: float = 0.0
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def master(self, stream: str) -> str:
        return f"http://{self.doors['http']}/live/{stream}/master.m3u8"

    def counts(self, daemon: str) -> dict[str, float]:
        """What bench.ledger reads of its metrics."""
        return read(_get(f"{self.admin[daemon]}/metrics").decode())

    def unbalanced(self) -> dict[str, float]:
        """Laws that do not hold, once there was time for what is under way."""
        deadline = time.monotonic() + _CLOSE_S
        while True:
            off = broken(self.counts("pop"), LAWS) | broken(self.counts("origin"), ORIGIN_LAWS)
            if not off or time.monotonic() > deadline:
                return off
            time.sleep(_POLL_S)

    def state(self, stream: str) -> dict[str, Any]:
        """The origin's row of the stream, at most `_POLL_S` old; {} if it does not know it."""
        with self._asking:
            if time.monotonic() > self._asked_s + _POLL_S:
                told = json.loads(_get(f"{self.admin['origin']}/api/streams"))
                self._rows = {row["name"]: row for row in told["streams"]}
                self._asked_s = time.monotonic()
            return self._rows.get(stream, {})

    def until(self, met: Callable[[], object], what: str) -> None:
        """Wait for what nobody announces. Raises TimeoutError."""
        deadline = time.monotonic() + _PATIENCE_S
        while not met():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not after {_PATIENCE_S:g} s")
            time.sleep(_POLL_S)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        found: bytes = answer.read()
    return found


@contextlib.contextmanager
def serving(streams: Sequence[str], *, reconnect_s: float) -> Iterator[Site]:
    """A POP and an origin with a key for each stream. Raises BenchError when they do not start."""
    ports = vars(free_ports(Ports()))
    with tempfile.TemporaryDirectory(prefix="edgecache-ingest-") as folder, contextlib.ExitStack() \
            as stack:  # fmt: skip
        home = Path(folder)
        secret = home / "secret"
        secret.write_text(secrets.token_hex(32))
        known = {**ports, "host": HOST, "home": home, "secret": secret, "reconnect": reconnect_s}
        for name, text in (("edgecache", _POP), ("origin", _ORIGIN)):
            (home / f"{name}.toml").write_text(text.format(**known))
        with catalog_of(home / "origin.toml") as catalog:
            keys = {stream: catalog.create_key(stream) for stream in streams}
        admin = {"pop": ports["admin_a"], "origin": ports["admin_origin"]}
        site = Site(
            doors={door: f"{HOST}:{ports[f'{door}_a']}" for door in ("rtmp", "srt", "http")},
            admin={name: f"http://{HOST}:{port}" for name, port in admin.items()},
            keys=keys,
            reconnect_s=reconnect_s,
            home=home,
        )
        for name in ("edgecache", "origin"):
            command = [sys.executable, "-m", name, "serve", "-c", str(home / f"{name}.toml")]
            stack.enter_context(spawned(command, log=home / f"{name}.log"))
        _until_ready(site, home)
        yield site


def _until_ready(site: Site, home: Path) -> None:
    deadline = time.monotonic() + _START_S
    for daemon, url in site.admin.items():
        while True:
            with contextlib.suppress(OSError):
                _get(f"{url}/readyz")
                break
            if time.monotonic() > deadline:
                logs = " | ".join(tail(home / f"{each}.log") for each in ("edgecache", "origin"))
                raise BenchError(f"{daemon} is not ready after {_START_S:g} s: {logs}")
            time.sleep(_POLL_S)
