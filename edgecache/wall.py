"""The wall clock, where something is judged too old by it. It may be set while we run: by hours, by
years, rightly or not.

Law: nothing is older than both it and the monotonic clock since this process began say. So a clock
that jumps ahead ages nothing; one that was behind when the process began ages what is judged here
too slowly until the next one begins. What is only told goes by the wall clock as it is.
"""

from __future__ import annotations

import time
from typing import Final

_BEGAN_S: Final = time.time() - time.monotonic()


def earlier_s() -> float:
    """Unix seconds."""
    return min(time.time(), _BEGAN_S + time.monotonic())
