"""The cache as packets: what one process packs for the next, and how that unpacks it. The next one
takes over from it while it lives (succession.py), or comes after it was killed (deposit.py).

Law: bytes in memfds are passed, never copied; those on the heap (small ones, playlists) travel
beside. What is half filled is only carried when a push fills it, and goes on there. A playlist that
was pulled is given to whoever follows it. An item says all that it is, times as of the monotonic
clock, so it may wait. Bounds: descriptors, bytes and items a packet. FORMAT names all of this; who
knows another one starts cold. Does not know how packets travel.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .channel import FDS_MAX

if TYPE_CHECKING:
    from .._core import Fill, Holding, Plane

FORMAT: Final = 2
_RAW_BYTES: Final = 4 << 20
_ITEMS: Final = 4096

Record = dict[str, Any]
Size = Sequence[int]  # (bytes of an item, 1 if a descriptor belongs to it)


@dataclass
class Batch:
    """Items, one behind the other in `raw`, and their descriptors in `fds`. `kept` holds what
    those belong to."""

    sizes: list[Size] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    fds: list[int] = field(default_factory=list)
    kept: list[Holding] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.fds) >= FDS_MAX or len(self.raw) >= _RAW_BYTES or len(self.sizes) >= _ITEMS

    def put(self, item: bytes, fd: int, holding: Holding | None = None) -> None:
        self.sizes.append((len(item), int(fd >= 0)))
        self.raw += item
        if fd >= 0:
            self.fds.append(fd)
        if holding is not None:
            self.kept.append(holding)


def pack(plane: Plane, growing: Collection[bytes]) -> Iterator[Batch]:
    """All of the store; of what is being filled, the keys in `growing`."""
    from .._core import holdings

    batch = Batch()
    for holding in holdings(plane):
        if not carried(holding, growing):
            continue
        batch.put(item_of(holding), holding.fd if holding.parent is None else -1, holding)
        if batch.full:
            yield batch
            batch = Batch()
    yield batch


def carried(holding: Holding, growing: Collection[bytes]) -> bool:
    state = holding.state
    return state in (b"complete", b"live") or (state == b"filling" and holding.key in growing)


def item_of(holding: Holding) -> bytes:
    """A line of JSON, then bytes from the heap."""
    record: Record = {"key": holding.key.decode("latin-1")}
    body = b""
    if holding.state == b"live":
        version = record["live"] = holding.version()
        now_ms = time.monotonic_ns() // 1_000_000
        version["expires_ms"] = now_ms + version.pop("ttl_ms")
        version["published_ms"] = now_ms - version.pop("age_ms")
        body = b"".join(each or b"" for each in version["bodies"])
        version["bodies"] = [each and len(each) for each in version["bodies"]]
        record["live"] = _text(version)
    else:
        record["facts"] = _text(holding.facts())
        if holding.parent is not None:
            record["of"] = holding.parent.decode("latin-1")
        elif holding.fd >= 0:
            record["growing"] = holding.state == b"filling"
        else:
            body = holding.body()
    return json.dumps(record).encode() + b"\n" + body


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
    """take() for each batch, in any order; then follow(). `pushed(key, bytes, ms left)`: it is here
    now; `grows(key, fill, bytes)`: a segment whose push goes on here. What is past its time is
    left: viewers may be waiting for that name."""

    def __init__(
        self,
        plane: Plane,
        *,
        pushed: Callable[[bytes, int, int], None],
        grows: Callable[[bytes, Fill, bytes], None],
    ) -> None:
        self._plane = plane
        self._pushed = pushed
        self._grows = grows
        self._pulled: dict[bytes, Record] = {}
        self._parents: dict[bytes, Fill] = {}
        self._early: dict[bytes, list[tuple[bytes, Record]]] = {}  # parts, by what they are of
        self.taken = self.left = 0

    def take(self, sizes: Sequence[Size], raw: bytes, fds: list[int]) -> list[bytes]:
        """The keys of all. Takes the descriptors over. Raises ValueError, KeyError or TypeError
        when it is not what pack() makes; what came before stays."""
        unused = list(reversed(fds))
        keys = []
        start = 0
        try:
            for size, has_fd in sizes:
                text, _, body = raw[start : start + size].partition(b"\n")
                start += size
                record = json.loads(text)
                key = record["key"].encode("latin-1")
                fd = unused.pop() if has_fd and unused else -1
                if "live" in record:
                    taken = self._live(key, record["live"], body)
                else:
                    taken = self._object(key, record, body, fd)
                self.taken += taken
                self.left += not taken
                keys.append(key)
        finally:
            for fd in unused:
                os.close(fd)
        return keys

    def follow(self, resume: Callable[[bytes, Record], None]) -> None:
        """Whoever follows playlists goes on with those that were pulled."""
        self._parents.clear()
        self._early.clear()
        for key, version in self._pulled.items():
            resume(key, version)
        self._pulled.clear()

    def _live(self, key: bytes, version: Record, raw: bytes) -> bool:
        from .._core import PUT_CREATED

        now_ms = time.monotonic_ns() // 1_000_000
        values = {name: _bytes(value) for name, value in version.items()}
        values["ttl_ms"] = values.pop("expires_ms") - now_ms
        if values["ttl_ms"] <= 0:
            return False
        values["age_ms"] = max(0, now_ms - values.pop("published_ms"))
        bodies, start = [], 0
        for size in version["bodies"]:
            bodies.append(None if size is None else raw[start : start + size])
            start += size or 0
        values["bodies"] = bodies
        if values["pulled"] and not values["ended"]:
            self._pulled[key] = values
            return True
        if self._plane.publish(key, **values) != PUT_CREATED:
            return False
        self._pushed(key, len(raw), values["ttl_ms"])
        return True

    def _object(self, key: bytes, record: Record, body: bytes, fd: int) -> bool:
        from .._core import restore

        facts = {name: _bytes(value) for name, value in record["facts"].items()}
        growing = record.get("growing", False)
        if facts["drop_ms"] <= time.monotonic_ns() // 1_000_000 and not growing:
            if fd >= 0:
                os.close(fd)
            return False
        if "of" in record:
            of = record["of"].encode("latin-1")
            if (parent := self._parents.get(of)) is not None:
                return self._part(key, facts, parent)
            self._early.setdefault(of, []).append((key, facts))
            return False  # unless its parent comes
        if fd < 0 and len(body) != facts["length"]:
            return False  # its descriptor did not come along
        begun = os.pread(fd, facts["length"], 0) if growing else b""
        found = restore(self._plane, key, **facts, fd=fd, body=body, growing=growing)
        if found is None:
            return False
        if growing:
            self._grows(key, found, begun)
        self._parents[key] = found
        self._came(key, facts)
        for part, of_part in self._early.pop(key, ()):
            came = self._part(part, of_part, found)
            self.taken += came
            self.left -= came
        return True

    def _part(self, key: bytes, facts: Record, parent: Fill) -> bool:
        from .._core import restore

        if restore(self._plane, key, **facts, parent=parent) is None:
            return False
        self._came(key, facts)
        return True

    def _came(self, key: bytes, facts: Record) -> None:
        if facts["pushed"]:
            left_ms = facts["expires_ms"] - time.monotonic_ns() // 1_000_000
            self._pushed(key, facts["length"], max(0, left_ms))
