"""The access log: one line a request, from the workers' records and from guests.py.

Law: what a record says is the data plane's (native/log.pxd), and the same for a request to a route
of kind `http`; a query is never part of it. `client` is the peer, or whom a proxy of ours named
(`http.trusted`).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from .guests import Served

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


def tell_served(served: Served) -> None:
    """`cache`: our word of RFC 9211, as the viewer got it: hit, or why it was passed on. A request
    that was not understood has no record, one without an answer status 0."""
    if served.request is None:
        return
    method, target = served.request.method, served.request.target.partition("?")[0]
    fields: dict[str, int | str] = {"cache": _word(served), "client": served.client.decode()}
    figures = (
        served.at_ns,
        round((time.monotonic() - served.began_s) * 1e6),
        served.answer.status if served.answer else 0,
        served.sent,
    )
    fields |= zip(_FIGURES, figures, strict=True)
    log.info("%s %s", method, target, extra=fields)


def _word(served: Served) -> str:
    named = served.answer.fields if served.answer else ()
    said = [value for name, value in named if name.lower() == "cache-status"]
    words = said[-1].split(";") if said else []
    return words[1].strip().removeprefix("fwd=") if len(words) > 1 else "error"
