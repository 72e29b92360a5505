"""Asks for a list of paths one after another on one connection.

For hit ratios: order matters, speed does not.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httptools

from .crowd import CONNECT_TIMEOUT_S, request

_READ_BYTES: Final = 1 << 20


class _Counter:
    def __init__(self) -> None:
        self.answered = 0
        self.refused = 0
        self.parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        self.answered += 1
        self.refused += self.parser.get_status_code() != 200


def main(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Params: address, file (one path a line). Yields how many were answered and refused."""
    address = (params["address"][0], int(params["address"][1]))
    counter = _Counter()
    with socket.create_connection(address, CONNECT_TIMEOUT_S) as connection:
        for number, path in enumerate(Path(params["file"]).read_text().split(), 1):
            connection.sendall(request(address, path))
            while counter.answered < number:
                data = connection.recv(_READ_BYTES)
                if not data:
                    yield {"answered": counter.answered, "refused": number - counter.answered}
                    return
                counter.parser.feed_data(data)
    yield {"answered": counter.answered, "refused": counter.refused}
