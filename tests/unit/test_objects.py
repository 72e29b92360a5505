"""origin/archive/objects.py on a folder and on a real S3 server: the same laws."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.archive.objects import ConflictError, MissingError, ObjectError, Objects, Place
from tests.s3_server import S3, s3_server

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as found:
        yield found


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, s3: S3, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Objects(Place(url=str(tmp_path / "store")))
    return Objects(s3.place(tmp_path.name))


def test_an_object_is_created_once(objects: Objects) -> None:
    assert objects.create("cam/a/v/1.m4s", b"one")
    assert not objects.create("cam/a/v/1.m4s", b"one")
    with pytest.raises(ConflictError, match=r"cam/a/v/1\.m4s"):
        objects.create("cam/a/v/1.m4s", b"two")
    assert objects.read("cam/a/v/1.m4s") == b"one"


def test_ranges_are_read(objects: Objects) -> None:
    objects.create("cam/a/v/1.m4s", bytes(range(100)))
    found = asyncio.run(objects.read_async("cam/a/v/1.m4s", 10, 20))
    assert found == bytes(range(10, 20))


def test_what_is_not_there_is_missing(objects: Objects) -> None:
    with pytest.raises(MissingError):
        objects.read("cam/no")
    with pytest.raises(MissingError):
        asyncio.run(objects.read_async("cam/no", 0, 1))


def test_what_is_below_a_folder_is_listed_and_deleted(objects: Objects) -> None:
    objects.create("cam/a/v/1.m4s", b"1")
    objects.create("cam/a/v/2.m4s", b"22")
    objects.create("cam/ab/v/1.m4s", b"1")
    assert sorted(objects.list("cam/a")) == [("cam/a/v/1.m4s", 1), ("cam/a/v/2.m4s", 2)]
    objects.delete(["cam/a/v/1.m4s", "cam/a/v/2.m4s", "cam/a/v/3.m4s"])
    assert list(objects.list("cam/a")) == []
    assert list(objects.list("cam/nothing")) == []
    assert objects.read("cam/ab/v/1.m4s") == b"1"


def test_a_store_that_is_away_is_one_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        place = Place(url="s3://b", endpoint=url, region="r", access_key="a", secret_key="s")
        objects = Objects(place)
        for deed in (
            lambda: objects.create("k", b"1"),
            lambda: objects.read("k"),
            lambda: list(objects.list("k")),
            lambda: objects.delete(["k"]),
            lambda: asyncio.run(objects.read_async("k", 0, 1)),
        ):
            with pytest.raises(ObjectError) as error:
                deed()
            assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ObjectError, match=r"archive\.store"):
        Objects(Place(url=str(tmp_path / "file" / "deeper")))
