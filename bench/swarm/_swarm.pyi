"""Typed face of the viewer swarm (see native/*.pxd for the bodies)."""
from collections.abc import Sequence
from typing import Final

TALLY_HELP: Final[dict[str, str]]
SPAN_HELP: Final[dict[str, str]]
CONNECTIONS: Final[int]               # most a viewer may have

class Swarm:
    """Viewers of one stream. One thread makes, runs, reads and closes it."""
    def __init__(
        self, *, ip: int, port: int, source: int, host: bytes, fields: bytes,
        multivariant: bytes | None, tracks: Sequence[bytes], choices: Sequence[tuple[int, ...]],
        viewers: int, connections: int, low_latency: bool, skip: bool, ramp_ms: int,
        timeout_ms: int, retry_ms: int, tries: int,
    ) -> None:
        """ip, port, source: network order; source 0: any. host: authority of the URL. fields: what
        follows the target in every request. tracks: paths of media playlists; viewer i plays the
        tracks of choices[i % len(choices)]. ValueError, MemoryError."""
    def run(self, slice_ms: int) -> None:
        """Real time without the GIL; the first call begins the ramp."""
    def finish(self) -> None: ...     # everybody leaves; idempotent
    def playing(self) -> int: ...
    def tallies(self) -> dict[str, int]: ...
    def spans(self) -> dict[str, list[int]]: ...     # counts by bucket, see result.bucket_us
    def samples(self) -> list[str]: ...              # the first errors in words
    def unchecked(self) -> list[tuple[bytes, bytes, bytes]]:
        """(path, ETag, body) of what came whole for the first time since the last call."""
