"""Listening sockets that were made by somebody else: which door they are, and for how many."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edgecache.config import load_config
from edgecache.control import sockets
from edgecache.making import bind


def test_descriptors_have_room_before_they_come() -> None:
    """A table that grows while threads share it stops whoever accepts for a grace period."""
    code = "from edgecache.control.sockets import make_room; make_room(900);"
    code += "print(open('/proc/self/status').read())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout.partition("FDSize:")[2].split()[0]) >= 900


def test_each_queue_of_connections_keeps_somebody_who_accepts() -> None:
    made = sockets.listen("http.listen", "127.0.0.1:0", 3)
    try:
        assert sockets.spread(made, 2) == made
        spread = sockets.spread(made, 5)
        assert spread[:3] == made
        assert [item.getsockname() for item in spread[3:]] == [made[0].getsockname()] * 2
        for item in spread[3:]:
            item.close()
    finally:
        for item in made:
            item.close()


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("127.0.0.1:{port}", True), ("localhost:{port}", True), ("127.0.0.1:0", True),
        ("127.0.0.2:{port}", False), (":{port}", False), ("127.0.0.1:1", False),
        ("[::1]:{port}", False), ("unix:/tmp/x", False),
    ],
)  # fmt: skip
def test_a_socket_fits_what_its_setting_asks_for(address: str, fits: bool) -> None:
    with sockets.listen("http.listen", "127.0.0.1:0")[0] as item:
        port = item.getsockname()[1]
        assert sockets.fits(item, address.format(port=port)) is fits


def test_handed_over_sockets_are_served_and_stay_with_who_keeps_them(tmp_path: Path) -> None:
    options = ["http.listen=127.0.0.1:0", "http.workers=1", f"admin.listen=unix:{tmp_path}/admin"]
    config = load_config(None, [*options, "takeover.socket=/x"]).value
    handed = {
        "http": sockets.listen("http.listen", "127.0.0.1:0", 2),
        "admin": sockets.listen("admin.listen", f"unix:{tmp_path}/admin"),
        "push": sockets.listen("push.listen", "127.0.0.1:0"),  # not in the settings of now
    }
    found, kept = bind(config, handed, frozenset({"http", "push"}))
    assert found == {"http": handed["http"], "admin": handed["admin"]}
    assert kept == {"http"}
    assert [item.fileno() for item in handed.pop("push")] == [-1]
    for items in handed.values():
        for item in items:
            assert item.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert not os.get_inheritable(item.fileno())
            item.close()
