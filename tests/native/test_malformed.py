"""Requests as weapons: alone, in pieces, and behind valid ones the answer is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.native.corpus import ACCEPTED, CASES, REFUSED, TARGETS, Case
from tests.native.kit import Answer, Edge, Viewer, get

BODY = b"hello world"
SMALL = [case for case in CASES if len(case.data) < 300]


@pytest.fixture
def edge(edges: Callable[..., Edge]) -> Iterator[Edge]:
    """Has /a, and remembers that /%2561 is not there."""
    made = edges()
    made.put("/a", BODY)
    not_found = made.plane.open(b"/%2561")
    assert not_found is not None
    not_found.fail(404, ttl_ms=3_600_000)
    yield made
    assert made.count("misses") == 0, "nothing of it was ever asked of an origin"


def judge(viewer: Viewer, case: Case) -> None:
    answer = viewer.answer()
    assert (answer.status, answer.closes) == (case.status, case.closes), case.name
    if case.closes:
        assert viewer.at_end(), case.name
    else:
        viewer.send(get("/a"))
        assert viewer.answer().body == BODY, case.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_alone(edge: Edge, case: Case) -> None:
    refused = edge.count("bad_requests")
    with edge.viewer() as viewer:
        viewer.send_all(case.data)
        judge(viewer, case)
    counted = case in REFUSED or case in TARGETS
    assert edge.count("bad_requests") - refused == counted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("before", [1, 2])
def test_behind_valid_ones(edge: Edge, case: Case, before: int) -> None:
    """The valid ones are answered first, in order; then this one; then nothing."""
    with edge.viewer() as viewer:
        viewer.send_all(get("/a", "X: y") * before + case.data)
        assert [viewer.answer().body for _ in range(before)] == [BODY] * before
        judge(viewer, case)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_split_at_every_byte(edge: Edge, case: Case) -> None:
    """The same answer wherever the segments end. It may come before the last byte is sent."""
    viewers = []
    for at in range(1, len(case.data)):
        viewers.append(edge.viewer())
        viewers[-1].send(case.data[:at])
    edge.await_count("accepted", edge.count("closed") + len(viewers))
    for at, viewer in enumerate(viewers, start=1):
        viewer.send_all(case.data[at:])
    for viewer in viewers:
        answer: Answer = viewer.answer()
        assert (answer.status, answer.closes) == (case.status, case.closes)
        viewer.close()


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_one_byte_a_write(edge: Edge, case: Case) -> None:
    with edge.viewer() as viewer:
        viewer.sock.setsockopt(6, 1, 1)  # TCP_NODELAY
        for at in range(len(case.data)):
            viewer.send_all(case.data[at : at + 1])
        judge(viewer, case)


def test_all_of_them_on_one_edge(edge: Edge) -> None:
    """What is accepted stays accepted when all the rest has been tried."""
    with edge.viewer() as viewer:
        for case in ACCEPTED * 3:
            viewer.send(case.data)
            assert viewer.answer().status == case.status, case.name
