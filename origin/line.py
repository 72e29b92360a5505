"""One track on its way from the encoder's pipe to parts, in one generation.

Laws: sans-IO; what is held is bounded by who releases it (origin.presentation). Counts close:
frames encoded = packaged + dropped + waiting.
"""

from __future__ import annotations

from collections import Counter, deque

import xxhash

from .cmaf import Demuxer
from .packager import Cut, Packager


class Line:
    """Demuxer, then packager, which is there from the init section on."""

    def __init__(self, *, awaited: bool = True) -> None:
        self.awaited = awaited  # by the other tracks
        self.demuxer = Demuxer()
        self.packager: Packager | None = None
        self.held: deque[Cut] = deque()  # parts that the other tracks are not near to
        self.encoded = 0  # frames that went to the packager

    def rest(self, picture_msn: int | None) -> list[Cut]:
        """What is left when the encoder is gone: see Packager.flush."""
        return [*self.held, *(self.packager.flush(picture_msn) if self.packager else ())]

    def counts(self) -> Counter[str]:
        """What became of the frames."""
        made = self.packager
        if made is None:
            return Counter()
        told = {"encoded": self.encoded, "packaged": made.packaged, "waiting": made.waiting}
        told |= {f"dropped.{reason}": count for reason, count in made.dropped.items()}
        return Counter({f"frames.{name}": count for name, count in told.items()})

    def drops(self) -> Counter[str]:
        """Frames, fragments and bytes dropped, by reason."""
        return self.demuxer.dropped + (self.packager.dropped if self.packager else Counter())


class Body:
    """The segment of a track that is being filled, and has `data` so far."""

    def __init__(self, data: bytes = b"") -> None:
        self.size = len(data)
        self.hash = xxhash.xxh3_128(data)
