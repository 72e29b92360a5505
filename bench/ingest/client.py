"""An RTMP publisher that sends what it is told, when it is told: a real one cannot be made to wrap
its time stamps or to corrupt its tags.

Laws: plain chunks of one message each; every wait has a deadline. Source: Adobe "RTMP 1.0".
"""

from __future__ import annotations

import asyncio
from typing import Final, Self
from urllib.parse import urlsplit

from edgecache import amf
from edgecache.flv import AUDIO, SCRIPT, VIDEO, Tag
from edgecache.rtmp_chunks import ChunkReader, Limits

from ..errors import BenchError

_ANSWER_S: Final = 10.0
_SHAKE: Final = 1536
_CHUNK: Final = 1 << 16
_SET_CHUNK_SIZE: Final = 1
_COMMAND: Final = 20
_STREAM: Final = 1
_LANES: Final = {AUDIO: 4, VIDEO: 6, SCRIPT: 5}  # chunk streams
_LATE: Final = 0xFFFFFF  # from here on a time stamp needs its own four bytes


class RefusedError(BenchError):
    """The server told why it does not want us."""


class Publisher:
    """await open() it, send() tags, close() it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers = ChunkReader(Limits())
        self._size = 128

    @classmethod
    async def open(cls, url: str) -> Self:
        """To rtmp://host:port/app/key. Raises RefusedError, OSError or TimeoutError."""
        parts = urlsplit(url)
        app, _, key = parts.path.lstrip("/").partition("/")
        async with asyncio.timeout(_ANSWER_S):
            made = cls(*await asyncio.open_connection(parts.hostname, parts.port))
            try:
                await made._begin(app, key, f"rtmp://{parts.netloc}/{app}")
            except BaseException:
                made.abort()
                raise
        return made

    async def _begin(self, app: str, key: str, url: str) -> None:
        self._writer.write(b"\x03" + bytes(_SHAKE))
        await self._reader.readexactly(1 + 2 * _SHAKE)
        self._writer.write(bytes(_SHAKE))
        self._message(2, _SET_CHUNK_SIZE, _CHUNK.to_bytes(4, "big"), stream=0)
        self._size = _CHUNK
        self._command("connect", 1, {"app": app, "tcUrl": url}, stream=0)
        self._command("createStream", 2, None, stream=0)
        self._command("publish", 3, None, key, "live", stream=_STREAM)
        while (status := await self._status()) is None:
            pass
        if status["code"] != "NetStream.Publish.Start":
            raise RefusedError(str(status.get("description")))

    async def _status(self) -> dict[str, amf.Value] | None:
        """Of the next bytes, if there is one in them."""
        data = await self._reader.read(65536)
        if not data:
            raise RefusedError("closed without a word")
        found = None
        for message in self._answers.feed(data):
            if message.kind == _SET_CHUNK_SIZE:
                self._answers.chunk_bytes = int.from_bytes(message.body, "big")
            elif message.kind == _COMMAND:
                values = amf.decode(message.body)
                if values[0] == "onStatus" and isinstance(values[-1], dict):
                    found = values[-1]
        return found

    async def send(self, tag: Tag) -> None:
        """Raises ConnectionError when the server has closed."""
        self._message(_LANES[tag.kind], tag.kind, tag.body, at_ms=tag.timestamp, stream=_STREAM)
        await self._writer.drain()

    async def close(self) -> None:
        """Say goodbye."""
        self._command("deleteStream", 4, None, _STREAM, stream=0)
        self._writer.close()
        await asyncio.wait_for(self._writer.wait_closed(), _ANSWER_S)

    def abort(self) -> None:
        """Be gone without a word."""
        self._writer.transport.abort()

    def _command(self, *values: amf.Value, stream: int) -> None:
        self._message(3, _COMMAND, amf.encode(*values), stream=stream)

    def _message(self, lane: int, kind: int, body: bytes, *, stream: int, at_ms: int = 0) -> None:
        late = at_ms.to_bytes(4, "big") if at_ms >= _LATE else b""
        self._writer.write(b"".join((
            bytes((lane,)),
            min(at_ms, _LATE).to_bytes(3, "big"),
            len(body).to_bytes(3, "big"),
            bytes((kind,)),
            stream.to_bytes(4, "little"),
            late,
            body[: self._size],
        )))  # fmt: skip
        for at in range(self._size, len(body), self._size):
            self._writer.write(bytes((3 << 6 | lane,)) + late + body[at : at + self._size])
