"""What the demo runs and where: ports, settings files, and what people and programs are told.

Laws: every door is on loopback; a port is a free one unless given; a busy one is an error that
names its option. The secret is written for the owner's eyes only. Starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from .children import Child
from .errors import EdgeError

HOST: Final = "127.0.0.1"
STREAM: Final = "demo"
OWN_STREAM: Final = "mine"
GO: Final = "/go"
_QUIET: Final = range(20_000, 32_000)  # below the usual ip_local_port_range
_TRIES: Final = 64

_EDGE_TOML: Final = """\
pop.name = "{name}"
http = {{ listen = "{host}:{http}", drain = "1s" }}
origin.urls = ["http://{host}:{origin}"]
keys.demo.secret_file = "{secret}"
push.listen = "{host}:{push}"
ingest = {{ listen = "{host}:{rtmp}", srt_listen = "{host}:{srt}", whip_listen = "{whip}", \
http = true }}
admin.listen = "{host}:{admin}"
route = [{{ prefix = "/download/", kind = "http" }}]
"""
_ORIGIN_TOML: Final = """\
http = {{ listen = "{host}:{origin}", drain = "1s" }}
admin.listen = "{host}:{admin_origin}"
data.dir = "{data}"
live.dvr = "10m"
srt.listen = "{host}:{srt_origin}"
whip.listen = "{whip}"
keys.demo.secret_file = "{secret}"
pops.pop-a = {{ push = "http://{host}:{push_a}", hot = ["*"] }}
pops.pop-b = {{ push = "http://{host}:{push_b}", hot = ["*"] }}
"""
_GUIDE: Final = """
A live broadcast is running on this machine.

  watch      {watch_b}   (POP B; the pattern is published through POP A)
             {watch_a}   (POP A)
  metrics    {metrics}
  state      {state}
  using      {ffmpeg}

Publish your own, and watch it at {own_watch}

  browser    {go}
             Stream key  {key}
  OBS        Settings, Stream, Service "Custom"; Output: keyframe interval 2 s
             Server      {server}
             Stream key  {key}
  ffmpeg     ffmpeg -re -i FILE -c:v libx264 -preset veryfast -tune zerolatency -g 60 \
-pix_fmt yuv420p -c:a aac -f flv {server}/{key}
  or, by SRT … -f mpegts "{srt}"

Ctrl-C ends it."""


class DemoError(EdgeError):
    """The demo cannot start or go on: one line; `details` are the last lines of a log."""

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Of the doors on loopback; 0 is a free one."""

    origin: int = 0
    admin_origin: int = 0
    srt_origin: int = 0
    http_a: int = 0
    rtmp_a: int = 0
    srt_a: int = 0
    push_a: int = 0
    admin_a: int = 0
    http_b: int = 0
    rtmp_b: int = 0
    srt_b: int = 0
    push_b: int = 0
    admin_b: int = 0


