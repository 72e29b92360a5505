"""B17: a flood of SYNs from addresses that nobody has, on a server of its own in two network
namespaces: on loopback they would be somebody's. Does not judge it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Final

from ..bodies import Blob
from ..clients.synflood import NETWORK
from ..clients.watch import Watched
from ..measure import net_counters
from ..netns import can_isolate
from ..peers.peer import Peer, Site, running
from ..stage import Stage, client, stage, warm

_SHORT: Final = Blob("/blob/16384/short.m4s", 16384)  # it fits in any window
_WINDOW_S: Final = 0.5
_TURNS: Final = 7
_LIMIT_S: Final = 60.0


@dataclass(frozen=True)
class Flooded:
    """`watched`: what viewers with a connection saw. `lost`: how many of those who came had no
    answer."""

    watched: Watched
    lost: int
    told: str


def flooded(peer: Peer) -> Flooded | None:
    """None where there can be no namespaces."""
    if can_isolate() is not None:
        return None
    with stage() as here:
        _prepare(here)
        site = Site(here.network, here.scratch / "site", here.docroot, here.origin_port, [_SHORT])
        with running(peer, site) as server:
            warm(here, server, [_SHORT])
            before = net_counters(server.pid)
            with client(here, "synflood", {
                "address": (server.address, server.port), "path": _SHORT.path,
                "window_s": _WINDOW_S, "turns": _TURNS,
            }) as flood:  # fmt: skip
                found = flood.answer(_LIMIT_S)
            after = net_counters(server.pid)
    cookies = after["TcpExtSyncookiesSent"] - before["TcpExtSyncookiesSent"]
    before_ms, came_ms = found["came_ms"]
    lost = sum(found["lost"])
    return Flooded(
        watched=Watched(**found["watched"]),
        lost=lost,
        told=f"{found['sent'] / found['flood_s']:,.0f} SYNs a second, {cookies:,} cookies;"
        f" who comes: p99 {before_ms:.1f} ms, then {came_ms:.1f}, {lost} lost",
    )


def _prepare(here: Stage) -> None:
    """Cookies as every kernel has them, and answers that end at the client's host, unheard."""
    network = here.network
    for argv in (
        ["sysctl", "-qw", "net.ipv4.tcp_syncookies=1"],
        ["ip", "route", "add", NETWORK, "via", network.client_ip],
    ):
        subprocess.run(network.on_server(argv), check=True)
