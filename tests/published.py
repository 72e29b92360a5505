"""What a presentation publishes, held to everything that the contracts say about it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

import m3u8

from origin.model import MPD_TYPE, PartObject, PlaylistVersion, Publication, digest_of
from origin.presentation import IMMUTABLE
from tests import mpd, mpd_schema


class Ledger:
    """Takes publications of a stream of so many tracks in their order, and objects."""

    def __init__(self, tracks: int = 3) -> None:
        self.tracks = tracks
        self.objects: dict[str, bytes] = {}
        self.segments: dict[str, bytes] = {}
        self.complete: set[str] = set()
        self.playlists: dict[str, PlaylistVersion] = {}
        self.parts: list[PartObject] = []
        self._msn: dict[str, tuple[int, int]] = {}
        self._uris: dict[tuple[str, int], str] = {}

    def take(self, publications: Iterable[Publication]) -> None:
        for publication in publications:
            if isinstance(publication, PlaylistVersion):
                self._playlist(publication)
                continue
            assert publication.path not in self.objects, "a name was used twice"
            assert digest_of(publication.body) == publication.digest
            assert publication.cache_control == IMMUTABLE
            self.objects[publication.path] = publication.body
            if isinstance(publication, PartObject):
                self._part(publication)

    def _part(self, part: PartObject) -> None:
        assert part.segment_path not in self.complete
        body = self.segments.get(part.segment_path, b"")
        assert part.offset == len(body)
        self.segments[part.segment_path] = body + part.body
        assert part.final == (part.segment_digest is not None)
        if part.final:
            self.complete.add(part.segment_path)
            assert part.segment_digest == digest_of(body + part.body)
        self.parts.append(part)

    def _playlist(self, version: PlaylistVersion) -> None:
        if "master" in version.path and version.path not in self.playlists:
            # a classic client gives up on a media playlist without a whole segment
            whole = (p for path, p in self.playlists.items() if path.count(".") == 1)
            media = [p.full for p in whole if p.hold_ms]
            assert len(media) == self.tracks
            assert all(b"#EXTINF" in full for full in media)
        before = self.playlists.get(version.path)
        assert before is None or (version.version > before.version and not before.ended)
        assert gzip.decompress(version.full_gzip) == version.full
        assert (version.delta is None) == (version.delta_gzip is None)
        if version.delta is not None and version.delta_gzip is not None:
            assert gzip.decompress(version.delta_gzip) == version.delta
            assert len(version.delta) < len(version.full)
            m3u8.loads(version.delta.decode())
        self.playlists[version.path] = version
        if version.content_type == MPD_TYPE:
            self._mpd(version.full.decode())
            return
        playlist = m3u8.loads(version.full.decode())
        base = version.path.rpartition("/")[0] + "/"
        if playlist.is_variant:
            assert version.hold_ms == 0
            variants = [*playlist.playlists, *playlist.media, *playlist.iframe_playlists]
            listed = [variant.uri for variant in variants]
            assert all(base + uri in self.playlists for uri in listed)
            return
        self._media(version, playlist, base)

    def _mpd(self, text: str) -> None:
        """It is one, and a closed period implies nothing that is not there."""
        assert mpd_schema.problems(text) == []
        assert mpd.inits(text, "/live/s/") <= self.objects.keys()
        assert mpd.segments(text, "/live/s/") <= self.complete

    def _media(self, version: PlaylistVersion, playlist: m3u8.M3U8, base: str) -> None:
        suffix = "vtt" if version.path.startswith("/live/s/text") else "m4s"
        numbers = (playlist.media_sequence, playlist.discontinuity_sequence or 0)
        assert numbers >= self._msn.get(version.path, (0, 0))
        self._msn[version.path] = numbers
        for index, segment in enumerate(playlist.segments):
            if segment.uri is None:
                continue  # the open one
            msn = playlist.media_sequence + index
            assert self._uris.setdefault((version.path, msn), segment.uri) == segment.uri
            assert segment.uri.endswith(f"/{msn}.{suffix}")
            assert round(segment.duration) <= playlist.target_duration
            assert (base + segment.uri in self.complete) != bool(segment.gap_tag)
            if playlist.is_i_frames_only and not segment.gap_tag:
                self._iframe(base + segment.uri, segment.byterange)
            plain = segment.gap_tag or suffix == "vtt"
            assert plain or base + segment.init_section.uri in self.objects
        if playlist.is_i_frames_only:
            assert playlist.is_endlist == version.ended
            return
        listed = [part for segment in playlist.segments for part in segment.parts]
        assert all(base + part.uri in self.objects for part in listed)
        target = playlist.part_inf.part_target
        assert all(part.duration <= target for part in listed)
        assert playlist.is_endlist == version.ended
        if version.ended:
            return
        hints = [line for line in version.full.decode().split("\n") if "PRELOAD-HINT" in line]
        hint = hints[-1].split('"')[1]
        assert base + hint not in self.objects
        assert hint.endswith(f"/{version.msn}.{version.parts}.{suffix}")
        others = [path for path in self._msn if path.count(".") == 1 and path != version.path]
        assert len(playlist.rendition_reports) == len(others)

    def _iframe(self, path: str, byterange: str) -> None:
        """The range is a whole fragment of one sample, which is a key frame."""
        size, _, offset = byterange.partition("@")
        body = self.segments[path][int(offset) : int(offset) + int(size)]
        at = body.index(b"mdat") - 4
        assert int.from_bytes(body[at : at + 4], "big") == len(body) - at
        run = body.index(b"trun")
        assert int.from_bytes(body[run + 8 : run + 12], "big") == 1
        flags = body.index(b"tfhd") + 16
        assert body[flags : flags + 4] == b"\x02\0\0\0"
