"""What the viewers will load: one look at the URL, before the swarm begins.

Contract: look() fetches the playlist once; a multivariant playlist becomes tracks and the choices
that viewers take, a media playlist is the only track. Plain HTTP over IPv4 only, and everything on
the host of the URL: BenchError names what is not.
"""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import m3u8

from ..errors import BenchError

Rendition = Literal["first", "lowest", "highest", "spread"]
TIMEOUT_S: Final = 10.0
_PLAYLIST_BYTES: Final = 1 << 20
AGENT: Final = "edgecache-swarm/1"


@dataclass(frozen=True)
class Plan:
    """Paths as they stand in requests. `choices`: indices into `tracks` that viewer i plays, video
    first, for i modulo their number. `multivariant` is None when the URL is a media playlist."""

    ip: str
    port: int
    authority: str
    multivariant: str | None
    tracks: tuple[str, ...]
    choices: tuple[tuple[int, ...], ...]

    def fields(self) -> bytes:
        """What follows the target in every request."""
        lines = ("", f"Host: {self.authority}", f"User-Agent: {AGENT}", "Accept: */*", "", "")
        return (" HTTP/1.1" + "\r\n".join(lines)).encode()


def look(url: str, *, rendition: Rendition = "first") -> Plan:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise BenchError(f"URL: found {url!r}, allowed: http://host[:port]/path")
    try:
        ip = socket.getaddrinfo(parts.hostname, None, socket.AF_INET)[0][4][0]
        request = urllib.request.Request(url, headers={"User-Agent": AGENT})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            text = answer.read(_PLAYLIST_BYTES).decode("utf-8", "replace")
    except (OSError, urllib.error.URLError) as error:
        raise BenchError(f"{url}: {error}") from None
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    multivariant, tracks, choices = _read(url, path, text, rendition)
    return Plan(str(ip), parts.port or 80, parts.netloc, multivariant, tracks, choices)


def _read(
    url: str, path: str, text: str, rendition: Rendition
) -> tuple[str | None, tuple[str, ...], tuple[tuple[int, ...], ...]]:
    if not text.startswith("#EXTM3U"):
        raise BenchError(f"{url}: not a playlist, it begins with {text[:40]!r}")
    playlist = m3u8.loads(text, uri=url)
    if not playlist.is_variant:
        return None, (path,), ((0,),)
    variants = list(playlist.playlists)
    if not variants:
        raise BenchError(f"{url}: lists no variant")
    tracks: dict[str, int] = {}
    choices = []
    for variant in _chosen(variants, rendition):
        audio = _audio(playlist.media, variant.stream_info.audio)
        uris = [variant.absolute_uri, *([audio] if audio else [])]
        choices.append(tuple(tracks.setdefault(_path(url, u), len(tracks)) for u in uris))
    return path, tuple(tracks), tuple(choices)


def _chosen(variants: list[m3u8.Playlist], rendition: Rendition) -> list[m3u8.Playlist]:
    by_rate = sorted(variants, key=lambda v: int(v.stream_info.bandwidth))
    if rendition == "spread":
        return variants
    return [{"first": variants[0], "lowest": by_rate[0], "highest": by_rate[-1]}[rendition]]


def _audio(media: list[m3u8.Media], group: str | None) -> str | None:
    """URI of the group's rendition that plays unless the user says otherwise; None: muxed."""
    members = [m for m in media if m.type == "AUDIO" and m.group_id == group and m.uri]
    members.sort(key=lambda m: m.default != "YES")
    return str(members[0].absolute_uri) if members else None


def _path(base: str, uri: str) -> str:
    there = urlsplit(uri)
    if (there.scheme, there.netloc) != ("http", urlsplit(base).netloc):
        raise BenchError(f"{uri}: on another host than {base}")
    return there.path + (f"?{there.query}" if there.query else "")
