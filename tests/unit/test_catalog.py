"""origin/catalog.py and origin/streamkeys.py, over each store that the catalogue can be in."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from origin import catalog as module
from origin.catalog import Catalog, RecordingRow
from origin.rows import CatalogError
from origin.rows_nats import NatsRows
from origin.rows_sqlite import SqliteRows
from origin.streamkeys import MAX_KEYS
from tests.nats_server import Nats

LIMIT_S = 10.0

Again = Callable[[], Catalog]
"""The same catalogue, opened by one more process."""


@pytest.fixture(params=["file", "nats"])
def again(request: pytest.FixtureRequest, path: Path, nats: Nats) -> Again:
    if request.param == "file":
        return lambda: Catalog(SqliteRows(path))
    place = nats.place(path.parent.name)
    return lambda: Catalog(NatsRows(place, SqliteRows(None)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


def soon(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.001)


def opened(catalog: Catalog, key: str) -> str | None:
    found = catalog.open(key)
    return found.stream if found else None


def test_a_key_opens_its_stream_and_no_other(again: Again) -> None:
    with again() as catalog:
        key = catalog.create_key("cam_1")
        other = catalog.create_key("other")
        assert opened(catalog, key) == "cam_1"
        assert opened(catalog, key.replace("cam_1_", "other_")) is None
        assert opened(catalog, key[:-1]) is None
        assert opened(catalog, other) == "other"
    with again() as catalog:
        assert opened(catalog, key) == "cam_1"


@pytest.mark.parametrize("key", ["", "_", "cam", "cam_", "CAM_00", "a/b_00", "ü_00", "cam_\udcff"])
def test_nonsense_opens_nothing(key: str) -> None:
    with Catalog(SqliteRows(None)) as catalog:
        catalog.create_key("cam")
        assert catalog.open(key) is None


def test_the_secret_is_not_in_the_file(path: Path) -> None:
    with Catalog(SqliteRows(path)) as catalog:
        key = catalog.create_key("cam")
    secret = key.rpartition("_")[2]
    assert len(bytes.fromhex(secret)) == 16
    for file in path.parent.iterdir():
        assert secret.encode() not in file.read_bytes()


def test_a_revoked_key_opens_nothing(again: Again) -> None:
    with again() as catalog:
        key, kept = catalog.create_key("cam"), catalog.create_key("cam")
        first = catalog.all_keys()[0]
        assert catalog.opens("cam", first.id)
        assert catalog.revoke_key(first.id)
        assert not catalog.revoke_key(first.id)
        assert not catalog.revoke_key("00000000")
        assert not catalog.opens("cam", first.id)
        assert opened(catalog, key) is None
        assert opened(catalog, kept) == "cam"


def test_no_clock_that_is_set_back_brings_a_revoked_key_to_life(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    with again() as catalog:
        keys = [catalog.create_key("cam") for _ in range(3)]
        at_once, cut_short, _ = (row.id for row in catalog.all_keys())
        catalog.revoke_key(at_once)
        catalog.revoke_key(cut_short, grace_s=60.0)
        catalog.revoke_key(cut_short)
        now_s = time.time()
        monkeypatch.setattr("origin.catalog.time.time", lambda: now_s - 3600.0)
        assert [opened(catalog, key) for key in keys] == [None, None, "cam"]
        assert not any(catalog.opens("cam", key_id) for key_id in (at_once, cut_short))
        assert not catalog.revoke_key(at_once)
        assert [row.id for row in catalog.all_keys()][:2] == [at_once, cut_short]


def test_a_key_may_go_on_for_a_while(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    with again() as catalog:
        old = catalog.create_key("cam")
        new = catalog.rotate_keys("cam", grace_s=60.0)
        assert [opened(catalog, key) for key in (old, new)] == ["cam", "cam"]
        first, second = catalog.all_keys()
        assert first.revoked_s == first.created_s + 60
        assert second.revoked_s is None
        now_s = time.time()
        monkeypatch.setattr("origin.catalog.time.time", lambda: now_s + 61.0)
        assert [opened(catalog, key) for key in (old, new)] == [None, "cam"]
        assert not catalog.opens("cam", first.id)


def test_a_grace_time_can_be_cut_short_but_not_extended(again: Again) -> None:
    with again() as catalog:
        old = catalog.create_key("cam")
        catalog.rotate_keys("cam", grace_s=60.0)
        first = catalog.all_keys()[0]
        assert catalog.revoke_key(first.id, grace_s=600.0)
        assert catalog.all_keys()[0].revoked_s == first.revoked_s
        assert catalog.revoke_key(first.id)
        assert opened(catalog, old) is None


def test_another_process_adds_and_revokes_a_key(again: Again) -> None:
    """Who only asks for the version learns that something is new."""
    with again() as server, again() as command:
        before = server.version()
        key = command.create_key("cam")
        soon(lambda: opened(server, key) == "cam")
        assert server.version() != before
        before = server.version()
        (row,) = command.all_keys()
        assert command.revoke_key(row.id)
        soon(lambda: opened(server, key) is None)
        assert server.version() != before
        before = server.version()
        assert server.version() == before


def test_keys_of_a_stream_are_bounded(again: Again) -> None:
    with again() as catalog:
        for _ in range(MAX_KEYS):
            catalog.create_key("cam")
        with pytest.raises(CatalogError, match="revoke one first"):
            catalog.create_key("cam")
        assert len(catalog.all_keys()) == MAX_KEYS


def test_of_revoked_keys_the_newest_are_remembered() -> None:
    with Catalog(SqliteRows(None)) as catalog:
        catalog.create_key("cam")
        for _ in range(2 * MAX_KEYS):
            catalog.rotate_keys("cam")
        assert len(catalog.all_keys()) == MAX_KEYS + 1
        assert [row.revoked_s is None for row in catalog.all_keys()].index(True) == MAX_KEYS


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", "x" * 65, "é", "a.b"])
def test_stream_names_are_checked(name: str) -> None:
    with Catalog(SqliteRows(None)) as catalog, pytest.raises(CatalogError, match="allowed"):
        catalog.create_key(name)


def test_states_survive_and_settle(again: Again) -> None:
    with again() as catalog:
        catalog.set_state("cam", "live")
        catalog.set_state("old", "ended")
    with again() as catalog:
        assert catalog.settle() == 1
        assert {row.name: row.state for row in catalog.streams()} == {
            "cam": "ended",
            "old": "ended",
        }
        assert catalog.state("nobody") is None


def test_a_data_centre_settles_only_its_own() -> None:
    rows = SqliteRows(None)
    Catalog(rows, home="east").set_state("cam", "live")
    west = Catalog(rows, home="west")
    west.set_state("other", "live")
    assert west.settle() == 1
    assert {row.name: (row.state, row.home) for row in west.streams()} == {
        "cam": ("live", "east"),
        "other": ("ended", "west"),
    }


def test_who_goes_on_with_a_stream_is_not_contradicted() -> None:
    rows = SqliteRows(None)
    east, west = Catalog(rows, home="east"), Catalog(rows, home="west")
    east.set_state("cam", "live", "a1")
    west.set_state("cam", "live", "a2")
    for state in ("ended", "live"):  # late, since the catalogue was away
        east.set_state("cam", state, "a1")
        assert (west.state("cam"), west.epoch("cam")) == ("live", "a2")
    east.set_state("cam", "live", "a3")
    assert west.epoch("cam") == "a3"
    east.set_state("cam", "ended")
    west.set_state("cam", "live", "a0")  # another broadcast, by another clock
    assert (east.state("cam"), east.epoch("cam")) == ("live", "a0")


def test_a_lease_is_held_by_one(again: Again) -> None:
    with again() as east, again() as west:
        assert east.hold("work.cam", "east", 60.0)
        assert not west.hold("work.cam", "west", 60.0)
        assert east.hold("work.cam", "east", 60.0)
        soon(lambda: west.holder("work.cam") == "east")
        west.let_go("work.cam", "west")
        assert not west.hold("work.cam", "west", 60.0)
        east.let_go("work.cam", "east")
        soon(lambda: west.hold("work.cam", "west", 0.0))  # a view may be a moment behind
        assert east.holder("work.cam") is None
        assert east.hold("work.cam", "east", 60.0)


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"this is no database" * 100)
    for place in (tmp_path / "noise", tmp_path):
        with pytest.raises(CatalogError, match="cannot be opened"):
            SqliteRows(place)


def test_a_newer_file_is_left_alone(path: Path) -> None:
    SqliteRows(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(CatalogError, match="newer software"):
        SqliteRows(path)


def test_discontinuities_are_counted_beyond_a_process(again: Again) -> None:
    with again() as catalog:
        assert catalog.discontinuities("cam") == 0
        catalog.set_discontinuities("cam", 3)
    with again() as catalog:
        assert catalog.discontinuities("cam") == 3
        catalog.set_discontinuities("cam", 2)  # another data centre was further
        assert catalog.discontinuities("cam") == 3


TABLES = """
CREATE TABLE streams (
    name TEXT PRIMARY KEY, state TEXT NOT NULL DEFAULT 'idle', created_s INTEGER NOT NULL,
    started_s INTEGER, ended_s INTEGER
) STRICT;
CREATE TABLE keys (
    id INTEGER PRIMARY KEY, stream TEXT NOT NULL REFERENCES streams(name),
    digest BLOB NOT NULL UNIQUE, created_s INTEGER NOT NULL, revoked_s INTEGER
) STRICT;
CREATE INDEX keys_of_stream ON keys(stream) WHERE revoked_s IS NULL;
INSERT INTO streams VALUES ('cam', 'live', 1, 2, NULL);
INSERT INTO keys VALUES (
    7, 'cam', x'66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925', 3, NULL);
