"""The access log: the workers' records, one log line each.

Law: what a record says is the data plane's (native/log.pxd); a query is never part of it. `client`
is the peer, or whom a proxy of ours named (`http.trusted`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .._core import Plane

log = logging.getLogger(__name__)

_FIGURES: Final = ("at_ns", "duration_us", "status", "bytes")
_CACHE: Final = ("hit", "miss", "collapsed", "live", "woken", "error", "stale")


def tell(plane: Plane) -> None:
    """Those that have come since the last time, as many as one call of the plane gives."""
    for *numbers, cache, method, target, client in plane.log_records():
        fields: dict[str, int | str] = {"cache": _CACHE[cache], "client": client.decode()}
        fields |= zip(_FIGURES, numbers, strict=True)
        log.info("%s %s", method.decode(), target.decode("latin-1"), extra=fields)
