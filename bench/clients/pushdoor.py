"""The packager's end of the push door: signed, pipelined PUTs on one connection (ARCHITECTURE.md,
"Between origin and edge").

Knows the wire contract of edgecache only; no other cache has such a door.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import httptools
import xxhash

from edgecache.signing import sign

from .crowd import CONNECT_TIMEOUT_S

KEY_ID: Final = "bench"
_READ_BYTES: Final = 64 << 10


class Door:
    """One connection to the push door; answers are read in the order of the requests."""

    def __init__(self, address: tuple[str, int], secret: str) -> None:
        self._address = address
        self._secret = secret.encode()
        self._socket = socket.create_connection(address, CONNECT_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = httptools.HttpResponseParser(self)
        self._statuses: deque[int] = deque()  # as many as requests are outstanding

    def on_message_complete(self) -> None:
        self._statuses.append(self._parser.get_status_code())

    def close(self) -> None:
        self._socket.close()

    def message(self, target: str, body: bytes, fields: Mapping[str, str]) -> bytes:
        """A signed PUT, head and body."""
        fields = {"Edge-Digest": xxhash.xxh3_128_hexdigest(body), **fields}
        signature = sign("PUT", target, fields.items(), kid=KEY_ID, secret=self._secret)
        lines = [
            f"PUT {target} HTTP/1.1",
            f"Host: {self._address[0]}:{self._address[1]}",
            f"Authorization: {signature}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        return "\r\n".join((*lines, "\r\n")).encode() + body

    def send(self, *messages: bytes) -> int:
        """Wall clock ns at which the first byte of the first message was given to the kernel."""
        stamp = time.time_ns()
        self._socket.sendall(b"".join(messages))
        return stamp

    def status(self) -> int:
        """Status of the oldest request not yet answered. Raises OSError when there is no answer."""
        while not self._statuses:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the push door closed the connection")
            self._parser.feed_data(data)
        return self._statuses.popleft()


def playlist(size: int, marker: int) -> bytes:
    """A media playlist's worth of text, `size` bytes, different for every marker."""
    text = f"#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n# {marker:08d} "
    return text.encode().ljust(size - 1, b".") + b"\n"


def version_fields(msn: int, parts: int, last_parts: int, size: int) -> dict[str, str]:
    return {
        "Content-Type": "application/vnd.apple.mpegurl",
        "Cache-Control": "max-age=1",
        "Edge-TTL": "60000",
        "Edge-Version": f"{msn}.{parts}.{last_parts}",
        "Edge-Hold": "15000",
        "Edge-Advance": "3",
        "Edge-Ended": "0",
        "Edge-Variants": f"full={size}",
    }


def object_fields() -> dict[str, str]:
    return {"Content-Type": "video/mp4", "Cache-Control": "max-age=60", "Edge-TTL": "60000"}
