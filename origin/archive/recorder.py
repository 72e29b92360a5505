"""Takes every finished segment of every stream for the permanent store, beside the live path.

Laws: `add` never waits and never raises: the loop only queues, one thread writes spool and journal,
the spool's threads upload. Memory is bounded: what would queue more than `queue_bytes` is lost, and
so is what the spool has no room for; both are counted, and are gaps of the recording. A segment is
in the journal only when it is in the spool. A stream's recording is made when its playlists end, or
at the start of the next process when this one was killed. Owner: the loop's thread, but for what
stands under "the writer's thread". An origin that goes on with the streams of a killed one goes on
with their recordings.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..model import (
    Kept,
    MediaObject,
    PartObject,
    PlaylistVersion,
    Publication,
    Rendition,
    digest_of,
)
from ..timeline import Segment, Timeline, Track
from ..timing import Timing
from ..window import StoredObject, Window
from .journal import Journal, found_in, recording_of
from .recording import KeptInit, kept_of
from .spool import Spool

log = logging.getLogger(__name__)

_Job = tuple[Callable[[], None], int]
_CLOSE_S: Final = 5.0


def key_of(path: str) -> str:
    """Of the object behind a path on the wire."""
    return path.removeprefix("/live/")


def index_key(stream: str, epoch: str, revision: int) -> str:
    return f"{stream}/{epoch}/recording-{revision}.json.gz"


class Recorder:
    """`timing`: the grid of this process's streams. `home` holds the journals."""

    def __init__(self, home: Path, spool: Spool, *, timing: Timing, queue_bytes: int) -> None:
        self._home = home
        self._spool = spool
        self._timing = timing
        self._queue_bytes = queue_bytes
        self._open: dict[str, list[bytes]] = {}  # segment path -> its parts so far
        self._jobs: deque[_Job | None] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        # of broadcasts that go on, by stream; at first those that an earlier process left
        self._journals = {each.stream: each for each in map(Journal, found_in(home))}
        self.left = set(self._journals)  # that nobody has gone on with
        self.counters: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._work, name="archive-writer")

    # -- on the loop

    def resume(self, stream: str, window: Window, timeline: Timeline) -> None:
        """An earlier process's stream goes on, before anything of it is published: what that one
        published and did not get to write down is in the window."""
        self.left.discard(stream)
        journal = self._journals.get(stream)
        written = recording_of(journal.path) if journal else None
        for path, (item, _) in window.inits.items():
            _, _, _, _, owner, file = path.split("/")
            number = int(file.removeprefix("init").removesuffix(".mp4"))
            self.add(stream, replace(item, rendition=timeline.tracks[owner].made[number]))
        for name, track in timeline.tracks.items():
            sheet = written.tracks.get(name) if written else None
            known = {kept.msn for kept in sheet.segments} if sheet else set()
            for segment in (*track.retired, *track.segments):
                stored = window.find(segment.path)
                if stored is not None and segment.msn not in known:
                    self._catch_up(stream, track, segment, stored)

    def _catch_up(self, stream: str, track: Track, segment: Segment, stored: StoredObject) -> None:
        if not stored.complete:
            self._open[segment.path] = list(stored.chunks)
            return
        kept = kept_of(segment, stored.size, stored.digest)
        path, file, rendition = segment.path, stored.file, track.rendition
        chunks = stored.chunks if file is None else [file.read_bytes()]
        self._take(lambda: self._keep_segment(stream, rendition, path, kept, chunks), stored.size)

    def start(self) -> None:
        for stream in self.left:
            self._queue(lambda stream=stream: self._end(stream))  # type: ignore[misc]
        self._thread.start()

    def add(self, stream: str, publication: Publication) -> None:
        """The next publication of `stream`, in truth order."""
        if isinstance(publication, PlaylistVersion):
            if publication.ended and publication.hold_ms:
                self._queue(lambda: self._end(stream))
        elif isinstance(publication, PartObject):
            self._grow(stream, publication)
        elif publication.rendition is not None:
            item = publication
            self._take(lambda: self._keep_init(stream, item), len(item.body))

    def _grow(self, stream: str, part: PartObject) -> None:
        chunks = self._open.get(part.segment_path, [])
        size = sum(map(len, chunks))
        if size != part.offset:
            self.counters["out_of_order"] += 1
            return
        self._open[part.segment_path] = chunks
        chunks.append(part.body)
        size += len(part.body)
        if part.kept is None:
            return
        assert part.rendition is not None
        del self._open[part.segment_path]
        path, rendition, kept = part.segment_path, part.rendition, part.kept
        self._take(lambda: self._keep_segment(stream, rendition, path, kept, chunks), size)

    def _take(self, run: Callable[[], None], size: int) -> None:
        if self._queued_bytes + size > self._queue_bytes:
            self.counters["lost"] += 1
        else:
            self._queue(run, size)

    def _queue(self, run: Callable[[], None], size: int = 0) -> None:
        with self._wake:
            self._jobs.append((run, size))
            self._queued_bytes += size
            self._wake.notify()

    def close(self) -> None:
        """Write what is queued."""
        with self._wake:
            self._jobs.append(None)
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)

    # -- the writer's thread

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._jobs)
                job = self._jobs.popleft()
            if job is None:
                break
            run, size = job
            try:
                run()
            except OSError as error:
                self.counters["lost"] += 1
                log.error("spool or journal not writable, the live path goes on: %s", error)
            with self._wake:
                self._queued_bytes -= size
        for journal in self._journals.values():
            journal.close()

    def _keep_init(self, stream: str, item: MediaObject) -> None:
        assert item.rendition is not None
        _, _, _, epoch, track, name = item.path.split("/")
        if self._spooled(item.path, [item.body], item.digest):
            kept = KeptInit(len(item.body), item.digest, item.rendition, epoch)
            generation = int(name.removeprefix("init").removesuffix(".mp4"))
            self._journal(stream, epoch, generation).init(track, generation, kept)

    def _keep_segment(
        self,
        stream: str,
        rendition: Rendition,
        path: str,
        kept: Kept,
        chunks: Sequence[bytes],
    ) -> None:
        if not self._spooled(path, chunks, kept.digest):
            return
        journal = self._journal(stream, kept.epoch, kept.generation)
        if rendition.kind == "text":  # which no init section tells of
            init = KeptInit(0, "", rendition, kept.epoch)
            journal.init(rendition.track, kept.generation, init)
        journal.segment(rendition.track, kept)

    def _spooled(self, path: str, chunks: Sequence[bytes], digest: str) -> bool:
        taken = self._spool.put(key_of(path), chunks, digest)
        self.counters["taken" if taken else "lost"] += 1
        return taken

    def _journal(self, stream: str, epoch: str, generation: int) -> Journal:
        """Of the broadcast that goes on; one that another timeline follows ends with it."""
        known = self._journals.get(stream)
        if known is not None and (known.epoch == epoch or generation > 0):
            return known
        self._end(stream)
        journal = Journal.begin(self._home, stream, epoch, self._timing)
        self._journals[stream] = journal
        return journal

    def _end(self, stream: str) -> None:
        if journal := self._journals.pop(stream, None):
            journal.close()
            self._finish(journal.path)

    def _finish(self, journal: Path) -> None:
        """The recording goes after its media; then the journal is not needed any more."""
        recording = recording_of(journal)
        if recording is not None:
            body = recording.to_json()
            key = index_key(recording.stream, recording.epoch, recording.revision)
            self._spool.put(key, [body], digest_of(body))
        journal.unlink()
