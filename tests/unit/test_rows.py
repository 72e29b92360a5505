"""The two stores of the catalogue: origin/rows_sqlite.py, origin/rows_nats.py, origin/nats_link.py.

What both promise is tested on both; then what happens when the server is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nats.js import JetStreamContext

from origin.nats_link import NatsPlace
from origin.rows import NEW, AwayError, CatalogError, ChangedError, Rows, change
from origin.rows_nats import NatsRows
from origin.rows_sqlite import SqliteRows
from tests.nats_server import Nats, nats_server

LIMIT_S = 15.0

Again = Callable[[], Rows]


@pytest.fixture(params=["file", "nats"])
def again(request: pytest.FixtureRequest, tmp_path: Path, nats: Nats) -> Iterator[Again]:
    """One more process's view of the same store."""
    views: list[Rows] = []

    def opened() -> Rows:
        if request.param == "file":
            views.append(SqliteRows(tmp_path / "rows.db"))
        else:
            views.append(NatsRows(nats.place(tmp_path.name), SqliteRows(None)))
        return views[-1]

    yield opened
    for view in views:
        view.close()


def soon(holds: Callable[[], object]) -> None:
    until = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_value_is_changed_only_from_what_it_was(again: Again) -> None:
    rows = again()
    assert rows.get("a.b") is None
    rows.put("a.b", b"1", NEW)
    first = rows.get("a.b")
    assert first is not None
    with pytest.raises(ChangedError):
        rows.put("a.b", b"2", NEW)
    rows.put("a.b", b"2", first.revision)
    with pytest.raises(ChangedError):
        rows.put("a.b", b"3", first.revision)
    with pytest.raises(ChangedError):
        rows.drop("a.b", first.revision)
    second = rows.get("a.b")
    assert second is not None
    assert second.value == b"2"
    rows.drop("a.b", second.revision)
    assert rows.get("a.b") is None
    with pytest.raises(ChangedError):
        rows.put("a.b", b"4", second.revision)
    rows.put("a.b", b"5", NEW)
    third = rows.get("a.b")
    assert third is not None
    assert third.revision not in (first.revision, second.revision)


def test_rows_are_listed_by_their_first_words(again: Again) -> None:
    rows = again()
    for key in ("a.b", "a.a", "a", "ab.c", "a-b.c", "b.a", "a.b.c"):
        rows.put(key, key.encode(), NEW)
    assert [row.key for row in rows.below("a")] == ["a.a", "a.b", "a.b.c"]
    assert [row.value for row in again().below("a.b")] == [b"a.b.c"]


def test_nothing_is_lost_when_many_change_one_value(again: Again) -> None:
    views = [again() for _ in range(3)]
    changes = 20

    def count(rows: Rows) -> None:
        for _ in range(changes):
            while True:
                try:
                    change(rows, "n", lambda old: str(int(old or b"0") + 1).encode())
                    break
                except AwayError:
                    continue  # too many came first

    threads = [threading.Thread(target=count, args=(view,)) for view in views]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    (found,) = {row.value for row in [again().get("n")] if row}
    assert int(found) == len(views) * changes


def test_a_change_that_makes_no_difference_writes_nothing(again: Again) -> None:
    rows = again()
    rows.put("a", b"1", NEW)
    before = rows.version()
    assert change(rows, "a", lambda old: old) == b"1"
    assert change(rows, "b", lambda old: old) is None
    assert rows.version() == before


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Nats]:
    """A server that a test may kill."""
    (tmp_path / "server").mkdir()
    with nats_server(tmp_path / "server") as found:
        yield found


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = ("origin.nats_link", "origin.rows_nats")
    return [record.message for record in caplog.records if record.name in ours]


def test_what_was_known_is_known_while_the_server_is_away(
    own: Nats, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a process that goes on, in one that is started meanwhile, and none has to be started
    again when the server is back."""
    caplog.set_level(logging.INFO)
    cache = tmp_path / "cache.db"
    rows = NatsRows(own.place("b"), SqliteRows(cache))
    rows.put("a.kept", b"1", NEW)
    rows.put("a.gone", b"1", NEW)
    own.stop()
    soon(lambda: lines(caplog))
    assert [row.key for row in rows.below("a")] == ["a.gone", "a.kept"]
    for _ in range(3):
        with pytest.raises(AwayError, match="does not answer"):
            change(rows, "a.kept", lambda _: b"2")
    rows.close()
    rows = NatsRows(own.place("b"), SqliteRows(cache))
    assert [row.key for row in rows.below("a")] == ["a.gone", "a.kept"]
    own.start()
    other = NatsRows(own.place("b"), SqliteRows(None))
    change(other, "a.gone", lambda _: None)
    change(other, "a.kept", lambda _: b"3")
    soon(lambda: [row.value for row in rows.below("a")] == [b"3"])
    assert change(rows, "a.kept", lambda _: b"4") == b"4"
    for view in (rows, other):
        view.close()
    lost, before, back = lines(caplog)
    assert "does not answer, going on with what is known" in lost
    assert before.startswith("the catalogue is as it was: nats://127.0.0.1:")
    assert back == "the catalogue's server is back"


def test_who_hears_of_a_loss_before_the_link_does_need_not_log_it(
    nats: Nats, tmp_path: Path
) -> None:
    """It was logged by both, whenever a write came just then."""
    rows = NatsRows(nats.place(tmp_path.name), SqliteRows(None))

    async def cut(js: JetStreamContext) -> None:
        await js._nc.close()
        await js.account_info()

    with pytest.raises(AwayError, match="connection closed") as caught:
        rows.link.call(cut)
    assert caught.value.logged
    rows.close()


def test_what_went_while_nobody_watched_is_forgotten(own: Nats, tmp_path: Path) -> None:
    cache = tmp_path / "cache.db"
    rows = NatsRows(own.place("b"), SqliteRows(cache))
    rows.put("a.gone", b"1", NEW)
    rows.close()
    other = NatsRows(own.place("b"), SqliteRows(None))
    change(other, "a.gone", lambda _: None)
    other.close()
    rows = NatsRows(own.place("b"), SqliteRows(cache))
    assert rows.get("a.gone") is None
    rows.close()


def test_a_server_that_never_was_there_is_one_line() -> None:
    with pytest.raises(
        CatalogError, match=r"catalog\.nats: found nats://127\.0\.0\.1:1, which cannot"
    ):
        NatsRows(NatsPlace(urls=("nats://127.0.0.1:1",)), SqliteRows(None))


def test_a_wrong_token_is_one_line(nats: Nats) -> None:
    with pytest.raises(CatalogError, match="which cannot be used: "):
        NatsRows(NatsPlace(urls=(nats.url,), token="another"), SqliteRows(None))
