"""origin/jobs.py and origin/jobs_nats.py: what both promise, on both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from origin.jobs import QUEUE, Job, Jobs, RowJobs
from origin.jobs_nats import NatsJobs
from origin.rows import AwayError, Rows
from origin.rows_nats import NatsRows
from origin.rows_sqlite import SqliteRows
from tests.looped import eventually, looped
from tests.nats_server import Nats, nats_server

Again = Callable[..., Jobs]
SHORT_S = 0.3


@pytest.fixture(params=["file", "nats"])
def again(request: pytest.FixtureRequest, tmp_path: Path, nats: Nats) -> Iterator[Again]:
    """The same jobs, seen by one more process."""
    views: list[Rows] = []

    def opened(lease_s: float = 30.0, queue: str = QUEUE) -> Jobs:
        if request.param == "file":
            views.append(SqliteRows(tmp_path / "rows.db"))
            return RowJobs(views[-1], lease_s=lease_s, queue=queue)
        rows = NatsRows(nats.place(tmp_path.name), SqliteRows(None))
        views.append(rows)
        return NatsJobs(rows.link, lease_s=lease_s, queue=queue)

    yield opened
    for view in views:
        view.close()


async def taken(jobs: Jobs) -> Job:
    job = await jobs.take(10.0)
    assert job is not None
    return job


@looped
async def test_a_job_is_taken_by_one_worker_and_gone_when_it_is_done(again: Again) -> None:
    here, there = again(), again()
    for name in ("a.1", "a.2", "b.1"):
        await here.offer(name, f"do {name}".encode())
    await here.offer("a.1", b"once is enough")
    jobs = [await taken(jobs) for jobs in (here, there, here)]
    assert {(job.name, job.body, job.tries) for job in jobs} == {
        (name, f"do {name}".encode(), 1) for name in ("a.1", "a.2", "b.1")
    }
    assert await there.take(0.2) is None
    assert await there.open("a") == {"a.1", "a.2"}
    for job in jobs:
        await job.done()
    assert await there.open("a") == set()
    await here.offer("a.1", b"again")
    assert (await taken(there)).body == b"again"


@looped
async def test_what_a_dead_worker_had_goes_to_another(again: Again) -> None:
    here, there = again(SHORT_S), again(SHORT_S)
    await here.offer("a.1", b"x")
    first = await taken(here)
    second = await taken(there)
    assert (second.name, second.tries) == (first.name, 2)
    await second.done()
    await first.retry(0.0)  # it was not dead after all; too late
    assert await here.open("a") == set()
    assert await here.take(2 * SHORT_S) is None


@looped
async def test_who_beats_keeps_the_job(again: Again) -> None:
    here, there = again(1.2), again(1.2)
    await here.offer("a.1", b"x")
    job = await taken(here)
    waiting = asyncio.create_task(there.take(2.0))
    while not waiting.done():
        await job.beat()
        await asyncio.sleep(0.05)
    assert waiting.result() is None


@looped
async def test_what_is_given_back_is_anybodys(again: Again) -> None:
    here, there = again(), again()
    await here.offer("a.1", b"x")
    await (await taken(here)).retry(0.0)
    job = await taken(there)
    assert job.tries == 2
    await job.retry(30.0)
    assert await here.take(0.2) is None
    assert await here.open("a") == {"a.1"}


@looped
async def test_what_is_withdrawn_is_nobodys(again: Again) -> None:
    """Also when somebody has it, who may go on as he likes."""
    here, there = again(SHORT_S), again(SHORT_S)
    await here.offer("a.1", b"x")
    await here.offer("a.2", b"x")
    await here.withdraw("a.1")
    job = await taken(there)
    assert job.name == "a.2"
    await here.withdraw("a.2")
    await here.withdraw("a.3")
    assert await here.open("a") == set()
    await job.retry(0.0)
    assert await there.take(2 * SHORT_S) is None
    await here.offer("a.1", b"again")
    assert ((await taken(there)).body, await here.open("a")) == (b"again", {"a.1"})


@looped
async def test_one_queue_does_not_see_another(again: Again) -> None:
    here, live = again(), again(queue="live-jobs")
    await live.offer("a.1", b"x")
    assert (await here.open("a"), await here.take(0.2)) == (set(), None)
    assert ((await taken(live)).name, await live.open("a")) == ("a.1", {"a.1"})


@looped
async def test_jobs_outlive_the_server(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with nats_server(tmp_path / "server") as own:
        rows = NatsRows(own.place("b"), SqliteRows(None))
        jobs = NatsJobs(rows.link, lease_s=SHORT_S)
        await jobs.offer("a.1", b"x")
        job = await taken(jobs)
        own.stop()
        await eventually(lambda: rows.link.fault)
        for ask in (job.beat, job.done, lambda: jobs.take(0.1), lambda: jobs.open("a")):
            with pytest.raises(AwayError):
                await ask()
        own.start()
        await eventually(lambda: not rows.link.fault)
        again = await taken(jobs)
        assert (again.name, again.body) == ("a.1", b"x")
        await again.done()
        assert await jobs.open("a") == set()
        rows.close()
