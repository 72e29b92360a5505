"""Publishers that send each track by itself: requests -> broadcasts (DASH-IF Live Media Ingest,
Interface 1, and what encoders make of it: a request a track, or one a segment).

Laws: a session is one publisher's, known by its address, on one stream; to `Ingest` it is one body,
which holds for it what holds for any (409, take-over, silence). It begins with the first init
section. A fragment is read with the init section of its own request, else with the newest of its
track, waited for at most `init_s`; without one it is 412, and its source is to send that again.
Manifests are not needed, and nothing of them is held: one that says that the broadcast is over ends
it. Bounds: the session's. Does not know keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from edgecache import tracknames

from .cmaf import CmafError, Demuxer, Frame, Init
from .cmaftags import tags_of
from .ingest import Ingest
from .publishers import Publishers
from .receive import RefusedError
from .tracksession import Breakable, Limits, Publisher, Session

log = logging.getLogger(__name__)

_OVER: Final = (b'type="static"', b"#EXT-X-ENDLIST")
_LONGEST: Final = max(map(len, _OVER))
_HEAD_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class _Request:
    """head: what has been read of `chunks`, which are the body's."""

    stream: str
    path: str
    body: Breakable
    chunks: AsyncIterator[bytes]
    head: bytes


class Tracks:
    """check() and take() each request; `ingest.tracks` says what the tracks of a stream are."""

    def __init__(
        self, ingest: Ingest, publishers: Publishers, limits: Limits | None = None
    ) -> None:
        self._ingest = ingest
        self._publishers = publishers
        self._limits = limits or Limits()
        self._sessions: dict[str, Session] = {}
        self._running: set[asyncio.Task[None]] = set()

    def check(self, stream: str, address: str) -> None:
        """Raises RefusedError when a publisher there may not send tracks of `stream` now."""
        if self._of(stream, address) is None:
            self._ingest.check(stream)

    async def take(self, stream: str, path: str, body: Breakable, publisher: Publisher) -> None:
        """All of a request. Raises RefusedError, and what `body` raises when it is cut."""
        if tracknames.is_manifest(path):
            said_over = await _says_over(body.iter_any())
            session = self._of(stream, publisher.address)
            if said_over and session is not None:
                session.close_soon()
            return
        chunks = body.iter_any()
        head = await _head(chunks)
        if not head:
            return  # a source asks whether it may
        session = self._session(stream, publisher)
        demuxer = Demuxer()
        try:
            await self._read(_Request(stream, path, body, chunks, head), session, demuxer)
        except RefusedError:
            raise
        except Exception as error:  # whatever a server's body raises when its connection breaks
            self._ingest.counts["tracks.cut"] += 1
            log.info("track cut", extra={"stream": stream, "why": error.__class__.__name__})
        finally:
            for reason, count in demuxer.dropped.items():
                self._ingest.counts[f"tracks.dropped.{reason}"] += count
            if session.idle:
                self._sessions.pop(stream, None)

    async def _read(self, request: _Request, session: Session, demuxer: Demuxer) -> None:
        name = tracknames.name_of(request.path)
        with session.request():
            if request.head[4:8] != b"ftyp":
                name = await session.named(tracknames.names_of(request.path))
                if not name:
                    text = f"{request.path}: no init section of this track has come; send it again"
                    raise session.failure or RefusedError(412, text)
                demuxer.feed(session.join.header(name))
            turn = session.turn(name)
            async with turn.of(request.body):
                data, good = request.head, False
                while data:
                    turn.heard()
                    good = self._feed(request, session, name, demuxer.feed(data)) or good
                    _judge(request.path, demuxer, good=good)
                    turn.heard(pausing=True)
                    await session.room()
                    turn.heard()
                    data = await anext(request.chunks, b"")
            if demuxer.last:
                session.join.end(name)

    def _feed(
        self, request: _Request, session: Session, name: str, found: Sequence[Init | Frame]
    ) -> bool:
        """Was there a frame among what was found? Raises RefusedError."""
        now_s = asyncio.get_running_loop().time()
        frames = False
        for item in found:
            if isinstance(item, Frame):
                frames = True
                session.join.add(name, item, now_s)
                continue
            try:
                session.begin(name, tags_of(item))
            except CmafError as error:
                raise RefusedError(415, f"{request.path}: {error}") from None
            self._start(request.stream, session)
        session.changed.set()
        return frames

    # -- sessions

    def _of(self, stream: str, address: str) -> Session | None:
        """The session that a request from there belongs to."""
        session = self._sessions.get(stream)
        if session is None or session.over or session.publisher.address != address:
            return None
        return session

    def _session(self, stream: str, publisher: Publisher) -> Session:
        known = self._of(stream, publisher.address)
        if known is None:
            self._ingest.check(stream)
            known = self._sessions[stream] = Session(stream, publisher, self._limits)
        return known

    def _start(self, stream: str, session: Session) -> None:
        if not session.started:
            session.started = True
            task = asyncio.create_task(self._run(stream, session))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, stream: str, session: Session) -> None:
        ingest, publisher = self._ingest, session.publisher
        failure = RefusedError(503, "the origin is going away")
        self._ingest.tracks[stream] = session.join.describe
        ingest.tally.add(session.join.counts)
        try:
            with self._publishers.enter(stream, publisher.key_id, session):
                await ingest.serve(
                    stream, session, publisher=publisher.address, title=publisher.title
                )
            failure = RefusedError(409, "the broadcast has ended; begin again")
        except RefusedError as error:
            failure = error
        except asyncio.CancelledError:
            log.info("tracks cut", extra={"stream": stream})
        finally:
            session.end(failure)
            ingest.tally.settle(session.join.counts)
            if self._sessions.get(stream) is session:
                del self._sessions[stream], ingest.tracks[stream]


def _judge(path: str, demuxer: Demuxer, *, good: bool) -> None:
    """Raises RefusedError for a request that is of no use; a fragment that is lost among others is
    counted."""
    if (broken := demuxer.broken) is not None:
        raise RefusedError(415 if broken.reason == "moov" else 400, f"{path}: {broken}")
    if demuxer.dropped and not good:
        why = ", ".join(demuxer.dropped)
        raise RefusedError(400, f"{path}: not readable as a CMAF track: {why}")


async def _head(chunks: AsyncIterator[bytes]) -> bytes:
    """Enough of a request to see what box it begins with; b"" of an empty one."""
    head = b""
    while len(head) < _HEAD_BYTES and (data := await anext(chunks, b"")):
        head += data
    return head


async def _says_over(chunks: AsyncIterator[bytes]) -> bool:
    """Does a manifest say that nothing follows? Read to its end, whatever it is."""
    before, found = b"", False
    async for data in chunks:
        before = before[-_LONGEST:] + data
        found = found or any(word in before for word in _OVER)
    return found
