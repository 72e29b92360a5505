"""What a daemon stands on, made from its configuration: listening sockets and the data plane."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .config import EdgeConfig
from .control import sockets
from .control.routes import Routes
from .errors import EdgeError

if TYPE_CHECKING:
    from ._core import Plane


class StartError(EdgeError):
    """The daemon cannot start; the message is one line for a person."""

    source = "config"


def make_plane(config: EdgeConfig, routes: Routes) -> Plane:
    """Raises StartError when the core is not built or refuses its limits."""
    try:
        from ._core import Plane
    except ImportError as error:
        text = (
            f"the native core is missing ({error}): build it with `make build` or `pip install .`"
        )
        raise StartError(text) from None
    try:
        return Plane(
            name=config.pop.name.encode(),
            budget_bytes=config.cache.memory,
            limits=config.limits(),
            access_log=config.log.access,
            keep=routes.keep(),
            sites=routes.sites(),
            id=routes.id.encode(),
            trusted=config.trusted(),
        )
    except (ValueError, MemoryError) as error:
        raise StartError(f"the native core refuses to start: {error}") from None


def bind(
    config: EdgeConfig, handed: Mapping[str, list[socket.socket]], handed_kept: frozenset[str]
) -> tuple[dict[str, list[socket.socket]], frozenset[str]]:
    """Every socket of every door, and the names of those that a service manager keeps open for who
    comes after us. `handed`: what the process that we succeed listens on, of which a manager keeps
    `handed_kept`. Raises ListenError."""
    given = sockets.inherited()
    kept = set(given)
    found: dict[str, list[socket.socket]] = {}
    wanted = {"http": config.http.listen, "push": config.push.listen}
    wanted |= {"ingest": config.ingest.listen, "admin": config.admin.listen}
    for name, address in wanted.items():
        count = config.workers() if name == "http" else 1
        if name in handed and address and sockets.fits(handed[name][0], address):
            found[name] = sockets.spread(handed[name], count)
            kept |= {name} & handed_kept
        elif name in given:
            found[name] = sockets.spread(given[name], count)
        elif address:
            found[name] = sockets.listen(f"{name}.listen", address, count)
    return found, frozenset(kept)
