"""A parent that keeps a cache, as `serve --supervise` is one, and gives it as it is told to."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Self

from edgecache._core import Plane, holdings
from edgecache.control import carry
from edgecache.control.channel import Channel

_ROOM = 4096
_FIELDS = b"Content-Type: video/mp4\r\n"
_TTL_MS = 60_000


class ScriptedKeeper:
    """`environ`: for the process that is to begin with what was put here."""

    def __init__(self) -> None:
        self._plane = Plane(name=b"killed", budget_bytes=64 << 20)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(15.0)
        self._socket.bind("")
        self._socket.listen()
        self._slots = 0
        self.environ = {"EDGECACHE_KEEPER": "@" + self._socket.getsockname()[1:].decode()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._socket.close()

    def put(self, key: str, body: bytes) -> None:
        self._plane.put(key.encode(), body, _FIELDS, etag=b"whole", ttl_ms=_TTL_MS)

    def grow(self, segment: str, part: str, body: bytes) -> None:
        """A segment of which there is one part."""
        fill = self._plane.open(segment.encode())
        assert fill is not None
        fill.begin(200, _FIELDS, ttl_ms=_TTL_MS, pushed=True)
        fill.append(body)
        fill.view(part.encode(), 0, len(body), _FIELDS, etag=b"part", ttl_ms=_TTL_MS)
        self._fill = fill  # or it ends here

    def publish(self, key: str, text: bytes, version: tuple[int, int, int]) -> None:
        msn, parts, last_parts = version
        self._plane.publish(
            key.encode(), msn=msn, parts=parts, last_parts=last_parts, hold_ms=2000, advance=6,
            ended=False, ttl_ms=_TTL_MS, fields=[_FIELDS], bodies=[text], etags=[b"v"],
        )  # fmt: skip

    def _say(
        self, kind: str, value: object = None, raw: bytes = b"", fds: Sequence[int] = ()
    ) -> None:
        asyncio.run(self._channel.send(kind, value, raw=raw, fds=fds))

    def welcome(self) -> None:
        """Wait for the process, and give it nothing yet."""
        self._channel = Channel(self._socket.accept()[0])
        marks = os.memfd_create("marks")
        os.ftruncate(marks, _ROOM)
        os.pwrite(marks, b"\1" * len(holdings(self._plane)), 0)
        self._say("marks", _ROOM, fds=[marks])
        os.close(marks)

    def give(self, *keys: str) -> None:
        """In this order."""
        there = {each.key.decode(): each for each in holdings(self._plane)}
        batch = carry.Batch()
        for each in map(there.__getitem__, keys):
            batch.put(carry.item_of(each), each.fd if each.parent is None else -1)
        slots = list(range(self._slots, self._slots + len(keys)))
        self._slots += len(keys)
        self._say("state", {"slots": slots, "sizes": batch.sizes}, bytes(batch.raw), batch.fds)

    def end(self) -> None:
        self._say("end")
