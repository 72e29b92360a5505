"""Typed face of the native data plane (native/*.pxd hold the bodies).

Keys are canonical paths, and for a playlist `?` + its canonical LL-HLS directives. `fields` are
complete header lines, each ending CRLF; the core adds status, framing, ETag, CORS and what depends
on time. `etag` is the opaque value without quotes.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypedDict

BUILD: Final[dict[str, str]]  # compiler, debug flag
COUNTER_HELP: Final[dict[str, str]]  # name -> help text, in the order of counters()
HISTOGRAM_HELP: Final[dict[str, str]]
PUT_CREATED: Final[int]
PUT_SAME: Final[int]
PUT_CONFLICT: Final[int]
PUT_NO_SPACE: Final[int]
PUT_STALE: Final[int]  # publish(): not newer than the value held

class Stale(TypedDict):
    fields: bytes
    etag: bytes  # the origin's, without quotes; empty: it had none
    age_ms: int
    past_ms: int  # since its time was over
    left_ms: int  # of its time to be found good

class Fill:
    """The one writer of an entry that is reserved or filling. Dropping it without commit() fails
    the entry (502)."""

    @property
    def key(self) -> bytes: ...
    @property
    def loop(self) -> bytes:
        """The caches of ours that the request for it came through: `a, b`, as in CDN-Loop."""

    @property
    def filled(self) -> int: ...  # body bytes so far
    @property
    def waiters(self) -> int: ...  # exchanges parked on or streaming from it now, all workers
    @property
    def live(self) -> bool: ...  # False once purged, superseded by a push, or already ended
    def begin(
        self,
        status: int,
        fields: bytes,
        *,
        length: int = -1,
        etag: bytes = b"",
        ttl_ms: int,
        grace_ms: int = 0,
        age_ms: int = 0,
        spare_ms: int = 0,
        pushed: bool = False,
    ) -> bool:
        """Head is known: waiters get it now. length -1: unknown (chunked to viewers). age_ms: how
        old it was when it came, part of the Age that viewers see. spare_ms: how long it stays
        behind its time and grace, see `stale`. pushed: nobody was asked for it, so its answers are
        hits. False: the entry is no longer ours to fill; stop."""

    @property
    def stale(self) -> Stale | None:
        """What this is to replace, if that may still be found good."""

    def renew(
        self,
        fields: bytes,
        *,
        ttl_ms: int,
        grace_ms: int = 0,
        age_ms: int = 0,
        spare_ms: int = 0,
        again_ms: int = 0,
    ) -> bool:
        """Instead of begin() to commit(): the body of `stale`, with its validator, under new
        fields. again_ms: past its time at once (ttl_ms 0) it is asked for again after this. False:
        there is none, or the entry is no longer ours to fill."""

    def append(self, data: bytes | bytearray | memoryview) -> bool: ...
    def view(
        self, key: bytes, offset: int, length: int, fields: bytes, *, etag: bytes, ttl_ms: int
    ) -> int:
        """Publish [offset, offset + length) of this body, which must be filled, as the complete
        entry `key` (a part). PUT_*."""

    def commit(self, *, etag: bytes = b"") -> bool:
        """The body is whole. ValueError if `length` was given and differs."""

    def grown(self, filled: int) -> None:
        """Another process, which goes on with the same body, has filled it this far."""

    def fail(self, status: int, *, ttl_ms: int = 0) -> None:
        """Waiters without bytes are answered `status`; those in mid-body are cut. ttl_ms > 0:
        remembered that long (negative entry)."""

class Plane:
    """One store and its workers. Thread-safe only under the GIL (one control thread)."""

    def __init__(
        self,
        *,
        name: bytes,
        budget_bytes: int,
        limits: dict[str, int] = ...,
        access_log: bool = False,
        keep: Sequence[tuple[bytes, Sequence[bytes]]] = (),
        sites: Collection[bytes] = (),
        id: bytes = b"",
        trusted: Sequence[tuple[bytes, int]] = (),
        hosts: Sequence[bytes] = (),
    ) -> None:
        """`keep`: prefixes of paths, and the query parameters that are part of a key below them;
        the first prefix that fits decides. Requests below a prefix of `sites` are handed over
        (guests()). `id`: this process in CDN-Loop, where it is answered 508. `trusted`: networks of
        our own proxies, as IPv6 bytes (IPv4: mapped) and the number of bits that count. `hosts`:
        the names we go by, `*.` for all below one; a request that names another is answered 421;
        none: any."""

    @property
    def event_fd(self) -> int: ...  # readable when misses() or log_records() has something
    def start(self, listen_fds: Sequence[int]) -> None:
        """One worker thread per listening socket; the sockets stay the caller's to close."""

    def reroute(
        self, keep: Sequence[tuple[bytes, Sequence[bytes]]], sites: Collection[bytes]
    ) -> bool:
        """Other routes, for every request that comes from now on; returns when each worker reads by
        them, or hangs. False: one hung the last time, and has not taken those. Raises ValueError
        when they do not fit, and leaves it as it was."""

    def keep(self, fd: int, room: int, changed: Callable[[], None]) -> None:
        """Another process keeps what we have for the one that comes after us: `fd` has `room` marks
        (native/deposit.pxd). `changed` is called when noted() may have something, or a mark was
        left. Before anything is stored, once."""

    def keep_no_more(self) -> None: ...  # that process is gone
    def set_budget(self, budget_bytes: int) -> None: ...  # evict() and every write go by it
    def evict(self) -> bool:
        """Up to 64 objects, while there is more than the budget. False: there still is."""

    def set_connections(self, connections: int) -> None:
        """Beyond it new connections get 503."""

    def close_idle(self) -> None:
        """Close all connections that are between two requests, once."""

    def hand_over(self) -> None:
        """Accept no more; connections come out of guests() as soon as they are between requests,
        and at once if they wait for a playlist. To be said again while there are any."""

    def drain(self) -> None:
        """Accept no more; release the parked (503); Connection: close from now on."""

    def open_connections(self) -> int:
        """At workers, and on their way from one or to it; not those that guests() gave."""

    def stop(self) -> None: ...  # join all workers; idempotent
    def misses(self, limit: int = 1024) -> list[Fill]: ...  # asked for, and nobody has them
    def guests(self) -> list[tuple[int, bytes, bytes, bytes]]:
        """(descriptor, a request's head, what was read behind it, the viewer's address) of
        connections handed over: the caller's from now on. Without a head: after hand_over(), with
        what its successor has to read first."""

    def give_back(self, fd: int, unread: bytes, client: bytes) -> bool:
        """A connection whose request was answered goes on at a worker, which owns `fd` from now on.
        False: no room, or more than 32 KiB unread; it stays the caller's."""

    def log_records(
        self, limit: int = 4096
    ) -> list[tuple[int, int, int, int, int, bytes, bytes, bytes]]:
        """(unix_ns, duration_us, status, bytes_out, cache, method, target, client); cache: 0 hit,
        1 miss, 2 collapsed, 3 live, 4 woken, 5 error, 6 stale. method b"-": the head was not
        understood."""

    def open(self, key: bytes, *, unasked: bool = False) -> Fill | None:
        """The Fill of a new (or still reserved, unfilled) entry, for a push; None when the key is
        complete or being filled. `unasked`: only of a new one, which no miss is under way for."""

    def asked(self, key: bytes) -> bool:
        """Did a viewer ask for it since the last call, or waits for it now?"""

    def key(self, target: bytes) -> bytes | None:
        """The canonical key of a request target; None: a viewer would be answered 400."""

    def put(
        self,
        key: bytes,
        body: bytes | bytearray | memoryview,
        fields: bytes,
        *,
        status: int = 200,
        etag: bytes,
        ttl_ms: int,
        grace_ms: int = 0,
    ) -> int: ...
    def publish(
        self,
        key: bytes,
        *,
        msn: int,
        parts: int,
        last_parts: int,
        hold_ms: int,
        advance: int,
        ended: bool,
        ttl_ms: int,
        fields: Sequence[bytes | None],
        bodies: Sequence[bytes | None],
        etags: Sequence[bytes | None],
        waited: Sequence[bytes | None] = (),
        age_ms: int = 0,
        pulled: bool = False,
    ) -> int:
        """Newest version of a playlist; wakes the exchanges it satisfies. Sequences of up to 6:
        full, full.gzip, delta, delta.gzip, and those of v2. waited: the fields of answers to
        blocking requests, if they differ. age_ms: how old it was when it came (Age). pulled: asked
        for at an origin, so that whose miss it answers is told of a miss (Cache-Status)."""

    def version(self, key: bytes) -> tuple[int, int, int] | None: ...
    def lookup(self, key: bytes) -> dict[str, int | bytes] | None:
        """state, status, size, waiters, taken (whole bodies begun, told by workers once a second),
        pushed, age_ms, ttl_ms."""

    def purge(self, key: bytes) -> bool: ...
    def purge_prefix(self, prefix: bytes) -> int: ...
    def counters(self) -> dict[str, int]: ...  # totals and gauges, workers summed
    def worker_counters(self) -> list[dict[str, int]]: ...
    def histograms(self) -> dict[str, tuple[list[int], int]]:
        """name -> (counts per log2 µs bucket, sum of µs)."""

