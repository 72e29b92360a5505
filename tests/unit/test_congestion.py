"""Which congestion control viewers get."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from edgecache.control import congestion


def _of(item: socket.socket) -> str:
    return item.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


@pytest.mark.parametrize(
    ("setting", "algorithm", "qdisc", "chosen"),
    [
        ("auto", "bbr", "pfifo_fast", "cubic"),
        ("auto", "bbr", "", "cubic"),  # inside a container: the default is not to be seen
        ("auto", "bbr2", "fq_codel", "cubic"),  # fq_codel queues fairly and does not pace
        ("auto", "bbr", "fq", ""),
        ("auto", "cubic", "fq_codel", ""),
        ("host", "bbr", "pfifo_fast", ""),
        ("reno", "bbr", "fq", "reno"),
    ],
)
def test_the_hosts_is_kept_unless_it_would_pace_with_a_timer_a_socket(
    setting: str, algorithm: str, qdisc: str, chosen: str
) -> None:
    assert congestion.choose(setting, algorithm, qdisc) == chosen


def test_what_a_listener_accepts_has_its_congestion_control() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        closing(socket.create_server(("127.0.0.1", 0))) as untouched,
    ):
        assert congestion.control("reno", [listener]) == "reno"
        assert congestion.control("host", [untouched]) == ""
        for door, wanted in ((listener, "reno"), (untouched, _of(untouched))):
            with closing(socket.create_connection(door.getsockname())):
                viewer, _ = door.accept()
                with closing(viewer):
                    assert _of(viewer) == wanted


def test_a_name_the_kernel_does_not_know_is_an_error_that_names_the_setting() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        pytest.raises(congestion.CongestionError, match=r"http\.congestion: found nonesuch"),
    ):
        congestion.control("nonesuch", [listener])
