"""Ways in for publishers: one row a protocol. The matrix has a cell for each that carries a codec.

Law: a row says how real publishers reach the POP, and, where tags can be sent one by one, how.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
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


def _each_track(url: str) -> list[str]:
    """A request a track, each as long as the broadcast."""
    colon = url.replace(":", "\\:")
    cmaf = "f=mp4:movflags=cmaf+frag_keyframe+empty_moov:frag_duration=200000:method=PUT"
    slaves = f"[select=v:{cmaf}]{colon}/video.cmfv|[select=a:{cmaf}]{colon}/Streams(audio.cmfa)"
    return ["-flags", "+global_header", "-f", "tee", slaves]


CMAF: Final = replace(HTTP, name="HTTP, CMAF tracks", output=_each_track)
DASH: Final = replace(
    HTTP,
    name="HTTP, DASH segments",
    output=lambda url: [
        *("-f", "dash", "-seg_duration", "1", "-streaming", "1", "-ldash", "1"),
        *("-window_size", "3", "-extra_window_size", "0", "-method", "PUT", f"{url}/live.mpd"),
    ],
)
HLS: Final = replace(
    HTTP,
    name="HTTP, HLS segments",
    output=lambda url: [
        *("-f", "hls", "-hls_time", "1", "-hls_segment_type", "fmp4", "-method", "PUT"),
        *("-var_stream_map", "v:0,agroup:a a:0,agroup:a", "-hls_fmp4_init_filename", "init_%v.mp4"),
        *("-hls_segment_filename", f"{url}/seg_%v_%05d.m4s", f"{url}/%v.m3u8"),
    ],
)
