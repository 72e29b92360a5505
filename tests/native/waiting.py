"""Viewers who ask together and are read one after the other."""

from __future__ import annotations

import pytest

from tests.native.kit import Answer, Edge, Viewer, get

CLOSE = "Connection: close"
BODY = bytes(range(256)) * 4
SMALL_AND_LARGE = pytest.mark.parametrize("heap", [0, 16384], ids=["memfd", "heap"])


def ask_all(edge: Edge, number: int, target: str, *fields: str) -> list[Viewer]:
    """So many viewers that asked, each on a connection of its own."""
    viewers = [edge.viewer() for _ in range(number)]
    for viewer in viewers:
        viewer.send(get(target, *fields, CLOSE))
    return viewers


def closing(viewers: list[Viewer]) -> list[Answer]:
    try:
        return [viewer.answer() for viewer in viewers]
    finally:
        for viewer in viewers:
            viewer.close()
