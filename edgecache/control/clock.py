"""The wall clock for viewers: DASH players set theirs by it (UTCTiming, ISO/IEC 23009-1 5.8.4.11).

Law: this POP's clock, never an answer that was kept, never the origin's turn: a miss on the one key
is filled here, at once, with nothing to live for. Those who asked meanwhile share the answer, which
was made after they asked. Does not know who asks, nor what for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ..units import xs_date

if TYPE_CHECKING:
    from .._core import Fill

KEY: Final = b"/edgecache/time"
_FIELDS: Final = b"Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"


def answered(fill: Fill) -> bool:
    """True when `fill` asked for the clock, and has its answer."""
    if fill.key != KEY:
        return False
    body = xs_date(time.time_ns()).encode()
    if fill.begin(200, _FIELDS, length=len(body), ttl_ms=0) and fill.append(body):
        fill.commit()
    return True
