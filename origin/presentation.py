"""One stream from encoder bytes to publications: demuxers, packagers, timeline and playlists
composed. Sans-IO; called by one owner, in the order things happen.

Laws: publications come in truth order (init, part, then the playlist version that names it), and
versions of a path grow strictly. An encoder run is a *generation*: all tracks begin it at the same
segment, after a discontinuity. Bad input costs frames, never an exception: `faults` says when an
encoder must be replaced. Bounds: one part of frames, one box of bytes and one segment of parts that
wait for another track (beyond it they no longer wait), a track; and the window.
Knows nothing of processes, files or who is watching.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from origin import dash, manifest, names
from origin.archive.recording import kept_of
from origin.cmaf import CmafError, Frame, Init
from origin.line import Body, Line
from origin.markers import Marker
from origin.model import (
    MPD_TYPE,
    PLAYLIST_TYPE,
    MediaObject,
    PartObject,
    PlaylistVersion,
    Publication,
    Rendition,
    digest_of,
)
from origin.packager import CLOSING, Cut, Packager
from origin.subtitles import Subtitles, Told
from origin.timeline import Part, Timeline, Track
from origin.timing import NS, Timing
from origin.versions import INIT_TTL_MS, Versioned

IMMUTABLE: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a generation starts: the encoder's timestamps must begin at `offset_s` seconds."""

    generation: int
    msn: int
    offset_s: float


