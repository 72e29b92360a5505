"""The cache as packets: what one process packs for its successor, and how that unpacks it.

Law: bytes in memfds are passed, never copied; those on the heap (small ones, playlists) travel
beside. What is half filled is only carried when a push fills it, and goes on there. A playlist that
was pulled is given to whoever follows it. Bounds: descriptors and bytes a packet. FORMAT names all
of this; who knows another one starts cold. Does not know how packets travel.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .channel import FDS_MAX

if TYPE_CHECKING:
    from .._core import Fill, Holding, Plane

FORMAT: Final = 1
_RAW_BYTES: Final = 4 << 20
_RECORDS: Final = 4096

Record = dict[str, Any]


@dataclass
class Batch:
    """`records` point into `raw` and `fds`. `kept` holds what the descriptors belong to."""

    records: list[Record] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    fds: list[int] = field(default_factory=list)
    kept: list[Holding] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return (
            len(self.fds) >= FDS_MAX or len(self.raw) >= _RAW_BYTES
            or len(self.records) >= _RECORDS
        )  # fmt: skip

    def put(self, data: bytes) -> list[int]:
        """Where it will be found."""
        self.raw += data
        return [len(self.raw) - len(data), len(data)]


def pack(plane: Plane, growing: Collection[bytes]) -> Iterator[Batch]:
    """All of the store; of what is being filled, the keys in `growing`."""
    from .._core import holdings

    batch = Batch()
    for holding in holdings(plane):
        if holding.state == b"filling" and holding.key not in growing:
            continue
        if holding.state == b"failed":
            continue
        batch.kept.append(holding)
        batch.records.append(_record(holding, batch))
        if batch.full:
            yield batch
            batch = Batch()
    yield batch


def _record(holding: Holding, batch: Batch) -> Record:
    key = holding.key.decode("latin-1")
    if holding.state == b"live":
        version = holding.version()
        version["bodies"] = [body and batch.put(body) for body in version["bodies"]]
        return {"key": key, "live": _text(version)}
    record: Record = {"key": key, "facts": _text(holding.facts())}
    if holding.parent is not None:
        return record | {"of": holding.parent.decode("latin-1")}
    record["growing"] = holding.state == b"filling"
    if holding.fd >= 0:
        batch.fds.append(holding.fd)
    else:
        record["body"] = batch.put(holding.body())
    return record


def _text(values: Record) -> Record:
    """JSON has no bytes."""
    return {name: _latin(value) for name, value in values.items()}


def _latin(value: Any) -> Any:
    if isinstance(value, list):
        return [_latin(item) for item in value]
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    return value.encode("latin-1") if isinstance(value, str) else value


class Unpacker:
    """take() for each batch, in order. `pushed(key, bytes, ms left)`: it is here now; `pulled(key,
    version)`: a playlist to be followed; `grows(key, fill, bytes)`: a segment whose push goes on
    here."""

    def __init__(
        self,
        plane: Plane,
        *,
        pushed: Callable[[bytes, int, int], None],
        pulled: Callable[[bytes, Record], None],
        grows: Callable[[bytes, Fill, bytes], None],
    ) -> None:
        self._plane = plane
        self._pushed = pushed
        self._pulled = pulled
        self._grows = grows
        self._parent: tuple[bytes, Fill] | None = None
        self.taken = self.left = 0

    def take(self, records: list[Record], raw: bytes, fds: list[int]) -> None:
        """Takes the descriptors over. Raises ValueError, KeyError or TypeError when it is not what
        pack() makes; what came before stays."""
        unused = list(reversed(fds))
        try:
            for record in records:
                key = record["key"].encode("latin-1")
                if "live" in record:
                    taken = self._live(key, record["live"], raw)
                else:
                    taken = self._object(key, record, raw, unused)
                self.taken += taken
                self.left += not taken
        finally:
            for fd in unused:
                os.close(fd)

    def _live(self, key: bytes, version: Record, raw: bytes) -> bool:
        from .._core import PUT_CREATED

        values = {name: _bytes(value) for name, value in version.items() if name != "bodies"}
        values["bodies"] = [at and raw[at[0] : at[0] + at[1]] for at in version["bodies"]]
        if values["pulled"] and not values["ended"]:
            self._pulled(key, values)
            return True
        if self._plane.publish(key, **values) != PUT_CREATED:
            return False
        size = sum(len(body) for body in values["bodies"] if body is not None)
        self._pushed(key, size, values["ttl_ms"])
        return True

    def _object(self, key: bytes, record: Record, raw: bytes, unused: list[int]) -> bool:
        from .._core import restore

        facts = {name: _bytes(value) for name, value in record["facts"].items()}
        if "of" in record:
            if self._parent is None or self._parent[0] != record["of"].encode("latin-1"):
                return False  # it was not carried
            found = restore(self._plane, key, **facts, parent=self._parent[1])
        elif "body" in record:
            start, length = record["body"]
            found = restore(self._plane, key, **facts, body=raw[start : start + length])
        else:
            growing = bool(record["growing"])
            fd = unused.pop()
            begun = os.pread(fd, facts["length"], 0) if growing else b""
            found = restore(self._plane, key, **facts, fd=fd, growing=growing)
            if found is not None and growing:
                self._grows(key, found, begun)
        if "of" not in record:
            self._parent = (key, found) if found is not None else None
        if found is not None and facts["pushed"]:
            left_ms = facts["expires_ms"] - int(time.monotonic() * 1000)
            self._pushed(key, facts["length"], max(0, left_ms))
        return found is not None