INSERT INTO keys VALUES (
    8, 'cam', x'af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc', 3, 4);
"""
SINCE = """
ALTER TABLE streams ADD COLUMN discontinuities INTEGER NOT NULL DEFAULT 0;
UPDATE streams SET discontinuities = 5;
CREATE TABLE recordings (
    stream TEXT NOT NULL, epoch TEXT NOT NULL, revision INTEGER NOT NULL, began_s INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL, size_bytes INTEGER NOT NULL, lost INTEGER NOT NULL,
    kept_s INTEGER NOT NULL, PRIMARY KEY (stream, epoch)
) STRICT;
INSERT INTO recordings VALUES ('cam', 'aaa', 0, 200, 60000, 1048576, 0, 1763800000);
"""


@pytest.mark.parametrize("schema", [1, 3])
def test_a_catalogue_of_tables_is_brought_up_to_date(path: Path, schema: int) -> None:
    older = sqlite3.connect(path)
    older.executescript(TABLES + (SINCE if schema == 3 else ""))
    older.execute(f"PRAGMA user_version={schema}")
    older.close()
    for _ in range(2):
        with Catalog(SqliteRows(path)) as catalog:
            assert [(key.id, key.revoked_s) for key in catalog.all_keys()] == [
                ("66687aad", None),
                ("af5570f5", 4),
            ]
            assert catalog.opens("cam", "66687aad")
            assert not catalog.opens("cam", "af5570f5")
            (stream,) = catalog.streams()
            assert (stream.state, stream.started_s) == ("live", 2)
            assert stream.discontinuities == (5 if schema == 3 else 0)
            found = [recording("aaa", 200)] if schema == 3 else []
            assert catalog.recordings() == found


def recording(epoch: str, began_s: int, revision: int = 0, lost: int = 0) -> RecordingRow:
    return RecordingRow(
        stream="cam",
        epoch=epoch,
        revision=revision,
        began_s=began_s,
        duration_ms=60_000,
        size_bytes=1 << 20,
        lost=lost,
        kept_s=1_763_800_000,
    )


def test_recordings_are_listed_in_the_order_they_began(again: Again) -> None:
    older, newer = recording("zz", 100), recording("aaa", 200)
    with again() as catalog:
        catalog.set_recording(newer)
        catalog.set_recording(older)
        assert catalog.recordings() == [older, newer]
        assert catalog.drop_recording("cam", "zz")
        assert not catalog.drop_recording("cam", "zz")
    with again() as catalog:
        assert catalog.recordings() == [newer]


def test_an_older_revision_changes_nothing(again: Again) -> None:
    with again() as catalog:
        catalog.set_recording(recording("aaa", 200, revision=2, lost=1))
        catalog.set_recording(recording("aaa", 200, revision=1, lost=9))
        assert [row.lost for row in catalog.recordings()] == [1]
        catalog.set_recording(recording("aaa", 200, revision=3))
        assert [row.lost for row in catalog.recordings()] == [0]


def test_rotated_keys_leave_one(again: Again) -> None:
    with again() as catalog:
        old = [catalog.create_key("cam") for _ in range(MAX_KEYS)]
        other = catalog.create_key("other")
        new = catalog.rotate_keys("cam")
        assert [opened(catalog, key) for key in (new, other)] == ["cam", "other"]
        assert {opened(catalog, key) for key in old} == {None}
        with pytest.raises(CatalogError, match="found no key"):
            catalog.rotate_keys("nobody")


def test_a_full_ring_is_rotated_with_a_grace_time() -> None:
    """There is room for the new key, whatever there was: the oldest pays for it."""
    with Catalog(SqliteRows(None)) as catalog:
        old = [catalog.create_key("cam") for _ in range(MAX_KEYS)]
        new = catalog.rotate_keys("cam", grace_s=60.0)
        assert [opened(catalog, key) for key in (*old[1:], new)] == ["cam"] * MAX_KEYS
        assert opened(catalog, old[0]) is None


def test_deletions_are_remembered(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DELETIONS", 2)
    with again() as catalog:
        for number, epoch in enumerate(("aaa", "bbb", "ccc")):
            monkeypatch.setattr("origin.catalog.time.time", lambda at=number: 1000.0 + at)
            catalog.set_recording(recording(epoch, 200))
            assert catalog.drop_recording("cam", epoch, [f"/vod/cam/{epoch}/"])
        assert not catalog.drop_recording("cam", "aaa", ["/vod/cam/aaa/"])
    with again() as catalog:
        assert [(each.epoch, each.at_s, each.paths) for each in catalog.deletions()] == [
            ("bbb", 1001, ("/vod/cam/bbb/",)),
            ("ccc", 1002, ("/vod/cam/ccc/",)),
        ]
        assert catalog.gone() == [("cam", "/vod/cam/bbb/"), ("cam", "/vod/cam/ccc/")]


def test_what_root_makes_belongs_to_who_owns_the_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that an operator made before the server's first start were of a file that this could
    not write, and no stream was written down."""
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *what: given.append(what))
    SqliteRows(path).close()
    owner = path.parent.stat()
    assert (str(path), owner.st_uid, owner.st_gid) in given
    assert {name for name, _, _ in given} == {f"{path}{end}" for end in ("", "-wal", "-shm")}
    given.clear()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    SqliteRows(path).close()
    assert given == []