class Presentation:
    """`renditions`: the plan, pictures first; all share the sound. `epoch`: see names.epoch_of; the
    timeline starts at its segment on the wall clock unless `first_msn` says otherwise, so that
    versions of a stream's playlists grow across epochs too. Raises ValueError on names or a grid
    that cannot be.
    """

    def __init__(
        self,
        stream: str,
        *,
        epoch: str,
        renditions: Sequence[Rendition],
        segment_s: float = 2.0,
        part_s: float = 1 / 3,
        window_s: float = 60.0,
        dvr_s: float = 0.0,
        first_msn: int | None = None,
    ) -> None:
        names.check_name("stream", stream)
        for rendition in renditions:
            names.check_name("track", rendition.track)
        if len({rendition.track for rendition in renditions}) != len(renditions) or not renditions:
            raise ValueError(
                f"{stream}: {len(renditions)} renditions, want 1 or more, no name twice"
            )
        timing = Timing.plan(
            renditions, segment_s=segment_s, part_s=part_s, window_s=window_s, dvr_s=dvr_s
        )
        start = names.epoch_seconds(epoch) * 1000 // timing.segment_ms
        self.timing = timing
        self.planned = tuple(renditions)
        self.timeline = Timeline(
            stream=stream,
            epoch=epoch,
            timing=timing,
            renditions=renditions,
            first_msn=start if first_msn is None else first_msn,
        )
        # what has left the live window is the disk's, and a cache that wants it pulls it again
        self.media_ttl_ms = (timing.live_ns + timing.linger_ns) // 1_000_000
        # values that never block count from the epoch, so that they grow across epochs, too
        self._versioned = Versioned(
            timing, media_ttl_ms=self.media_ttl_ms, revision=names.epoch_seconds(epoch)
        )
        self.dropped: Counter[str] = Counter()  # of ended generations; see `drops`
        self._became: Counter[str] = Counter()  # frames, parts, segments, inits; see `counts`
        self.out_of_step = 0  # parts that left further ahead of another track than they should
        self.lag_ns = 0  # wall clock of the newest part less the date of its last sample
        self._stream = stream
        self._lines: dict[str, Line] = {}
        self._bodies: dict[str, Body] = {}
        self._subtitles = Subtitles(renditions, timing)
        # whose parts the texts follow, while a generation runs
        self._leader = next(r.track for r in renditions if r.kind != "text")
        self._followers: tuple[str, ...] = ()
        self._announced: list[Rendition] = []
        self._periods: tuple[dash.Period, ...] = ()  # as in the newest MPD
        self._wall_ns = 0  # when the newest bytes came; what an MPD says of itself never goes back

    def begin_generation(self, *, wall_ns: int, late: Collection[str] = ()) -> Start:
        """A new encoder starts. wall_ns: when the media it is fed first arrived (unix ns), which
        dates count from. late: tracks that nobody waits for. Raises ValueError while one runs."""
        if self._lines:
            raise ValueError(f"{self._stream}: the running generation has not ended")
        if self.timeline.ended:
            raise ValueError(f"{self._stream}: the stream has ended, start another epoch")
        generation = self.timeline.begin_generation(wall_ns=wall_ns)
        self._subtitles.begin(generation.first_msn)
        self._followers = self._subtitles.tracks
        encoded = (name for name in self.timeline.tracks if name not in self._followers)
        self._lines = {name: Line(awaited=name not in late) for name in encoded}
        self._bodies = {name: Body() for name in self.timeline.tracks}
        offset_s = generation.first_msn * self.timing.segment_ms / 1000
        return Start(generation.number, generation.first_msn, offset_s)

    def feed(self, track: str, data: bytes, wall_ns: int) -> list[Publication]:
        """What `data`, read from the encoder's pipe of `track` at `wall_ns`, made complete."""
        self._wall_ns = max(self._wall_ns, wall_ns)
        line = self._lines[track]
        out: list[Publication] = []
        for item in line.demuxer.feed(data):
            if isinstance(item, Init):
                out += self._begin_track(track, line, item)
            elif isinstance(item, Frame) and line.packager is not None:
                line.encoded += 1
                line.held += line.packager.push(item)
        return out + self._release(wall_ns)

    def end_generation(self) -> list[Publication]:
        """The encoder is gone: open parts and segments close short, tracks that lack a segment get
        a gap, so that all end alike. The next generation is behind a discontinuity."""
        out: list[Publication] = []
        changed: list[str] = []
        for name, line in self._lines.items():
            for cut in line.rest(self.timeline.picture_msn):
                for track, part in self._parts(name, cut):
                    out.append(part)
                    changed.append(track)
            self.dropped += line.drops()
            self._became += line.counts()
        self._lines, self._followers = {}, ()
        if self.timeline.generations:
            changed += self.timeline.level()
        for name in dict.fromkeys(changed):
            out += self._versions(self.timeline.tracks[name])
        return out + self._multivariant() + self._mpd()

    def end(self) -> list[Publication]:
        """The stream is over: last versions, with ENDLIST. Nothing may be fed after."""
        out = self.end_generation()
        self.timeline.end()
        out += self._mpd()  # what is kept of the stream is fixed when its last playlist has ended
        for track in self.timeline.tracks.values():
            if track.segments:
                out += self._versions(track)
        return out

    def take_up(self, begun: Mapping[str, bytes]) -> list[Publication]:
        """Go on where an earlier process was ended: its timeline is in place, and `begun` has the
        bytes of every track's open segment. Those are closed as at the end of a generation, and all
        playlists are published."""
        for name, data in begun.items():
            line, segment = Line(), self.timeline.tracks[name].open
            assert segment is not None, f"{name}: bytes of a segment that is not open"
            self._bodies[name] = Body(data)
            line.held.append(
                Cut(
                    msn=segment.msn,
                    index=len(segment.parts),
                    body=b"\n" if name in self._subtitles.tracks else CLOSING,
                    start_ns=segment.end_ns,
                    end_ns=segment.end_ns,
                    independent=False,
                    final=True,
                )
            )
            self._lines[name] = line
        out = self.end_generation()
        told = {item.path for item in out}
        for name, track in self.timeline.tracks.items():
            if track.segments and names.media_path(self._stream, name) not in told:
                out += self._versions(track)
        return out

    def say(self, told: Told, at_ms: int) -> None:
        """Words, at `at_ms` of the running generation's media."""
        self._subtitles.say(told, at_ms)

    def mark(self, marker: Marker) -> None:
        """A timed event, in the playlists from their next versions on. Raises MarkerError."""
        self.timeline.mark(marker)

    def forget(self) -> list[str]:
        """Paths that nobody may ask for any more, since the last call."""
        return self.timeline.forget()

    @property
    def faults(self) -> dict[str, CmafError]:
        """Tracks whose bytes can no longer be read, and why: the encoder must be replaced."""
        lines = self._lines.items()
        return {name: line.demuxer.broken for name, line in lines if line.demuxer.broken}

    @property
    def drops(self) -> Counter[str]:
        """Frames, fragments, bytes and texts dropped, by reason, over all generations."""
        dropped = self.dropped + self._subtitles.dropped
        return sum((line.drops() for line in self._lines.values()), dropped)

    def counts(self) -> Counter[str]:
        """What became of frames: encoded = packaged + dropped + waiting, over all tracks; and how
        many objects were made of them."""
        told = Counter(self._became)
        for line in self._lines.values():
            told.update(line.counts())
        return told

    # --- what is published

    def _begin_track(self, name: str, line: Line, init: Init) -> list[Publication]:
        """The init section of a track; a second one in a generation is a fault of the encoder."""
        if line.packager is not None:
            self.dropped["init"] += 1
            return []
        generation = self.timeline.generations[-1]
        planned = self.timeline.tracks[name].rendition
        path = names.init_path(self._stream, generation.epoch, name, generation.number)
        known = replace(
            planned,
            codecs=init.codec,
            width=init.width,
            height=init.height,
            channels=init.channels,
            sample_rate=init.sample_rate,
        )
        self.timeline.set_init(name, path, known)
        self._became["made.inits"] += 1
        line.packager = Packager(init=init, timing=self.timing, first_msn=generation.first_msn)
        return [
            MediaObject(
                path=path,
                body=init.body,
                digest=digest_of(init.body),
                content_type=known.content_type,
                cache_control=IMMUTABLE,
                ttl_ms=INIT_TTL_MS,
                rendition=known,
            )
        ]

    def _release(self, wall_ns: int) -> list[Publication]:
        """What may leave now. No track gets more than a part ahead of another (RFC 8216bis B.1): a
        part waits until all awaited have come to its start, give or take half a part, which is more
        than their grids differ by. The track that is behind never waits. One that lacks a whole
        segment of parts is not waited for: `out_of_step` counts what left without it."""
        out: list[Publication] = []
        going = True
        while going:
            going = False
            behind_ns = min(self._reached_ns(n) for n, line in self._lines.items() if line.awaited)
            for name, line in self._lines.items():
                if not line.held:
                    continue
                near = line.held[0].start_ns - behind_ns <= self.timing.part_target_ns // 2
                if near or len(line.held) > self.timing.parts:
                    self.out_of_step += not near
                    out += self._publish(name, line.held.popleft(), wall_ns)
                    going = True
        return out

    def _reached_ns(self, name: str) -> int:
        """End of what the track has published, of this generation."""
        begun_ns = self.timeline.generations[-1].first_msn * self.timing.segment_ns
        return max(begun_ns, self.timeline.tracks[name].end_ns)

    def _publish(self, name: str, cut: Cut, wall_ns: int) -> list[Publication]:
        self.lag_ns = wall_ns - self.timeline.generations[-1].anchor_wall_ns - cut.end_ns
        out: list[Publication] = []
        for each, part in self._parts(name, cut):
            track = self.timeline.tracks[each]
            out += [part, *(self._versions(track) if cut.final else [self._version(track)])]
        return [*out, *self._multivariant(), *self._mpd()]

    def _parts(self, name: str, cut: Cut) -> Iterator[tuple[str, PartObject]]:
        """The part, and those of texts that follow it, each taken into the timeline when its turn
        comes: a playlist reports of others what can be had already."""
        yield name, self._object(name, cut)
        for text in self._followers if name == self._leader else ():
            body = self._subtitles.part(text, cut.msn, cut.start_ns, cut.end_ns)
            followed = replace(cut, body=body, independent=True, key_bytes=0)
            yield text, self._object(text, followed)

    def _object(self, name: str, cut: Cut) -> PartObject:
        """The part, listed."""
        segment = self._bodies[name]
        segment.hash.update(cut.body)
        self._became["made.parts"] += 1
        self._became["made.segments"] += cut.final
        track = self.timeline.tracks[name]
        epoch = self.timeline.generations[-1].epoch
        path = names.part_path(self._stream, epoch, name, cut.msn, cut.index)
        self._list(name, path, cut)
        kept = None
        if cut.final:
            size = segment.size + len(cut.body)
            kept = kept_of(track.segments[-1], size, segment.hash.hexdigest())
        part = PartObject(
            path=path,
            body=cut.body,
            digest=digest_of(cut.body),
            content_type=track.rendition.content_type,
            cache_control=IMMUTABLE,
            ttl_ms=self.media_ttl_ms,
            segment_path=names.segment_path(self._stream, epoch, name, cut.msn),
            offset=segment.size,
            final=cut.final,
            segment_digest=kept.digest if kept else None,
            duration_s=(cut.end_ns - cut.start_ns) / NS,
            independent=cut.independent,
            track=name,
            msn=cut.msn,
            index=cut.index,
            kept=kept,
            rendition=track.rendition if kept else None,
        )
        segment.size += len(cut.body)
        self._bodies[name] = Body() if cut.final else segment
        return part

    def _list(self, name: str, path: str, cut: Cut) -> None:
        if cut.end_ns > cut.start_ns:
            listed = Part(
                path=path,
                start_ns=cut.start_ns,
                end_ns=cut.end_ns,
                independent=cut.independent,
                key_bytes=cut.key_bytes,
            )
            self.timeline.add_part(name, cut.msn, listed, final=cut.final)
        else:
            self.timeline.close(name)

    def _versions(self, track: Track) -> list[Publication]:
        """All playlists of a track that lists another whole segment."""
        kinds = (False, True) if track.rendition.key_bandwidth else (False,)
        return [self._version(track, iframes=iframes) for iframes in kinds]

    def _version(self, track: Track, *, iframes: bool = False) -> PlaylistVersion:
        name, ended = track.rendition.track, self.timeline.ended
        # what ends must be newer than a version that only lacked ENDLIST
        version = (track.next_msn + 1, 0, 0) if ended else track.version
        path, full = names.media_path, manifest.media_playlist
        if iframes:
            version, path, full = (version[0], 0, 0), names.iframe_path, manifest.iframe_playlist
        return self._versioned.playlist(
            path(self._stream, name),
            version,
            full(self.timeline, name),
            manifest.delta_playlist(self.timeline, name, iframes=iframes),
            manifest.delta_playlist(self.timeline, name, iframes=iframes, v2=True),
            ended=ended,
        )

    def _multivariant(self) -> list[Publication]:
        """The multivariant playlist when it changed: first when every track lists a whole segment
        (a classic client gives up on a playlist without one: ffmpeg says "Empty segment"), later
        when an encoder came back with other codecs or sizes."""
        tracks = self.timeline.tracks.values()
        renditions = [track.rendition for track in tracks]
        if renditions == self._announced or not all(
            t.rendition.codecs and any(s.complete and not s.gap for s in t.segments) for t in tracks
        ):
            return []
        self._announced = renditions
        text = manifest.multivariant_playlist(self._stream, renditions)
        return [self._versioned.value(names.multivariant_path(self._stream), PLAYLIST_TYPE, text)]

    def _mpd(self) -> list[Publication]:
        """The MPD when it changed, from the first multivariant playlist on: when a period begins,
        ends or leaves the window, and when the stream ends."""
        if not self._announced:
            return []
        found = dash.periods(self.timeline, running=bool(self._lines))
        if not found or (found == self._periods and not self.timeline.ended):
            return []
        self._periods = found
        text = dash.manifest(self.timeline, found, published_ns=self._wall_ns)
        return [self._versioned.value(names.mpd_path(self._stream), MPD_TYPE, text)]
