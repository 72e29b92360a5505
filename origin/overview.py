"""What the origin knows of its streams and POPs, as one JSON value: whole, or for everybody.

Law: what names a person, a machine or a process stays out of the public one. Bounds: the
catalogue's and the subscriptions'. Does not know HTTP, nor how anything is counted.
"""

from __future__ import annotations

from typing import Final

from .catalog import Catalog
from .ingest import Ingest
from .store import Store
from .subscriptions import Subscriptions

Json = dict[str, object]
_PRIVATE: Final = frozenset(("publisher", "encoder_pid", "ledger", "tracks", "url"))


class Overview:
    """`{"streams": [row…], "pops": [row…]}`, streams by name; JSON values."""

    def __init__(
        self, *, store: Store, catalog: Catalog, subscriptions: Subscriptions, ingest: Ingest
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._subscriptions = subscriptions
        self._ingest = ingest

    def whole(self) -> dict[str, list[Json]]:
        """For operators: with publishers' addresses, push doors and process ids."""
        pops = [pusher.describe() for pusher in self._subscriptions.pushers()]
        return {"streams": [self._row(name) for name in self._names()], "pops": pops}

    def public(self) -> dict[str, list[Json]]:
        """The state page's."""
        return {
            kind: [{k: v for k, v in row.items() if k not in _PRIVATE} for row in rows]
            for kind, rows in self.whole().items()
        }

    def _names(self) -> list[str]:
        known = {row.name for row in self._catalog.streams()}
        return sorted(known | {window.stream for window in self._store.streams()})

    def _row(self, stream: str) -> Json:
        window = self._store.window(stream)
        listed = window.playlists.items() if window else ()
        return {
            "name": stream,
            "state": self._store.state(stream),
            "epoch": window.epoch if window else None,
            "playlists": {path: ".".join(map(str, slot.newest.version)) for path, slot in listed},
            "bytes": window.memory_bytes if window else 0,
            "viewers": self._subscriptions.viewers(stream),
            **self._ingest.describe(stream),
        }
