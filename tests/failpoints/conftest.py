"""Failpoints by name, on edges as in tests/native. Runs in the instrumented build only
(scripts/sanitize address): a release core has no failpoints."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator

from edgecache import _core
from tests.native.conftest import edges as edges

SHORT = -1
CORE = ctypes.CDLL(_core.__file__)


@contextlib.contextmanager
def failing(
    site: str, error: int, *, first: int = 1, times: int = 1
) -> Iterator[Callable[[], int]]:
    """Calls `first` … `first + times - 1` of `site` fail meanwhile; what it gives says how many
    did so far. One arming a site at a time."""
    assert CORE.ec_failpoint_arm(site.encode(), first, times, error) == 0, site
    try:
        yield lambda: int(CORE.ec_failpoint_struck(site.encode()))
    finally:
        CORE.ec_failpoint_arm(site.encode(), 0, 0, 0)
