"""What a service manager hands over: which socket is which door's."""

from __future__ import annotations

import fcntl
import os
import socket

import pytest

from edgecache.config import EdgeConfig
from edgecache.control import manager
from edgecache.making import bind
from tests.sockets import free_port

DOORS = ("admin", "http", "ingest", "push", "rtmps", "srt", "whip")


def test_every_door_gets_back_what_was_kept_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of datagrams: as one of the viewers' sockets, WHIP's would accept nobody."""
    kinds = {name: socket.SOCK_DGRAM if name in ("srt", "whip") else socket.SOCK_STREAM
             for name in DOORS}  # fmt: skip
    port = free_port()
    config = EdgeConfig.model_validate(
        {
            "http": {"listen": f"127.0.0.1:{port}", "workers": 1},
            "push": {"listen": ""},
            "admin": {"listen": ""},
            "ingest": {"http": True, "whip_listen": f"127.0.0.1:{port}"},
            "keys": {"k": {"secret": "sixteen or more letters"}},
        }
    )
    base = 700
    for number, name in enumerate(DOORS):
        with socket.socket(socket.AF_INET, kinds[name]) as item:
            if name in ("http", "whip"):
                item.bind(("127.0.0.1", port))
            assert fcntl.fcntl(item, fcntl.F_DUPFD, base + number) == base + number
    monkeypatch.setattr(manager, "FIRST_FD", base)
    names = ":".join(f"bound.{name}" for name in DOORS)
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(DOORS)), "LISTEN_FDNAMES": names}
    units, bound = manager.inherited(told)
    assert (units, {name: [each.type for each in items] for name, items in bound.items()}) == (
        {},
        {name: [kinds[name]] for name in DOORS},
    )
    found, kept = bind(config, {}, frozenset(), (units, bound))
    assert kept == frozenset()
    assert {name: [each.fileno() for each in items] for name, items in found.items()} == {
        "http": [base + DOORS.index("http")],
        "whip": [base + DOORS.index("whip")],
    }
    for items in found.values():
        items[0].close()


def test_what_nobody_wants_any_more_is_closed() -> None:
    """After a reload with another address the old one stayed open, and connections to it hung."""
    old, new = free_port(), free_port()
    config = EdgeConfig.model_validate(
        {"http": {"listen": f"127.0.0.1:{new}", "workers": 1}, "admin": {"listen": ""}}
    )
    handed = {name: [socket.create_server(("127.0.0.1", port))]
              for name, port in (("http", old), ("admin", 0))}  # fmt: skip
    found, _ = bind(config, handed, frozenset())
    assert [item.fileno() for items in handed.values() for item in items] == [-1, -1]
    assert found["http"][0].getsockname()[1] == new
    for items in found.values():
        items[0].close()
