"""HTTP/1.1 on a connection: order, keep-alive, deadlines, refusals, closing (native/http1.pxd)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from tests.native.kit import TYPE, Cut, Edge, Viewer, answers, eventually, get

CLOSE = "Connection: close"


def test_keep_alive_serves_many_on_one_connection(edge: Edge) -> None:
    edge.put("/a", b"hello")
    with edge.viewer() as viewer:
        bodies = [viewer.ask("/a").body for _ in range(100)]
    assert bodies == [b"hello"] * 100
    assert (edge.count("accepted"), edge.count("hits")) == (1, 100)


def test_connection_close_is_honoured(edge: Edge) -> None:
    edge.put("/a", b"hello")
    with edge.viewer() as viewer:
        answer = viewer.ask("/a", CLOSE)
        assert answer.closes
        assert viewer.at_end()


@pytest.mark.parametrize(
    "value", ["Close", "keep-alive, close", "x,\tclose ,y", "close, keep-alive"]
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_close_among_options(edge: Edge, value: str, version: str) -> None:
    """RFC 9112 9.3: close wins, wherever it stands."""
    edge.put("/a", b"hello")
    answer = edge.raw(get("/a", f"Connection: {value}", version=version))
    assert [(a.status, a.closes) for a in answer] == [(200, True)]


def test_old_clients_get_one_answer_and_the_end(edge: Edge) -> None:
    edge.put("/a", b"hello")
    found = edge.raw(b"GET /a HTTP/1.0\r\n\r\n")
    assert [(a.status, a.body, a.closes) for a in found] == [(200, b"hello", True)]


def test_old_clients_may_ask_for_more(edge: Edge) -> None:
    edge.put("/a", b"hello")
    ask = get("/a", "Connection: keep-alive", version="1.0")
    with edge.viewer() as viewer:
        for _ in range(3):
            viewer.send(ask)
            assert not viewer.answer().closes


def test_pipelined_requests_are_answered_in_order(edge: Edge) -> None:
    for i in range(50):
        edge.put(f"/{i}", str(i).encode() * (i + 1))
    with edge.viewer() as viewer:
        viewer.send(b"".join(get(f"/{i}") for i in range(50)) * 4)
        found = [viewer.answer().body for _ in range(200)]
    assert found == [str(i).encode() * (i + 1) for i in range(50)] * 4


def test_pipelined_requests_wait_behind_a_parked_one(edge: Edge) -> None:
    edge.put("/a", b"hit")
    with edge.viewer() as viewer:
        viewer.send(get("/a") + get("/miss") + get("/a") + get("/a", method="HEAD"))
        assert viewer.answer().body == b"hit"
        fill = edge.fill()
        assert viewer.silent()
        fill.begin(200, TYPE, length=3, ttl_ms=60_000)
        fill.append(b"new")
        fill.commit()
        assert [viewer.answer().body, viewer.answer().body] == [b"new", b"hit"]
        assert viewer.answer(head_only=True).fields[b"content-length"] == b"3"


def test_a_pipelined_head_may_end_in_any_segment(edge: Edge) -> None:
    """The tail of the second head arrives while the first request is parked."""
    edge.put("/a", b"hit")
    with edge.viewer() as viewer:
        second = get("/a", "X: " + "y" * 3000)
        viewer.send(get("/miss") + second[:1500])
        fill = edge.fill()
        viewer.send(second[1500:] + get("/a")[:9])
        fill.fail(404)
        viewer.send(get("/a")[9:])
        assert [viewer.answer().status for _ in range(3)] == [404, 200, 200]


@pytest.mark.parametrize("size", [1, 2, 7, 4095, 4096, 65535])
def test_a_stream_of_requests_in_pieces_of_any_size(edge: Edge, size: int) -> None:
    edge.put("/a", b"x")
    rounds = 4 if size < 10 else 3000
    data = get("/a", "X-Filler: " + "z" * 50) * rounds
    with edge.viewer() as viewer:

        def feed() -> None:
            for at in range(0, len(data), size):
                viewer.send(data[at : at + size])

        feeder = threading.Thread(target=feed)
        feeder.start()
        assert {viewer.answer().body for _ in range(rounds)} == {b"x"}
        feeder.join()


def test_empty_lines_before_a_request_are_ignored(edge: Edge) -> None:
    """RFC 9112 2.2: some clients send an extra CRLF after a request."""
    edge.put("/a", b"x")
    with edge.viewer() as viewer:
        viewer.send(b"\r\n" + get("/a") + b"\r\n" + get("/a") + b"\r\n\r\n" + get("/a"))
        assert [viewer.answer().status for _ in range(3)] == [200] * 3


def test_ten_thousand_requests_of_a_viewer_that_does_not_read(edges: Callable[..., Edge]) -> None:
    """What waits for it stays bounded: one answer under way, one input buffer, the kernel's."""
    edge = edges(write_ms=300, heap_max_bytes=16384)
    edge.put("/big", b"x" * 1_000_000)
    viewer = edge.viewer(receive_bytes=4096)
    sender = threading.Thread(target=viewer.send_all, args=(get("/big") * 10_000,))
    sender.start()
    edge.await_count("closed_write_timeout", 1)
    assert edge.count("requests") < 100
    sender.join(20)
    viewer.close()