class Holding:
    """An entry of the store as it may be carried to another process. Valid like an entry."""

    @property
    def key(self) -> bytes: ...
    @property
    def state(self) -> bytes: ...  # complete, live, filling; failed: nothing to carry
    @property
    def parent(self) -> bytes | None: ...  # the key whose bytes it is a view of
    @property
    def fd(self) -> int: ...  # the memfd of its bytes, the store's; -1: they are on the heap
    def body(self) -> bytes: ...  # from the heap
    @property
    def slot(self) -> int: ...  # of the mark that it is kept under; -1: it is not
    def keep(self, copied: int, slot: int = -1) -> int:
        """Mark it as kept: in its slot, this one, or (-1) a free one, which is returned. `copied`:
        bytes that stand a second time where it is kept. -1: it has left the index, or none is
        free."""

    def facts(self) -> dict[str, Any]: ...  # as restore() takes them
    def version(self) -> dict[str, Any]: ...  # as Plane.publish() takes it

def noted(plane: Plane, limit: int) -> list[Holding]:
    """What changed since it was last here, in that order; after Plane.keep()."""

def holdings(plane: Plane) -> list[Holding]:
    """All there is, views behind their parents, what would be evicted first in front."""

def restore(
    plane: Plane,
    key: bytes,
    *,
    status: int,
    offset: int,
    length: int,
    stored_us: int,
    expires_ms: int,
    drop_ms: int,
    pushed: bool,
    fields: bytes,
    etag: bytes,
    fd: int = -1,
    body: bytes = b"",
    parent: Fill | None = None,
    growing: bool = False,
) -> Fill | None:
    """An object from holdings() of another process, before start(). Its bytes: `fd` (taken over in
    any case), `body`, or a view of `parent`. `growing`: the Fill goes on. None: no room, or no such
    bytes."""

def live_objects() -> dict[str, int]: ...  # native objects alive, by kind
