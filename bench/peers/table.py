"""The servers under test, by name. Our own is one entry among them, as it is by default."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from ..process import compiled
from .peer import Feeds, Peer

FLOOR_SOURCE: Final = Path(__file__).parent.parent / "floor.c"
PACING_BYTES_S: Final = 30_000_000  # 240 Mb/s a viewer: generous for any rendition, kind to queues


def build_floor(directory: Path) -> Path:
    """Compiles floor.c into `directory`. Raises BenchError with the compiler's words."""
    return compiled(FLOOR_SOURCE, directory / "floor")


def _floor(binary: Path, name: str, title: str, how: str, pacing: int) -> Peer:
    argv = (str(binary), "@{address}", "@{port}", how, str(pacing), "@{sizes}")
    return Peer(f"floor-{name}", title, str(binary), "cc", "canned", argv, workers_max=1)


def _edgecache(suffix: str = "", *options: str) -> Peer:
    argv = (
        sys.executable, "-m", "edgecache", "serve", "--listen", "@{listen}",
        "--origin", "http://@{origin}", "--workers", "@{workers}",
        "-o", "http.connections_per_address=0",  # all of a run's viewers come from one
        *options,
    )  # fmt: skip
    name = f"edgecache{suffix}"
    return Peer(name, name.replace("-", " "), sys.executable, "this project", "origin", argv)


def _nginx(name: str, title: str, feeds: Feeds) -> Peer:
    argv = ("nginx", "-p", "@{dir}", "-c", "@{dir}/nginx.conf", "-e", "stderr")
    return Peer(f"nginx-{name}", title, "nginx", "nginx-light", feeds, argv, f"nginx_{name}")


def _others() -> tuple[Peer, ...]:
    h2o = ("h2o", "-c", "@{dir}/h2o.yaml")
    haproxy = ("haproxy", "-db", "-f", "@{dir}/haproxy.cfg")
    varnish = (
        "varnishd", "-F", "-a", "@{listen}", "-f", "@{dir}/bench.vcl", "-s", "malloc,2g",
        "-n", "@{dir}/run", "-T", "none", "-j", "none",
        # The manual: two pools are right for nearly all, enough threads kept ready for the peak,
        # because a streaming viewer holds one.
        "-p", "thread_pools=2", "-p", "thread_pool_min=200", "-p", "thread_pool_max=5000",
        "-p", "timeout_idle=600", "-p", "listen_depth=16384",
    )  # fmt: skip
    ats = ("traffic_server", "--run-root=@{dir}/runroot.yaml")
    return (
        Peer("h2o", "h2o static", "h2o", "h2o", "files", h2o, "h2o"),
        Peer("haproxy", "HAProxy cache", "haproxy", "haproxy", "origin", haproxy, "haproxy"),
        Peer("varnish", "Varnish malloc", "varnishd", "varnish", "origin", varnish, "varnish"),
        Peer("ats", "Traffic Server", "traffic_server", "trafficserver", "origin",
             ats, "ats", env={"TS_RUNROOT": "@{dir}/runroot.yaml"}),
    )  # fmt: skip


def peers(floor: Path) -> dict[str, Peer]:
    """Every server by name; `floor` is the compiled floor."""
    table = (
        _floor(floor, "writev", "floor, writev", "writev", 0),
        _floor(floor, "sendfile", "floor, sendfile", "sendfile", 0),
        _floor(floor, "paced", "floor, sendfile paced", "sendfile", PACING_BYTES_S),
        _edgecache(),
        _edgecache("-unpaced", "-o", "http.pacing=0"),  # the one that is not our default
        _nginx("cache", "nginx proxy_cache", "origin"),
        _nginx("static", "nginx static", "files"),
        *_others(),
    )
    return {peer.name: peer for peer in table}