def test_ten_thousand_requests_of_a_viewer_that_reads_late(edge: Edge) -> None:
    edge.put("/a", b"x" * 100)
    with edge.viewer() as viewer:
        sender = threading.Thread(target=viewer.send, args=(get("/a") * 10_000,))
        sender.start()
        edge.await_count("hits", 1)
        assert {len(viewer.answer().body) for _ in range(10_000)} == {100}
        sender.join()
    assert edge.count("requests") == 10_000


# ---------------------------------------------------------------- deadlines


def test_silence_after_connecting_is_cut(edges: Callable[..., Edge]) -> None:
    edge = edges(first_byte_ms=150)
    with edge.viewer() as viewer:
        assert viewer.at_end()
    assert edge.count("closed_idle") == 1


def test_an_idle_connection_is_cut(edges: Callable[..., Edge]) -> None:
    edge = edges(keepalive_ms=150)
    edge.put("/a", b"x")
    with edge.viewer() as viewer:
        assert viewer.ask("/a").status == 200
        assert viewer.at_end()
    assert edge.count("closed_idle") == 1


def drips_are_refused(viewer: Viewer) -> bool:
    """One more byte of a method. True: the peer has closed."""
    try:
        viewer.send(b"G")
        return not viewer.silent(0.02) and viewer.at_end()
    except (Cut, OSError):
        return True


def test_a_head_that_drips_is_cut(edges: Callable[..., Edge]) -> None:
    """The deadline runs from the head's first byte: another byte does not move it."""
    edge = edges(header_ms=200)
    with edge.viewer() as viewer:
        eventually(lambda: drips_are_refused(viewer))
    edge.await_count("closed_header_timeout", 1)


def test_requests_move_the_idle_deadline(edges: Callable[..., Edge]) -> None:
    edge = edges(keepalive_ms=1000, first_byte_ms=1000)
    edge.put("/a", b"x")
    with edge.viewer() as viewer:
        for _ in range(8):
            assert viewer.silent(0.2)
            assert viewer.ask("/a").status == 200
    assert edge.count("closed_idle") == 0


# ---------------------------------------------------------------- refusals and closing


def test_after_a_refusal_nothing_more_is_parsed(edge: Edge) -> None:
    edge.put("/a", b"x")
    found = edge.raw(get("/a") + b"GET /a HTTP/1.1\n\n" + get("/a") * 3)
    assert [(a.status, a.closes) for a in found] == [(200, False), (400, True)]
    assert (edge.count("requests"), edge.count("closed_bad_request")) == (2, 1)


def test_the_answer_survives_unread_bytes(edge: Edge) -> None:
    """A close with bytes unread would reset the answer away (RFC 9112 9.6): we linger."""
    with edge.viewer() as viewer:
        viewer.send(b"GET /a HTTP/1.1\n\n")
        viewer.send_all(b"x" * 500_000)
        assert viewer.answer().status == 400
        assert viewer.at_end()


