"""Head rendering: once an object, or once a variant of a playlist version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.micro._loops import loop_head


def test_head(per_op: Callable[..., Any]) -> None:
    fields = b"Content-Type: video/mp4\r\nCache-Control: public, max-age=31536000, immutable\r\n"
    head = per_op(loop_head, fields, b"0123456789abcdef0123456789abcdef")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n" + fields)
    assert head.endswith(b'ETag: "0123456789abcdef0123456789abcdef"\r\n')
