"""The server side of RTMP for one publisher: bytes in, events and answer bytes out.

Laws: sans-IO and clock-free (deadlines belong to the caller). Memory is bounded: one message is at
most `message_bytes` (`command_bytes` until the publisher is accepted, and always for what is not
media), all unfinished messages together `partial_bytes`, chunk streams `chunk_streams`. Whatever
the peer sends, nothing but RtmpError leaves `feed`; the session is dead after it. Media stays
opaque: a message's body becomes an FLV tag's body, which is how Enhanced RTMP's codecs pass. Does
not know who may publish: it asks (PublishRequested) and is told. Source: Adobe "RTMP specification
1.0"; Enhanced RTMP v2 for what `connect` is answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from . import amf
from .enhanced import AUDIO_CODECS, VIDEO_CODECS
from .flv import AUDIO, SCRIPT, VIDEO, Tag
from .rtmp_chunks import ChunkReader, Limits, Message, RtmpError

__all__ = ["Ended", "Event", "Limits", "PublishRequested", "RtmpError", "Session"]

_FORWARDS: Final = 4  # FourCcInfoMask: we decode nothing here
_CAPABILITIES: Final = 2 | 4  # capsEx: multitrack, ModEx

_SET_CHUNK_SIZE, _ABORT, _ACK, _USER_CONTROL, _WINDOW_SIZE, _PEER_BANDWIDTH = 1, 2, 3, 4, 5, 6
_COMMAND, _COMMAND_AMF3 = 20, 17
_STREAM_BEGIN, _PING_REQUEST, _PING_RESPONSE = 0, 6, 7

_HANDSHAKE_BYTES: Final = 1536
_WINDOW_BYTES: Final = 2_500_000
_OUT_CHUNK_BYTES: Final = 4096
_CONTROL_CHUNK_STREAM, _COMMAND_CHUNK_STREAM = 2, 3
_SET_DATA_FRAME: Final = amf.encode("@setDataFrame")
_MAX_NAME: Final = 512


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """The peer wants to publish; answer with Session.accept() or Session.reject(). `key` is a
    secret."""

    app: str
    key: str

    def __repr__(self) -> str:
        return f"PublishRequested(app={self.app!r}, key=[redacted])"


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer said that it stops publishing."""


Event = PublishRequested | Tag | Ended


