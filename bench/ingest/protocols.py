"""Ways in for publishers: one row a protocol. The matrix has a cell for each that carries a codec.

Law: a row says how real publishers reach the POP, and, where tags can be sent one by one, how.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from edgecache.flv import Tag

from .client import Publisher


class Sender(Protocol):
    """One publisher that sends what it is told."""

    async def send(self, tag: Tag) -> None: ...
    async def close(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Way:
    """door: which of the site's doors; url: where to publish, of that door and a key; output: what
    ffmpeg writes there; sink: what GStreamer does, "" if it cannot; send: connect a Sender to a
    URL, None if tags cannot be sent one by one."""

    name: str
    door: str
    url: Callable[[str, str], str]
    output: Callable[[str], list[str]]
    sink: Callable[[str], str] | None = None
    send: Callable[[str], Awaitable[Sender]] | None = None


RTMP: Final = Way(
    name="RTMP",
    door="rtmp",
    url=lambda door, key: f"rtmp://{door}/live/{key}",
    output=lambda url: ["-f", "flv", "-tcp_nodelay", "1", url],
    sink=lambda url: f"flvmux name=mux streamable=true ! rtmp2sink location={url}",
    send=Publisher.open,
)
SRT: Final = Way(
    name="SRT",
    door="srt",
    url=lambda door, key: f"srt://{door}?streamid={key}&latency=200000",
    output=lambda url: ["-f", "mpegts", url],
    sink=lambda url: f"mpegtsmux name=mux alignment=7 ! srtsink uri={url.split('&')[0]}",
)
HTTP: Final = Way(
    name="HTTP, MPEG-TS",
    door="http",
    url=lambda door, key: f"http://{door}/publish/{key}",
    output=lambda url: [
        *("-f", "mpegts", "-muxdelay", "0", "-method", "PUT", "-send_expect_100", "1"),
        *("-headers", "Content-Type: video/mp2t\r\n", url),
    ],
)
