"""The way out of log lines: nobody waits for who reads them, and every line is accounted for."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from edgecache.outlet import Outlet

LINE = "x" * 99 + "\n"
ROOM = 700_000


@dataclass
class Way:
    """What an outlet writes to, and its other end."""

    reading: int  # -1: none
    writing: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.outlet = Outlet(self.writing, "{} lost\n".format, self.counts, waiting_bytes=ROOM)

    def end_reader(self) -> None:
        if self.reading >= 0:
            os.close(self.reading)
        self.reading = -1

    def fill(self) -> int:
        """Lines until one is dropped; how many."""
        sent = 0
        while not self.counts["lines_dropped"]:
            self.outlet.write(LINE)
            sent += 1
        return sent


def pipe() -> tuple[int, int]:
    return os.pipe()


def journal() -> tuple[int, int]:
    """As systemd gives it: a stream socket."""
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


@pytest.fixture(params=["any", "old"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """This one, and one that cannot write to a pipe without waiting (before Linux 6.4)."""
    if request.param == "old":

        def refuses(*_: object) -> int:
            raise OSError(errno.EOPNOTSUPP, "pwritev2")

        monkeypatch.setattr(os, "pwritev", refuses)
    return str(request.param)


@pytest.fixture(params=[pipe, journal], ids=["pipe", "journal"])
def way(request: pytest.FixtureRequest, kernel: str) -> Iterator[Way]:
    found = Way(*request.param())
    yield found
    found.end_reader()
    os.close(found.writing)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "log"]


def test_a_line_that_is_taken_needs_no_thread(way: Way) -> None:
    """So a process that is read leaves nothing behind when it dies, and forks as it is."""
    for number in range(3):
        way.outlet.write(f"{number}\n")
        assert threads() == []
    assert os.read(way.reading, 99) == b"0\n1\n2\n"
    assert way.counts == {"lines_written": 3}


def test_who_reads_nothing_holds_nobody_up_and_is_told_what_it_missed(way: Way) -> None:
    """What is missing is missing in one place, and a line there says how much."""
    sent = way.fill()
    for number in range(10):
        way.outlet.write(f"{number} short enough, but behind the gap\n")
    with open(way.reading, closefd=False) as out:
        read = [next(out)]
        while not read[-1].endswith("lost\n"):
            read.append(next(out))
        way.outlet.close()
        assert threads() == []
        way.outlet.write("after it\n")
        assert next(out) == "after it\n"
    *lines, lost = read
    assert set(lines) == {LINE}
    assert (int(lost.split()[0]), len(lines)) == (11, sent - 1)
    assert way.counts == {"lines_dropped": 11, "lines_written": len(lines) + 2}


def test_a_line_longer_than_the_room_that_is_left_is_whole(way: Way) -> None:
    """A traceback: begun at once, and finished by the thread."""
    long = "y" * 600_000 + "\n"
    way.outlet.write(long)
    way.outlet.write("behind it\n")
    with open(way.reading, closefd=False) as out:
        assert [next(out), next(out)] == [long, "behind it\n"]
    way.outlet.close()
    assert way.counts == {"lines_written": 2}


def test_the_end_waits_for_a_reader_and_not_for_ever(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.fill()
    with monkeypatch.context() as impatient:
        impatient.setattr("edgecache.outlet._END_S", 0.02)
        way.outlet.close()
    assert threads() == ["log"]
    way.end_reader()
    way.outlet.close()
    assert threads() == []


def test_a_reader_that_is_gone_loses_lines_only(way: Way) -> None:
    way.end_reader()
    way.outlet.write(LINE)
    assert way.counts == {"lines_dropped": 1}


def test_a_full_disk_loses_lines_only(kernel: str) -> None:
    with open("/dev/full", "wb") as full:
        way = Way(-1, full.fileno())
        way.outlet.write(LINE)
        way.outlet.close()
        assert way.counts == {"lines_dropped": 1}


def test_a_descriptor_that_somebody_made_non_blocking(way: Way) -> None:
    """Its mode belongs to all who share it."""
    os.set_blocking(way.writing, False)
    sent = way.fill()
    with open(way.reading, closefd=False) as out:
        lines = [next(out) for _ in range(sent)]
    assert lines == [LINE] * (sent - 1) + ["1 lost\n"]


def test_without_a_thread_to_be_had(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of threads lines are lost, and a later one finds out for all of them."""

    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refuses)
        sent = way.fill()
        way.outlet.write(LINE)
    way.outlet.write(LINE)
    with open(way.reading, closefd=False) as out:
        lines = [next(out) for _ in range(sent)]
    assert lines == [LINE] * (sent - 1) + ["3 lost\n"]


def test_lines_of_many_threads_are_whole_and_all_there(way: Way) -> None:
    """Whoever logs, while the reader is slow."""

    def logs(name: int) -> None:
        for number in range(4_000):
            way.outlet.write(f"{name} {number} {LINE}")

    writers = [threading.Thread(target=logs, args=(name,)) for name in range(3)]
    for writer in writers:
        writer.start()
    read: list[str] = []
    lost = notices = 0
    with open(way.reading, closefd=False) as out:
        while len(read) + lost < 12_000:
            line = next(out)
            if line.endswith("lost\n"):
                lost += int(line.split()[0])
                notices += 1
            else:
                read.append(line)
    for writer in writers:
        writer.join()
    way.outlet.close()
    for name in range(3):
        numbers = [int(line.split()[1]) for line in read if line.startswith(f"{name} ")]
        assert numbers == sorted(numbers), "each in its order"
    assert way.counts["lines_dropped"] == lost
    assert way.counts["lines_written"] == len(read) + notices
