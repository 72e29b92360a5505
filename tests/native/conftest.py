"""Every edge a test starts is stopped after it, and its ledger must close first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.native.kit import Edge, settled


@pytest.fixture
def edges() -> Iterator[Callable[..., Edge]]:
    """Makes edges with keyword arguments of Edge; each is proven at rest and stopped."""
    made: list[Edge] = []

    def make(**options: int | bool) -> Edge:
        made.append(Edge(**options))  # type: ignore[arg-type]
        return made[-1]

    try:
        yield make
        for edge in made:
            settled(edge)
    finally:
        for edge in made:
            edge.stop()
        made.clear()


@pytest.fixture
def edge(edges: Callable[..., Edge]) -> Edge:
    """One worker, default limits."""
    return edges()
