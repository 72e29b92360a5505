"""origin/catalog.py"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from origin.catalog import MAX_KEYS, Catalog, CatalogError, RecordingRow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


def test_a_key_opens_its_stream_and_no_other(path: Path) -> None:
    with Catalog(path) as catalog:
        key = catalog.create_key("cam_1")
        other = catalog.create_key("other")
        assert catalog.check_key(key) == "cam_1"
        assert catalog.check_key(key.replace("cam_1_", "other_")) is None
        assert catalog.check_key(key[:-1]) is None
        assert catalog.check_key(other) == "other"


@pytest.mark.parametrize("key", ["", "_", "cam", "cam_", "CAM_00", "a/b_00", "ü_00", "cam_\udcff"])
def test_nonsense_opens_nothing(path: Path, key: str) -> None:
    with Catalog(path) as catalog:
        catalog.create_key("cam")
        assert catalog.check_key(key) is None


def test_the_secret_is_not_in_the_file(path: Path) -> None:
    with Catalog(path) as catalog:
        key = catalog.create_key("cam")
    secret = key.rpartition("_")[2]
    assert len(bytes.fromhex(secret)) == 16
    for file in path.parent.iterdir():
        assert secret.encode() not in file.read_bytes()


def test_a_revoked_key_opens_nothing(path: Path) -> None:
    with Catalog(path) as catalog:
        key, kept = catalog.create_key("cam"), catalog.create_key("cam")
        first = catalog.keys()[0]
        assert catalog.revoke_key(first.id)
        assert not catalog.revoke_key(first.id)
        assert not catalog.revoke_key(999)
        assert catalog.check_key(key) is None
        assert catalog.check_key(kept) == "cam"


def test_another_process_adds_a_key(path: Path) -> None:
    """The command line writes while the server has the file open."""
    with Catalog(path) as server, Catalog(path) as command:
        assert server.check_key(command.create_key("cam")) == "cam"


def test_keys_of_a_stream_are_bounded(path: Path) -> None:
    with Catalog(path) as catalog:
        for _ in range(MAX_KEYS):
            catalog.create_key("cam")
        with pytest.raises(CatalogError, match="revoke one first"):
            catalog.create_key("cam")


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", "x" * 65, "é"])
def test_stream_names_are_checked(path: Path, name: str) -> None:
    with Catalog(path) as catalog, pytest.raises(CatalogError, match="allowed"):
        catalog.create_key(name)


def test_states_survive_and_settle(path: Path) -> None:
    with Catalog(path) as catalog:
        catalog.set_state("cam", "live")
        catalog.set_state("old", "ended")
    with Catalog(path) as catalog:
        assert catalog.settle() == 1
        assert {row.name: row.state for row in catalog.streams()} == {
            "cam": "ended",
            "old": "ended",
        }
        assert catalog.state("nobody") is None


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"this is no database" * 100)
    with pytest.raises(CatalogError, match="cannot be opened"):
        Catalog(tmp_path / "noise")
    with pytest.raises(CatalogError, match="cannot be opened"):
        Catalog(tmp_path)


def test_a_newer_file_is_left_alone(path: Path) -> None:
    Catalog(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(CatalogError, match="newer software"):
        Catalog(path)


def test_discontinuities_are_counted_beyond_a_process(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with Catalog(path) as catalog:
        assert catalog.discontinuities("cam") == 0
        catalog.set_discontinuities("cam", 3)
    with Catalog(path) as catalog:
        assert catalog.discontinuities("cam") == 3


def test_a_catalogue_of_schema_1_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with Catalog(path) as catalog:
        key = catalog.create_key("cam")
    older = sqlite3.connect(path)
    older.execute("ALTER TABLE streams DROP COLUMN discontinuities")
    older.execute("DROP TABLE recordings")
    older.execute("PRAGMA user_version=1")
    older.close()
    with Catalog(path) as catalog:
        assert catalog.check_key(key) == "cam"
        catalog.set_discontinuities("cam", 2)
        assert catalog.discontinuities("cam") == 2
        assert catalog.recordings() == []


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


def test_recordings_are_listed_in_the_order_they_began(tmp_path: Path) -> None:
    older, newer = recording("zz", 100), recording("aaa", 200)
    with Catalog(tmp_path / "catalog.db") as catalog:
        catalog.set_recording(newer)
        catalog.set_recording(older)
        assert catalog.recordings() == [older, newer]
        assert catalog.drop_recording("cam", "zz")
        assert not catalog.drop_recording("cam", "zz")
    with Catalog(tmp_path / "catalog.db") as catalog:
        assert catalog.recordings() == [newer]


def test_an_older_revision_changes_nothing(tmp_path: Path) -> None:
    with Catalog(tmp_path / "catalog.db") as catalog:
        catalog.set_recording(recording("aaa", 200, revision=2, lost=1))
        catalog.set_recording(recording("aaa", 200, revision=1, lost=9))
        assert [row.lost for row in catalog.recordings()] == [1]
        catalog.set_recording(recording("aaa", 200, revision=3))
        assert [row.lost for row in catalog.recordings()] == [0]


def test_rotated_keys_leave_one(tmp_path: Path) -> None:
    with Catalog(tmp_path / "catalog.db") as catalog:
        old = [catalog.create_key("cam") for _ in range(MAX_KEYS)]
        other = catalog.create_key("other")
        new = catalog.rotate_keys("cam")
        assert [catalog.check_key(key) for key in (new, other)] == ["cam", "other"]
        assert {catalog.check_key(key) for key in old} == {None}
        with pytest.raises(CatalogError, match="found no key"):
            catalog.rotate_keys("nobody")