@dataclass
class Demo:
    """What runs, and where."""

    home: Path
    ports: Ports
    publish: bool
    ffmpeg: str = ""
    whip: bool = False  # is offered, where all is there that it needs
    running: list[Child] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def own(self) -> str:
        """The stream that is free for the user's own broadcast."""
        return OWN_STREAM if self.publish else STREAM

    def at(self, port: int, path: str) -> str:
        return f"http://{HOST}:{port}{path}"

    def playlists(self, stream: str) -> list[str]:
        doors = (self.ports.http_a, self.ports.http_b)
        return [self.at(port, f"/live/{stream}/master.m3u8") for port in doors]

    def admin(self) -> dict[str, str]:
        """The operators' doors, by program."""
        ports = self.ports
        doors = {"pop-a": ports.admin_a, "pop-b": ports.admin_b, "origin": ports.admin_origin}
        return {name: self.at(port, "") for name, port in doors.items()}

    def metrics(self) -> list[str]:
        return [f"{door}/metrics" for door in self.admin().values()]

    def publish_url(self, stream: str) -> str:
        return f"rtmp://{HOST}:{self.ports.rtmp_a}/live/{self.keys[stream]}"

    def srt_url(self, stream: str) -> str:
        """The stream id is the key."""
        return f"srt://{HOST}:{self.ports.srt_a}?streamid={self.keys[stream]}"

    def facts(self) -> dict[str, object]:
        """What `--json` prints. `publish`, `srt` are for `own`: nobody else publishes there."""
        watch = self.at(self.ports.http_b, "/watch/")
        return {
            "watch": watch + STREAM,
            "playlists": self.playlists(STREAM),
            "publish": self.publish_url(self.own),
            "srt": self.srt_url(self.own),
            "go": self.at(self.ports.http_a, GO),
            "metrics": self.metrics(),
            "admin": self.admin(),
            "pids": {"demo": os.getpid(), **{child.name: child.pid for child in self.running}},
            "own": {"watch": watch + self.own, "playlists": self.playlists(self.own)},
        }

    def guide(self) -> str:
        """The same for people."""
        server, _, key = self.publish_url(self.own).rpartition("/")
        return _GUIDE.format(
            watch_a=self.at(self.ports.http_a, f"/watch/{STREAM}"),
            watch_b=self.at(self.ports.http_b, f"/watch/{STREAM}"),
            metrics="\n             ".join(self.metrics()),
            state=self.at(self.ports.http_b, "/state"),
            ffmpeg=self.ffmpeg,
            go=self.at(self.ports.http_a, GO),
            own_watch=self.at(self.ports.http_b, f"/watch/{self.own}"),
            server=server,
            srt=self.srt_url(self.own),
            key=key,
        )


def _bind(door: socket.socket, port: int) -> None:
    """To `port`, or to a free one that no outgoing connection of this machine is given while the
    door is closed again until its owner opens it. Raises OSError."""
    candidates = [port] if port else random.sample(_QUIET, _TRIES)
    for candidate in candidates:
        try:
            return door.bind((HOST, candidate))
        except OSError:
            if candidate == candidates[-1]:
                raise


def free_ports(wanted: Ports) -> Ports:
    """Every 0 replaced by a free port. Raises DemoError naming the option of a busy one."""
    with contextlib.ExitStack() as held:
        chosen = {}
        for name, port in sorted(asdict(wanted).items(), key=lambda item: item[1] == 0):
            kind = socket.SOCK_DGRAM if name.startswith("srt") else socket.SOCK_STREAM
            door = held.enter_context(socket.socket(type=kind))
            try:
                if kind == socket.SOCK_STREAM:
                    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                _bind(door, port)
                if kind == socket.SOCK_STREAM:
                    door.listen(1)  # without it two binds of one port would both succeed
            except OSError as error:
                option = "--" + name.replace("_", "-")
                raise DemoError(f"{option}: port {port} of {HOST}: {error.strerror}") from None
            chosen[name] = door.getsockname()[1]
        return Ports(**chosen)


def write_settings(demo: Demo) -> dict[str, Path]:
    """The three configuration files, by program; the secret they share."""
    secret = demo.home / "secret"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32))
    p, common = demo.ports, {"host": HOST, "secret": secret, "origin": demo.ports.origin}
    common["whip"] = f"{HOST}:0" if demo.whip else ""
    (demo.home / "data").mkdir()
    texts = {
        "origin": _ORIGIN_TOML.format(
            data=demo.home / "data",
            admin_origin=p.admin_origin,
            srt_origin=p.srt_origin,
            push_a=p.push_a,
            push_b=p.push_b,
            **common,
        ),
        "pop-a": _EDGE_TOML.format(
            name="pop-a",
            http=p.http_a,
            rtmp=p.rtmp_a,
            srt=p.srt_a,
            push=p.push_a,
            admin=p.admin_a,
            **common,
        ),
        "pop-b": _EDGE_TOML.format(
            name="pop-b",
            http=p.http_b,
            rtmp=p.rtmp_b,
            srt=p.srt_b,
            push=p.push_b,
            admin=p.admin_b,
            **common,
        ),
    }
    files = {name: demo.home / f"{name}.toml" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text)
    return files