class Session:
    """One publisher's connection. `feed` what was read, then write `take_output`; close on
    RtmpError."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._chunks = ChunkReader(self._limits)
        self._handshake: bytearray | None = bytearray()
        self._greeted = False
        self._out = bytearray()
        self._app: str | None = None
        self._requested = False
        self._received = 0
        self._acknowledged = 0
        self._peer_window = _WINDOW_BYTES
        self.publishing = False
        self.ignored = (
            0  # messages of no interest: other types, unknown commands, media before accept()
        )

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Events in order. Raises RtmpError; what was parsed before it is lost with the
        connection."""
        events: list[Event] = []
        rest = data if self._handshake is None else self._shake(data)
        self._received += len(data)
        try:
            for message in self._chunks.feed(rest):
                self._message(message, events)
        except amf.AmfError as error:
            raise RtmpError(str(error)) from error
        if self._received - self._acknowledged >= self._peer_window:
            self._acknowledged = self._received
            self._send_control(_ACK, (self._received & 0xFFFFFFFF).to_bytes(4, "big"))
        return events

    def take_output(self) -> bytes:
        """What is to be written to the peer now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def accept(self) -> None:
        """Answer to PublishRequested: media may come."""
        self.publishing = True
        self._chunks.trusted = True
        self._send_control(_USER_CONTROL, _STREAM_BEGIN.to_bytes(2, "big") + (1).to_bytes(4, "big"))
        self._status("status", "NetStream.Publish.Start", "publishing")

    def reject(self, description: str) -> None:
        """Answer to PublishRequested: no; `description` is shown to the publisher. Close after
        writing."""
        self._status("error", "NetStream.Publish.BadName", description)

    def fail(self, description: str) -> None:
        """Publishing ends from our side. Close after writing."""
        self.publishing = False
        self._status("error", "NetStream.Publish.Failed", description)

    def _shake(self, data: bytes | bytearray | memoryview) -> bytes:
        """Simple handshake (5.2): C0+C1 -> S0+S1+S2, then C2 is read and not looked at. Returns
        what follows it."""
        held = self._handshake
        assert held is not None
        held += data
        if held and held[0] != 3:
            raise RtmpError(f"RTMP version is {held[0]}, allowed is 3")
        if not self._greeted and len(held) > _HANDSHAKE_BYTES:
            self._out += b"\x03" + bytes(_HANDSHAKE_BYTES) + held[1 : 1 + _HANDSHAKE_BYTES]
            self._greeted = True
        if len(held) < 1 + 2 * _HANDSHAKE_BYTES:
            return b""
        self._handshake = None
        return bytes(held[1 + 2 * _HANDSHAKE_BYTES :])

    def _message(self, message: Message, events: list[Event]) -> None:
        kind, body = message.kind, message.body
        if kind in (AUDIO, VIDEO, SCRIPT):
            if not self.publishing or not body:
                self.ignored += 1
                return
            if kind == SCRIPT:
                body = body.removeprefix(_SET_DATA_FRAME)
            events.append(Tag(kind, message.timestamp, body))
        elif kind == _COMMAND:
            self._command(body, events)
        elif kind == _COMMAND_AMF3:
            self._command(body[1:], events)  # a format byte, then AMF0 as before
        else:
            self._control(kind, body)

    def _control(self, kind: int, body: bytes) -> None:
        value = int.from_bytes(body[:4], "big")
        if kind == _SET_CHUNK_SIZE:
            if not 1 <= value <= self._limits.message_bytes:
                raise RtmpError(
                    f"chunk size is {value}, allowed is 1 to {self._limits.message_bytes}"
                )
            self._chunks.chunk_bytes = value
        elif kind == _ABORT:
            self._chunks.abort(value)
        elif kind == _WINDOW_SIZE:
            self._peer_window = max(1, value)
        elif (
            kind == _USER_CONTROL
            and len(body) >= 6
            and int.from_bytes(body[:2], "big") == _PING_REQUEST
        ):
            self._send_control(_USER_CONTROL, _PING_RESPONSE.to_bytes(2, "big") + body[2:6])
        elif kind not in (_ACK, _PEER_BANDWIDTH, _USER_CONTROL):
            self.ignored += 1

    def _command(self, body: bytes, events: list[Event]) -> None:
        values = amf.decode(body)
        name = values[0] if values else None
        number = values[1] if len(values) > 1 and isinstance(values[1], float) else 0.0
        if name == "connect":
            self._connect(number, values[2] if len(values) > 2 else None)
        elif name in ("releaseStream", "FCPublish"):
            self._reply("_result", number, None, None)
        elif name == "createStream":
            self._reply("_result", number, None, 1)
        elif name == "publish":
            events.append(self._publish(values[3] if len(values) > 3 else None))
        elif name in ("deleteStream", "FCUnpublish", "closeStream"):
            if self.publishing:
                self.publishing = False
                events.append(Ended())
        elif name == "play":
            raise RtmpError("this port is for publishing; play is not served")
        else:
            self.ignored += 1

    def _connect(self, number: float, properties: amf.Value) -> None:
        app = properties.get("app") if isinstance(properties, dict) else None
        if not isinstance(app, str) or len(app) > _MAX_NAME:
            raise RtmpError(f"connect without an app of at most {_MAX_NAME} characters")
        self._app = app
        window = _WINDOW_BYTES.to_bytes(4, "big")
        self._send_control(_WINDOW_SIZE, window)
        self._send_control(_PEER_BANDWIDTH, window + b"\x02")
        self._send_control(_SET_CHUNK_SIZE, _OUT_CHUNK_BYTES.to_bytes(4, "big"))
        self._reply(
            "_result",
            number,
            {
                "fmsVer": "FMS/3,5,7,7009",
                "capabilities": 31,
                "fourCcList": [*VIDEO_CODECS, *AUDIO_CODECS],
                "videoFourCcInfoMap": dict.fromkeys(VIDEO_CODECS, _FORWARDS),
                "audioFourCcInfoMap": dict.fromkeys(AUDIO_CODECS, _FORWARDS),
                "capsEx": _CAPABILITIES,
            },
            {
                "level": "status",
                "code": "NetConnection.Connect.Success",
                "description": "connected",
                "objectEncoding": 0,
            },
        )

    def _publish(self, key: amf.Value) -> PublishRequested:
        if self._app is None:
            raise RtmpError("publish before connect")
        if self._requested:
            raise RtmpError("publish a second time on one connection")
        if not isinstance(key, str) or not 1 <= len(key) <= _MAX_NAME:
            raise RtmpError(f"publish without a stream key of 1 to {_MAX_NAME} characters")
        self._requested = True
        return PublishRequested(self._app, key)

    def _status(self, level: str, code: str, description: str) -> None:
        information: dict[str, amf.Value] = {
            "level": level,
            "code": code,
            "description": description[:_MAX_NAME],
        }
        self._send(
            _COMMAND_CHUNK_STREAM,
            _COMMAND,
            amf.encode("onStatus", 0, None, information),
            message_stream=1,
        )

    def _reply(self, name: str, number: float, *values: amf.Value) -> None:
        self._send(_COMMAND_CHUNK_STREAM, _COMMAND, amf.encode(name, number, *values))

    def _send_control(self, kind: int, body: bytes) -> None:
        self._send(_CONTROL_CHUNK_STREAM, kind, body)

    def _send(self, chunk_stream: int, kind: int, body: bytes, *, message_stream: int = 0) -> None:
        """One format 0 chunk: our answers are smaller than 128 bytes or come after our own Set
        Chunk Size."""
        self._out += bytes((chunk_stream, 0, 0, 0)) + len(body).to_bytes(3, "big") + bytes((kind,))
        self._out += message_stream.to_bytes(4, "little") + body[:_OUT_CHUNK_BYTES]
