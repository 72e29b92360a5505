"""What a daemon stands on, made from its configuration: listening sockets and the data plane."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .config import EdgeConfig
from .control import manager, sockets
from .control.admission import SignFields
from .control.dial import Ways
from .control.interest import Interest
from .control.manager import Given, Sockets
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
    limits = config.limits()
    sockets.make_room(limits["max_connections"])
    try:
        return Plane(
            name=config.pop.name.encode(),
            budget_bytes=config.cache.memory,
            limits=limits,
            access_log=config.log.access,
            keep=routes.keep(),
            sites=routes.sites(),
            id=routes.id.encode(),
            trusted=config.trusted(),
            hosts=[name.encode() for name in config.hosts()],
        )
    except (ValueError, MemoryError) as error:
        raise StartError(f"the native core refuses to start: {error}") from None


def make_interest(
    config: EdgeConfig,
    plane: Plane,
    there: Sockets,
    sign: SignFields | None,
    ways: Ways,
) -> Interest | None:
    """None when nobody could push to us: without a door for that, or (`sign`) a key."""
    if "push" not in there or sign is None:
        return None
    url = config.push_url(there["push"][0].getsockname()[1])
    interest = Interest(
        plane, config.interest, pop=config.pop.name, push_url=url, sign=sign, ways=ways
    )
    interest.origins = config.origin.urls
    return interest


def bind(
    config: EdgeConfig,
    handed: Mapping[str, list[socket.socket]],
    handed_kept: frozenset[str],
    given: Given = ({}, {}),
) -> tuple[Sockets, frozenset[str]]:
    """Every socket of every door, and the names of those that units of a service manager keep open
    for who comes after us. `handed`: what the process that we succeed listens on, of which units
    keep `handed_kept`; `given`: manager.inherited(). Raises ListenError."""
    units, bound = given
    kept = set(units)
    found: Sockets = {}
    wanted = {"http": config.http.listen, "push": config.push.listen}
    wanted |= {"ingest": config.ingest.listen, "admin": config.admin.listen}
    wanted |= {"rtmps": config.ingest.rtmps_listen, "srt": config.ingest.srt_listen}
    wanted |= {"whip": config.ingest.whip_listen}
    for name, address in wanted.items():
        count = config.workers() if name == "http" else 1
        if _fits(handed, name, address):
            found[name] = sockets.spread(handed[name], count)
            kept |= {name} & handed_kept
        elif name in units:
            found[name] = sockets.spread(units[name], count)
        elif _fits(bound, name, address):
            found[name] = sockets.spread(bound.pop(name), count)
        elif address:
            if name in handed or name in bound:  # it may have another address on the same port
                _drop((*handed.get(name, ()), *bound.pop(name, ())), name)
            found[name] = _listen(name, address, count)
    for name in {*handed, *bound} - found.keys():
        _drop((*handed.get(name, ()), *bound.pop(name, ())), name)
    return found, frozenset(kept)


def _listen(name: str, address: str, count: int) -> list[socket.socket]:
    if name in ("srt", "whip"):
        return [sockets.listen_datagrams(f"ingest.{name}_listen", address)]
    setting = "ingest.rtmps_listen" if name == "rtmps" else f"{name}.listen"
    return sockets.listen(setting, address, count)


def _fits(there: Mapping[str, list[socket.socket]], name: str, address: str) -> bool:
    return name in there and bool(address) and sockets.fits(there[name][0], address)


def _drop(items: Iterable[socket.socket], name: str) -> None:
    """What one of us had bound, and nobody wants any more."""
    manager.forget(name)
    for item in items:
        item.close()