def test_lingering_ends(edges: Callable[..., Edge]) -> None:
    """A peer that neither reads nor closes is let go after LINGER_MS."""
    edge = edges()
    viewer = edge.viewer()
    viewer.send(b"BAD\r\n\r\n")
    edge.await_count("closed", 1)
    viewer.close()


def test_a_bad_target_ends_the_connection(edge: Edge) -> None:
    """No viewer writes such a name; bad directives are only a player's mistake."""
    edge.put("/a", b"x")
    with edge.viewer() as viewer:
        assert viewer.ask("/l.m3u8?_HLS_msn=x").status == 400
        assert viewer.ask("/a").status == 200
        viewer.send(get("/a//b") + get("/a"))
        assert viewer.answer().status == 400
        assert viewer.at_end()
    assert edge.count("closed_bad_request") == 1


@pytest.mark.parametrize(("fields", "status"), [(63, 200), (64, 431)])
def test_number_of_fields(edge: Edge, fields: int, status: int) -> None:
    edge.put("/a", b"x")
    found = edge.raw(get("/a", *[f"X{i}: 1" for i in range(fields - 1)], CLOSE))
    assert [a.status for a in found] == [status]


@pytest.mark.parametrize(
    ("target", "status"), [(4096, 404), (4097, 414), (16_384, 414), (1_000_000, 414)]
)
def test_length_of_the_target(edge: Edge, target: int, status: int) -> None:
    with edge.viewer() as viewer:
        viewer.send_all(get("/" + "a" * (target - 1), CLOSE))
        if status == 404:
            edge.fill().fail(404)
        assert viewer.answer().status == status
        assert viewer.at_end()


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 431), (50_000, 431), (1_000_000, 431)])
def test_length_of_the_head(edge: Edge, extra: int, status: int) -> None:
    edge.put("/a", b"x")
    bare = len(get("/a", CLOSE, "X: "))
    found = edge.raw(get("/a", CLOSE, "X: " + "y" * (16_384 - bare + extra)))
    assert [a.status for a in found] == [status]


def test_a_head_without_end_is_refused_before_it_is_read(edge: Edge) -> None:
    with edge.viewer() as viewer:
        sender = threading.Thread(
            target=viewer.send_all, args=(b"GET /a HTTP/1.1\r\nX: " + b"y" * 9_000_000,)
        )
        sender.start()
        assert viewer.answer().status == 431
        edge.await_count("closed", 1)
        sender.join()
    assert edge.count("bytes_in") < 6_000_000


def test_a_viewer_that_leaves_is_let_go(edge: Edge) -> None:
    for _ in range(20):
        edge.viewer().close()
    edge.await_count("closed", 20)


def test_a_parked_viewer_that_leaves_releases_its_place(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send(get("/miss"))
        fill = edge.fill()
        eventually(lambda: fill.waiters == 1)
    edge.await_count("park_gone", 1)
    assert fill.waiters == 0
    fill.fail(404)


def test_a_reset_while_parked(edge: Edge) -> None:
    viewer = edge.viewer()
    viewer.send(get("/miss"))
    fill = edge.fill()
    viewer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    viewer.close()
    edge.await_count("park_gone", 1)
    fill.fail(404)


def test_half_closed_viewers_get_their_answers(edge: Edge) -> None:
    edge.put("/a", b"x")
    with edge.viewer() as viewer:
        viewer.send(get("/a") * 3)
        viewer.sock.shutdown(socket.SHUT_WR)
        assert [a.status for a in answers(viewer)] == [200] * 3


def test_many_connections_come_and_go(edges: Callable[..., Edge]) -> None:
    edge = edges(workers=2)
    edge.put("/a", b"x" * 1000)

    def run() -> None:
        for _ in range(50):
            assert edge.ask("/a", CLOSE).status == 200

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: edge.count("closed") == 200)
