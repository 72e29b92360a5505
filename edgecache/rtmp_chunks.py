"""RTMP's chunk layer, receiving side: chunks in any cut -> whole messages.

Laws: sans-IO. Memory is bounded by `Limits`: one message, all unfinished messages together, the
number of chunk streams; a bound that is passed raises RtmpError before the bytes are kept. Does not
know what messages mean, except that media may be larger than the rest.
Source: Adobe "RTMP specification 1.0", section 5.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .errors import EdgeError, Source
from .flv import AUDIO, MAX_BODY_BYTES, VIDEO

_EXTENDED: Final = 0xFFFFFF
_MESSAGE_HEADER_BYTES: Final = (11, 7, 3, 0)  # by chunk format (5.3.1.2)


class RtmpError(EdgeError):
    """The peer broke the protocol or one of our bounds; the connection is to be closed."""

    source: Source = "downstream"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one session, in bytes and counts."""

    message_bytes: int = MAX_BODY_BYTES
    command_bytes: int = 64 << 10
    partial_bytes: int = 16 << 20
    chunk_streams: int = 64


@dataclass(slots=True)
class Message:
    """One whole message; `timestamp` in ms, modulo 2^32."""

    kind: int
    timestamp: int
    body: bytes


@dataclass(slots=True)
class _ChunkStream:
    """What later chunks of the same id inherit."""

    timestamp: int = 0  # ms, modulo 2^32
    delta: int = 0  # ms; what a format 3 chunk adds when it begins a message
    length: int = 0  # bytes of the whole message
    kind: int = 0
    extended: bool = False  # format 3 chunks repeat the extended timestamp (5.3.1.3)
    body: bytearray | None = None  # None between messages


class ChunkReader:
    """Chunks in any cut -> messages. A generator, because Set Chunk Size holds from the very next
    chunk."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._position = 0
        self._streams: dict[int, _ChunkStream] = {}
        self._partial_bytes = 0
        self.chunk_bytes = 128
        self.trusted = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Message]:
        self._buffer += data
        while True:
            before = self._position
            message = self._chunk()
            if message is not None:
                yield message
            elif self._position == before:
                break
        del self._buffer[: self._position]
        self._position = 0

    def abort(self, chunk_stream: int) -> None:
        """Forget the unfinished message of that chunk stream (5.4.2)."""
        stream = self._streams.get(chunk_stream)
        if stream is not None and stream.body is not None:
            self._partial_bytes -= len(stream.body)
            stream.body = None

    def _chunk(self) -> Message | None:
        """Take one chunk if all of it is there. A message when the chunk ends one."""
        buffer, position = self._buffer, self._position
        if position >= len(buffer):
            return None
        chunk_format, number = buffer[position] >> 6, buffer[position] & 63
        position += 1
        if number < 2:  # one or two more bytes of id (5.3.1.1)
            more = number + 1
            if len(buffer) < position + more:
                return None
            number = 64 + int.from_bytes(buffer[position : position + more], "little")
            position += more
        stream = self._stream(number, chunk_format)
        size = _MESSAGE_HEADER_BYTES[chunk_format]
        if len(buffer) < position + size:
            return None
        stamp = int.from_bytes(buffer[position : position + 3], "big") if size else 0
        extended = stamp == _EXTENDED if size else stream.extended
        length = (
            int.from_bytes(buffer[position + 3 : position + 6], "big")
            if size >= 7
            else stream.length
        )
        kind = buffer[position + 6] if size >= 7 else stream.kind
        position += size
        if extended:
            if len(buffer) < position + 4:
                return None
            stamp = int.from_bytes(buffer[position : position + 4], "big")
            position += 4
        self._check(stream, chunk_format, length, kind)
        done = 0 if stream.body is None else len(stream.body)
        take = min(self.chunk_bytes, length - done)
        if len(buffer) < position + take:
            return None
        if stream.body is None:
            self._begin(stream, chunk_format, stamp)
            stream.length, stream.kind, stream.extended = length, kind, extended
        self._position = position + take
        return self._payload(stream, position, take)

    def _stream(self, number: int, chunk_format: int) -> _ChunkStream:
        stream = self._streams.get(number)
        if stream is None:
            # librtmp opens chunk stream 2 with format 1: read as if the time before were 0.
            if chunk_format > 1:
                raise RtmpError(
                    f"chunk stream {number} begins with format {chunk_format}, allowed are 0 and 1"
                )
            if len(self._streams) >= self._limits.chunk_streams:
                raise RtmpError(f"more than {self._limits.chunk_streams} chunk streams")
            stream = self._streams[number] = _ChunkStream()
        return stream

    def _check(self, stream: _ChunkStream, chunk_format: int, length: int, kind: int) -> None:
        if stream.body is not None and chunk_format != 3:
            raise RtmpError(f"format {chunk_format} chunk inside a message, allowed is 3")
        media = kind in (AUDIO, VIDEO) and self.trusted
        allowed = self._limits.message_bytes if media else self._limits.command_bytes
        if length > allowed:
            raise RtmpError(f"message of type {kind} has {length} bytes, allowed are {allowed}")

    @staticmethod
    def _begin(stream: _ChunkStream, chunk_format: int, stamp: int) -> None:
        if chunk_format == 0:
            stream.timestamp = stream.delta = stamp
            return
        if chunk_format != 3:
            stream.delta = stamp
        stream.timestamp = (stream.timestamp + stream.delta) & 0xFFFFFFFF

    def _payload(self, stream: _ChunkStream, position: int, take: int) -> Message | None:
        piece = self._buffer[position : position + take]
        if stream.body is None and take == stream.length:
            return Message(stream.kind, stream.timestamp, bytes(piece))
        self._partial_bytes += take
        if self._partial_bytes > self._limits.partial_bytes:
            raise RtmpError(
                f"unfinished messages hold more than {self._limits.partial_bytes} bytes"
            )
        if stream.body is None:
            stream.body = piece
        else:
            stream.body += piece
        if len(stream.body) < stream.length:
            return None
        body = bytes(stream.body)
        self._partial_bytes -= len(body)
        stream.body = None
        return Message(stream.kind, stream.timestamp, body)
