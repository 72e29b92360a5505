"""A publisher's newest tags, numbered, for a data centre that has to begin in the middle.

Laws: tags are numbered from 0 in the order they came, and none is skipped. What is held begins
where decoding can (a keyframe; any sound of a publisher without a picture), and has before it the
configuration that is in force there. It ends with what a data centre said it no longer needs
(`keep`). Bounds: `limit_bytes` and `span_s`; beyond either the oldest GOP goes, and when there is
no other one everything until the next keyframe. Every tag is held, or counted once: configuration,
acknowledged, passed (given to a data centre that had not acknowledged it when it had to go) or
dropped (no data centre ever saw it). Media is not looked into. Sans-IO.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from itertools import islice

from ..flv import CONFIG, HEADER, MAX_TRACKS, SCRIPT, VIDEO, Tag

_METADATA = b"\x02\x00\x0aonMetaData"


@dataclass(frozen=True, slots=True)
class Body:
    """What a data centre begins with: an FLV stream whose first `head` tags are configuration and
    have no numbers; the others have them from `first` on. The oldest of those came `age_s` ago."""

    tags: tuple[Tag, ...]
    first: int
    head: int
    age_s: float

    @property
    def end(self) -> int:
        """Number of the tag behind it."""
        return self.first + len(self.tags) - self.head

    def encode(self) -> bytes:
        return HEADER + b"".join(tag.encode() for tag in self.tags)


class Held:
    """add() what came, keep() what is told to be needed; body() for a new connection."""

    def __init__(self, *, limit_bytes: int, span_s: float, counts: Counter[str]) -> None:
        self._limit_bytes = limit_bytes
        self._span_s = span_s
        self._counts = counts  # held.<what became of a tag>
        self._config: dict[tuple[int, int, int], Tag] = {}  # in force before the first held tag
        self._tags: deque[tuple[Tag, float]] = deque()  # and when they came
        self._given = 0  # number of the first tag that no data centre was given
        self._has_picture = False
        self.first = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._tags)

    @property
    def next(self) -> int:
        """Number of the next tag."""
        return self.first + len(self._tags)

    def add(self, tag: Tag, now_s: float, *, given: bool) -> None:
        """Take the next tag. given: a data centre is being sent it now."""
        self._has_picture |= tag.kind == VIDEO
        if given:
            self._given = self.next + 1
        self._tags.append((tag, now_s))
        self.bytes += len(tag.body)
        if len(self._tags) == 1 and not tag.is_entry(has_picture=self._has_picture):
            self._pop()
            return
        while self.bytes > self._limit_bytes or now_s - self._tags[0][1] > self._span_s:
            self._drop_gop()
            if not self._tags:
                return

    def keep(self, number: int) -> None:
        """A data centre needs nothing before this tag any more, whatever becomes of it."""
        while self._tags and self.first < number:
            self._pop("acknowledged")

    def body(self, now_s: float) -> Body:
        """All that is held."""
        config = sorted(self._config.values(), key=lambda tag: (tag.kind != SCRIPT, -tag.kind))
        return Body(
            tags=(*config, *(tag for tag, _ in self._tags)),
            first=self.first,
            head=len(config),
            age_s=now_s - self._tags[0][1] if self._tags else 0.0,
        )

    def give(self, body: Body) -> bytes | None:
        """The body, and behind it what came since it was made; None when some of that had to go
        already. All of it counts as given from now on."""
        if body.end < self.first:
            return None
        self._given = self.next
        since = islice(self._tags, body.end - self.first, None)
        return body.encode() + b"".join(tag.encode() for tag, _ in since)

    def close(self, *, given: bool) -> None:
        """The publisher has ended. given: a data centre has taken all of it."""
        self._given = self.next if given else self._given
        while self._tags:
            self._pop()

    def _drop_gop(self) -> None:
        self._pop()
        while self._tags and not self._tags[0][0].is_entry(has_picture=self._has_picture):
            self._pop()

    def _pop(self, became: str = "") -> None:
        tag, _ = self._tags.popleft()
        self.bytes -= len(tag.body)
        if _configures(tag) and tag.track < MAX_TRACKS:  # bounded: one of each kind and track
            self._config[(tag.kind, tag.packet, tag.track)] = tag
            became = "configuration"
        elif not became:
            became = "passed" if self.first < self._given else "dropped"
        self._counts[f"held.{became}"] += 1
        self.first += 1


def _configures(tag: Tag) -> bool:
    return tag.packet == CONFIG or (tag.kind == SCRIPT and tag.body.startswith(_METADATA))
