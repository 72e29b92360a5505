"""AMF0 values, as far as RTMP commands and FLV metadata use them.

Laws: sans-IO; nesting is at most `MAX_DEPTH` and one decoding yields at most `MAX_VALUES` values,
so hostile input costs no more than its own length; anything else raises `AmfError`. Source: Adobe
"AMF0 file format specification". Python face: float, bool, str, None, dict (object and ECMA array),
list (strict array). `undefined` and dates decode to None and float.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from .errors import EdgeError, Source

MAX_DEPTH: Final = 8
MAX_VALUES: Final = 1000

Value = float | int | bool | str | None | dict[str, "Value"] | list["Value"]

_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL, _UNDEFINED = 0, 1, 2, 3, 5, 6
_ECMA_ARRAY, _OBJECT_END, _STRICT_ARRAY, _DATE, _LONG_STRING = 8, 9, 10, 11, 12
_END: Final = b"\0\0\x09"
_DOUBLE: Final = struct.Struct(">d")


class AmfError(EdgeError):
    """Bytes that are not AMF0, or are nested deeper or hold more values than allowed."""

    source: Source = "downstream"


def encode(*values: Value) -> bytes:
    """The values one after the other, as in a command's body."""
    out = bytearray()
    for value in values:
        _encode(value, out)
    return bytes(out)


def _encode(value: Value, out: bytearray) -> None:
    if value is None:
        out.append(_NULL)
    elif isinstance(value, bool):
        out += bytes((_BOOLEAN, value))
    elif isinstance(value, (int, float)):
        out.append(_NUMBER)
        out += _DOUBLE.pack(value)
    elif isinstance(value, str):
        _encode_string(value, out)
    elif isinstance(value, dict):
        out.append(_OBJECT)
        for name, item in value.items():
            _encode_name(name, out)
            _encode(item, out)
        out += _END
    else:
        out.append(_STRICT_ARRAY)
        out += len(value).to_bytes(4, "big")
        for item in value:
            _encode(item, out)


def _encode_name(name: str, out: bytearray) -> None:
    data = name.encode()
    out += len(data).to_bytes(2, "big") + data


def _encode_string(value: str, out: bytearray) -> None:
    data = value.encode()
    if len(data) > 0xFFFF:
        out.append(_LONG_STRING)
        out += len(data).to_bytes(4, "big") + data
    else:
        out.append(_STRING)
        out += len(data).to_bytes(2, "big") + data


def decode(data: bytes | bytearray | memoryview) -> list[Value]:
    """All values in `data`. Raises AmfError."""
    reader = _Reader(bytes(data))
    values: list[Value] = []
    while reader.left:
        values.append(reader.value(0))
    return values


class _Reader:
    """A cursor over one message; every read is checked against its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._values = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise AmfError(f"AMF0 value is cut: {count} bytes announced, {self.left} there")
        begin = self._position
        self._position += count
        return self._data[begin : self._position]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def text(self, length_bytes: int) -> str:
        return self.take(self.number(length_bytes)).decode("utf-8", "replace")

    def value(self, depth: int) -> Value:
        self._values += 1
        if depth > MAX_DEPTH:
            raise AmfError(f"AMF0 is nested deeper than {MAX_DEPTH}")
        if self._values > MAX_VALUES:
            raise AmfError(f"AMF0 message holds more than {MAX_VALUES} values")
        marker = self.number(1)
        if marker == _NUMBER:
            number: float = _DOUBLE.unpack(self.take(8))[0]
            return number
        if marker == _BOOLEAN:
            return self.take(1) != b"\0"
        if marker == _STRING:
            return self.text(2)
        if marker in (_NULL, _UNDEFINED):
            return None
        return self._rare(marker, depth)

    def _rare(self, marker: int, depth: int) -> Value:
        if marker == _OBJECT:
            return dict(self._members(depth))
        if marker == _ECMA_ARRAY:
            self.take(4)  # the count is a hint only; the end marker rules (spec 2.10)
            return dict(self._members(depth))
        if marker == _STRICT_ARRAY:
            return [self.value(depth + 1) for _ in range(self._count())]
        if marker == _DATE:
            moment: float = _DOUBLE.unpack(self.take(8))[0]
            self.take(2)
            return moment
        if marker == _LONG_STRING:
            return self.text(4)
        raise AmfError(f"AMF0 marker {marker} is not known")

    def _count(self) -> int:
        count = self.number(4)
        if count > MAX_VALUES:
            raise AmfError(f"AMF0 array of {count} values, allowed are {MAX_VALUES}")
        return count

    def _members(self, depth: int) -> Iterable[tuple[str, Value]]:
        while self.left:
            name = self.text(2)
            if not name and self._data[self._position : self._position + 1] == b"\x09":
                self._position += 1
                return
            yield name, self.value(depth + 1)
        # ffmpeg's and OBS's metadata is sometimes sent without the end marker: the message's end
        # ends it.
