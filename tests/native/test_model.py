"""A Plane against a dict: whatever is done to it, viewers read what the dict says."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from edgecache._core import PUT_CONFLICT, PUT_CREATED, PUT_SAME, PUT_STALE, Fill
from tests.native.kit import TYPE, Edge, Viewer, get, settled

KEYS = st.sampled_from(["/a", "/b", "/c"])
PLAYLIST = "/l.m3u8"
BODIES = st.sampled_from([b"", b"x", b"0123456789" * 5, b"m" * 40_000, b"n" * 200_000])
PARTS = 4  # of every segment
SHORT_MS, LONG_MS = 80, 3_600_000


@dataclass
class Known:
    """What the model thinks is under a key."""

    body: bytes
    etag: bytes
    until: float = float("inf")
    parent: str = ""


@dataclass
class Growing:
    """A fill that was begun: `length` −1 is unknown."""

    fill: Fill
    length: int
    body: bytes = b""
    watchers: list[Viewer] = field(default_factory=list)


def satisfied(want: tuple[int, int], version: tuple[int, int]) -> bool:
    """RFC 8216bis 6.2.5.2 for segments of PARTS parts: one past the end is part 0 of the next."""
    msn, part = want
    return ((msn, part) if part < PARTS else (msn + 1, 0)) < version


class Model(RuleBasedStateMachine):
    """Short-lived keys are only ever looked at when their time is certainly over or not near."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Known] = {}
        self.growing: dict[str, Growing] = {}
        self.version: tuple[int, int] | None = None
        self.parked: list[tuple[tuple[int, int], Viewer]] = []

    @initialize(workers=st.integers(1, 2), heap=st.sampled_from([0, 16384, 1 << 20]))
    def start(self, workers: int, heap: int) -> None:
        self.edge = Edge(workers=workers, heap_max_bytes=heap)
        self.viewer = self.edge.viewer()

    def live(self, key: str) -> Known | None:
        """What must be served; forgets what is over."""
        found = self.known.get(key)
        if found is not None and found.until != float("inf"):
            time.sleep(max(0.0, found.until + 0.02 - time.monotonic()))
            self.forget(key)
            return None
        return found

    def forget(self, key: str) -> None:
        self.known.pop(key, None)
        for view in [k for k, v in self.known.items() if v.parent == key]:
            del self.known[view]

    # -- objects

    @rule(key=KEYS, body=BODIES, short=st.booleans())
    def put(self, key: str, body: bytes, short: bool) -> None:
        known = self.live(key)
        etag = b"%d-%d" % (len(body), sum(body) % 97)
        began = time.monotonic()
        result = self.edge.put(key, body, etag=etag, ttl_ms=SHORT_MS if short else LONG_MS)
        if known is not None:
            assert result == (PUT_SAME if known.etag == etag else PUT_CONFLICT)
            return
        assert result == PUT_CREATED
        self.leave(key)
        until = began + SHORT_MS / 1000 if short else float("inf")
        self.known[key] = Known(body, etag, until)

    def leave(self, key: str) -> None:
        """Something else took the key: its views go, a fill in flight goes on for its watchers."""
        for view in [k for k, v in self.known.items() if v.parent == key]:
            del self.known[view]
        grown = self.growing.pop(key, None)
        if grown is not None:
            assert not grown.fill.live
            self.finish(grown)

    def finish(self, grown: Growing) -> None:
        if grown.length >= 0:
            grown.body += b"." * (grown.length - len(grown.body))
            assert grown.fill.append(b"." * (grown.length - grown.fill.filled))
        assert grown.fill.commit()
        for watcher in grown.watchers:
            assert watcher.body(grown.length) == grown.body
            watcher.close()

    @rule(key=KEYS, length=st.sampled_from([-1, 0, 10, 100_000]))
    def begin(self, key: str, length: int) -> None:
        known = self.live(key)
        fill = self.edge.plane.open(key.encode())
        if known is not None or key in self.growing:
            assert fill is None
            return
        assert fill is not None
        assert fill.begin(200, TYPE, length=length, etag=b"fill", ttl_ms=LONG_MS)
        self.growing[key] = Growing(fill, length)

    @precondition(lambda self: self.growing)
    @rule(data=st.data(), size=st.sampled_from([1, 7, 5000, 70_000]), watch=st.booleans())
    def append(self, data: st.DataObject, size: int, watch: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.growing)))
        grown = self.growing[key]
        if watch:
            grown.watchers.append(self.edge.viewer())
            grown.watchers[-1].send(get(key))
            assert grown.watchers[-1].head()[0] == 200  # from here on it is on this fill
        fits = grown.length < 0 or len(grown.body) + size <= grown.length
        assert grown.fill.append(b"g" * size) is fits
        grown.body += b"g" * size if fits else b""
        assert grown.fill.filled == len(grown.body)

    @precondition(lambda self: self.growing)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.growing)))
        grown = self.growing.pop(key)
        self.finish(grown)
        self.known[key] = Known(grown.body, b"fill")

    @precondition(lambda self: self.growing)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.growing)))
        grown = self.growing.pop(key)
        grown.fill.fail(502)
        self.forget(key)
        for watcher in grown.watchers:
            watcher.close()

    @precondition(lambda self: any(g.body for g in self.growing.values()))
    @rule(data=st.data())
    def view(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(k for k, g in self.growing.items() if g.body)))
        grown = self.growing[key]
        first = data.draw(st.integers(0, len(grown.body) - 1))
        length = data.draw(st.integers(1, len(grown.body) - first))
        name = f"{key}.{data.draw(st.integers(0, 2))}"
        etag = b"%d+%d" % (first, length)
        known = self.known.get(name)
        found = grown.fill.view(name.encode(), first, length, TYPE, etag=etag, ttl_ms=LONG_MS)
        if known is None:
            assert found == PUT_CREATED
            self.known[name] = Known(grown.body[first : first + length], etag, parent=key)
        else:
            assert found == (PUT_SAME if known.etag == etag else PUT_CONFLICT)

    # -- leaving

    @rule(key=KEYS, part=st.sampled_from(["", ".0", ".1"]))
    def purge(self, key: str, part: str) -> None:
        known = self.live(key + part)
        expected = known is not None or key + part in self.growing
        # a short-lived one may still be in the index, past its time
        assert self.edge.plane.purge((key + part).encode()) or not expected
        self.gone(key + part)

    def gone(self, key: str) -> None:
        self.forget(key)
        grown = self.growing.pop(key, None)
        if grown is not None:
            assert not grown.fill.live
            self.finish(grown)

    @rule(prefix=st.sampled_from(["/a", "/b", "/"]))
    def purge_prefix(self, prefix: str) -> None:
        self.edge.plane.purge_prefix(prefix.encode())
        for key in [k for k in (*self.known, *self.growing) if k.startswith(prefix)]:
            self.gone(key)
        if prefix == "/":
            self.version = None
            if self.parked:  # they are one miss of what stands there no more
                fill = self.edge.fill()
                assert fill.key == PLAYLIST.encode()
                fill.fail(503, ttl_ms=LONG_MS)  # the other worker may look a second later
            for _, viewer in self.parked:
                assert viewer.answer().status == 503
                viewer.close()
            if self.parked:
                assert self.edge.plane.purge(PLAYLIST.encode())
            self.parked.clear()

    # -- values

    @rule(step=st.integers(-1, 3), parts=st.integers(0, 3))
    def publish(self, step: int, parts: int) -> None:
        msn = max(0, (self.version[0] if self.version else 5) + step)
        result = self.edge.publish(PLAYLIST, (msn, parts, PARTS))
        if self.version is not None and (msn, parts) <= self.version:
            assert result == PUT_STALE
            return
        assert result == PUT_CREATED
        self.version = (msn, parts)
        for want, viewer in [p for p in self.parked if satisfied(p[0], self.version)]:
            answer = viewer.answer()
            assert (answer.status, answer.body) == (200, b"v%d.%d" % self.version)
            viewer.close()
            self.parked.remove((want, viewer))

    @precondition(lambda self: self.version and len(self.parked) < 6)
    @rule(ahead=st.integers(0, 2))
    def wait(self, ahead: int) -> None:
        """For a part that is not there yet: the next, or one a little further."""
        assert self.version is not None
        want = (self.version[0], self.version[1] + ahead)
        viewer = self.edge.viewer()
        before = self.edge.count("parked_now")
        viewer.send(get(f"{PLAYLIST}?_HLS_msn={want[0]}&_HLS_part={want[1]}"))
        self.edge.await_parked(before + 1)
        self.parked.append((want, viewer))

    # -- reading

    @rule(key=KEYS, part=st.sampled_from(["", "", ".0", ".1", ".2"]), data=st.data())
    def read(self, key: str, part: str, data: st.DataObject) -> None:
        known = self.live(key + part)
        if known is None:
            if key + part not in self.growing:
                self.miss(key + part)
            return
        size = len(known.body)
        if size and data.draw(st.booleans()):
            first = data.draw(st.integers(0, size - 1))
            end = data.draw(st.integers(first, size + 5))
            answer = self.viewer.ask(key + part, f"Range: bytes={first}-{end}")
            assert (answer.status, answer.body) == (206, known.body[first : end + 1])
        else:
            answer = self.viewer.ask(key + part)
            assert (answer.status, answer.body) == (200, known.body)
        assert answer.fields[b"etag"] == b'"%b"' % known.etag

    def miss(self, key: str) -> None:
        self.viewer.send(get(key))
        fill = self.edge.fill()
        assert fill.key == key.encode()
        fill.fail(404)
        assert self.viewer.answer().status == 404

    @rule()
    def read_playlist(self) -> None:
        if self.version is None:
            self.miss(PLAYLIST)
        else:
            assert self.viewer.ask(PLAYLIST).body == b"v%d.%d" % self.version

    @invariant()
    def the_plane_agrees(self) -> None:
        if not hasattr(self, "edge"):
            return
        for key, grown in self.growing.items():
            found = self.edge.plane.lookup(key.encode())
            assert found is not None
            assert (found["state"], found["size"]) == (b"filling", len(grown.body))

    def teardown(self) -> None:
        if not hasattr(self, "edge"):
            return
        try:
            for grown in self.growing.values():
                self.finish(grown)
        finally:
            for viewer in [self.viewer, *[viewer for _, viewer in self.parked]]:
                viewer.close()
            self.growing.clear()
            self.rest()

    def rest(self) -> None:
        try:
            settled(self.edge)
        finally:
            self.edge.stop()


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
