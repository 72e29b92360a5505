"""Viewers that ask at once for one object and tell exactly what each of them got.

Laws: an answer counts as whole only if its framing ended as it should and every byte is right; what
ended early, and could be told from the framing, is `cut`; what looked whole and was not, or has
other bytes, is `wrong`.
Every wait has a deadline (`hung`). One asyncio loop for all.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import uvloop

LIMIT_S: Final = 15.0
_REQUEST: Final = "GET {path} HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n"


@dataclass
class Outcome:
    """What the viewers got: `whole`, `wrong`, `cut`, `hung`, `refused`, or a status."""

    counts: Counter[str] = field(default_factory=Counter)
    first_byte_s: list[float] = field(default_factory=list)  # loop time, of those with a body
    took_s: float = 0.0  # until the last had its answer

    def count(self, *kinds: str) -> int:
        return sum(self.counts[kind] for kind in kinds)

    def __str__(self) -> str:
        return ", ".join(f"{n} {kind}" for kind, n in sorted(self.counts.items()))


def judge(data: bytes, ended: bool, bodies: Sequence[bytes]) -> str:
    """`data`: everything that came; `ended`: in order, not by reset. Pure."""
    head, mark, body = data.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if not mark or not status:
        return "cut" if data else "refused"
    if status[1] != b"200":
        return status[1].decode()
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        whole, body = unchunked(body)
    else:
        whole = len(body) == int(length[1]) if length else ended
    if not whole:
        return "cut" if any(known.startswith(body) for known in bodies) else "wrong"
    return "whole" if body in bodies else "wrong"


def unchunked(data: bytes) -> tuple[bool, bytes]:
    """(did the last chunk come, the bytes of the chunks that did)."""
    body = b""
    while True:
        line, mark, data = data.partition(b"\r\n")
        if not mark or not re.fullmatch(rb"[0-9A-Fa-f]+", line):
            return False, body
        size = int(line, 16)
        if size == 0:
            return True, body
        if len(data) < size + 2:
            return False, body + data[:size]
        body, data = body + data[:size], data[size + 2 :]


def ask(address: str, port: int, path: str, viewers: int, *bodies: bytes) -> Outcome:
    """All at once; `bodies` are the right ones."""
    return uvloop.run(_crowd(address, port, path, viewers, bodies))


async def _crowd(
    address: str, port: int, path: str, viewers: int, bodies: Sequence[bytes]
) -> Outcome:
    outcome = Outcome()
    loop = asyncio.get_running_loop()
    opened = await asyncio.gather(
        *(asyncio.open_connection(address, port) for _ in range(viewers)), return_exceptions=True
    )
    began = loop.time()

    async def view(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(_REQUEST.format(path=path).encode())
        data, ended = bytearray(), False
        try:
            async with asyncio.timeout(LIMIT_S):
                while piece := await reader.read(65536):
                    data += piece
                    if len(data) > 400 and len(data) - len(piece) <= 400:
                        outcome.first_byte_s.append(loop.time())
                ended = True
        except ConnectionError:
            pass
        except TimeoutError:
            return "hung"
        finally:
            writer.transport.abort()
        return judge(bytes(data), ended, bodies)

    views = [view(*each) for each in opened if not isinstance(each, BaseException)]
    outcome.counts.update(await asyncio.gather(*views))
    outcome.counts["refused"] += viewers - len(views)
    outcome.counts += Counter()
    outcome.took_s = loop.time() - began
    return outcome
