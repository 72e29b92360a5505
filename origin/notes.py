"""What live streams want written down in the catalogue, without ever waiting for it.

Laws: a note replaces an older one of its kind and stream that is not written yet, so there are at
most a few a stream. One thread writes, in the order in which they came; a catalogue that cannot be
written is tried again with back-off, and said once. What was noted is known here at once.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Final, Literal, Protocol

from .catalog import Catalog
from .rows import AwayError, CatalogError

log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.1
_BACKOFF_MAX_S: Final = 2.0


class Discontinuities(Protocol):
    """How many a stream has had, kept beyond this process: a player that outlives it must not see
    their number go back (RFC 8216bis 6.2.2)."""

    def discontinuities(self, stream: str) -> int: ...
    def set_discontinuities(self, stream: str, count: int) -> None: ...


class Notes:
    """In front of `catalog`. start(), then close(). What an earlier process left so, and is not
    `resumed`, is noted as ended first."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._wake = threading.Condition()
        self._states: OrderedDict[str, tuple[Literal["live", "ended"], str]] = OrderedDict()
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._resumed: Collection[str] = ()
        self._closing = False
        self._said = False
        self._thread = threading.Thread(target=self._work, name="notes")

    def start(self, resumed: Collection[str]) -> None:
        self._resumed = resumed
        self._thread.start()

    def set_state(self, stream: str, state: Literal["live", "ended"], epoch: str) -> None:
        with self._wake:
            self._states[stream] = state, epoch
            self._wake.notify()

    def set_discontinuities(self, stream: str, count: int) -> None:
        with self._wake:
            self._counts[stream] = count
            self._wake.notify()

    def discontinuities(self, stream: str) -> int:
        with self._wake:
            noted = self._counts.get(stream, 0)
        return max(noted, self._catalog.discontinuities(stream))

    def close(self) -> None:
        """Write what is left, if it can be written now."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    # -- the thread

    def _work(self) -> None:
        try:
            self._catalog.settle(self._resumed)
        except CatalogError as error:
            log.warning("what an earlier process left is not settled: %s", error)
        backoff_s = _BACKOFF_S
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._states or self._counts or self._closing)
                states, counts = dict(self._states), dict(self._counts)
            if not states and not counts:
                return
            try:
                self._write(states, counts)
            except CatalogError as error:
                if not self._said and not (isinstance(error, AwayError) and error.logged):
                    self._said = True
                    log.error("streams are not written down, tried again: %s", error)
                with self._wake:
                    if self._wake.wait_for(lambda: self._closing, backoff_s):
                        return
                backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
            else:
                backoff_s, self._said = _BACKOFF_S, False

    def _write(
        self,
        states: dict[str, tuple[Literal["live", "ended"], str]],
        counts: dict[str, int],
    ) -> None:
        """Raises CatalogError; what is written by then is not noted any more."""
        for stream, count in counts.items():
            self._catalog.set_discontinuities(stream, count)
            with self._wake:
                if self._counts.get(stream) == count:
                    del self._counts[stream]
        for stream, turned in states.items():
            self._catalog.set_state(stream, *turned)
            with self._wake:
                if self._states.get(stream) == turned:
                    del self._states[stream]
