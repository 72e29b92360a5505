"""Who is let in, on real connections: shares by address, PROXY headers, what proxies of ours say
of their clients (native/conn.pxd, http1.pxd, worker.pxd, exchange.pxd)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.native.kit import Cut, Edge, Viewer, eventually, get
from tests.native.test_proxy import FOUR, PORTS, TLVS, v2

LOOPBACK = ["127.0.0.0/8"]
FORWARDED, X_FORWARDED_FOR = 1, 2


def line(source: str) -> bytes:
    return b"PROXY TCP4 %b 198.51.100.1 56324 443\r\n" % source.encode()


def turned_away(viewer: Viewer, status: int) -> bool:
    """Told so. A reset may follow, when it was told before it asked."""
    answer = viewer.answer()
    assert (answer.status, answer.fields[b"retry-after"]) == (status, b"5")
    return answer.closes


def clients(edge: Edge, count: int) -> list[str]:
    """Of the next access-log records."""
    found: list[str] = []

    def logged() -> bool:
        found.extend(record[7].decode() for record in edge.plane.log_records())
        return len(found) >= count

    eventually(logged)
    return found


@pytest.fixture
def made(edges: Callable[..., Edge]) -> Callable[..., Edge]:
    """An edge that has /a."""

    def make(**options: int | Sequence[str]) -> Edge:
        edge = edges(**options)
        edge.put("/a", b"x")
        return edge

    return make


# ---------------------------------------------------------------- by address


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_has_its_share_over_all_workers(made: Callable[..., Edge], workers: int) -> None:
    edge = made(workers=workers, max_per_address=8)
    inside = [edge.viewer(source="127.0.0.2") for _ in range(8)]
    assert [viewer.ask("/a").status for viewer in inside] == [200] * 8
    for _ in range(20):
        with edge.viewer(source="127.0.0.2") as beyond:
            beyond.send_all(get("/a"))
            assert turned_away(beyond, 429)
    with edge.viewer(source="127.0.0.3") as other:
        assert other.ask("/a").status == 200
    assert [viewer.ask("/a").status for viewer in inside] == [200] * 8
    assert (edge.count("closed_crowded"), edge.count("accepted")) == (20, 9)
    for viewer in inside:
        viewer.close()
    eventually(lambda: edge.count("connections_now") == 0)
    with edge.viewer(source="127.0.0.2") as again:
        assert again.ask("/a").status == 200


def test_beyond_its_share_a_reset_if_that_is_wanted(made: Callable[..., Edge]) -> None:
    edge = made(max_per_address=1, max_connections=2, reset_beyond=1)
    with edge.viewer(source="127.0.0.2") as one, edge.viewer(source="127.0.0.3") as two:
        assert one.ask("/a").status == two.ask("/a").status == 200
        for source in ("127.0.0.2", "127.0.0.4"):
            reset = pytest.raises((Cut, ConnectionResetError), match="reset")  # or as it connects
            with reset, edge.viewer(source=source) as beyond:
                beyond.answer()
    assert edge.count("closed_refused") == 2, "there is no room for anybody"


def test_proxies_of_ours_have_no_share(made: Callable[..., Edge]) -> None:
    edge = made(max_per_address=1, trusted=["127.0.0.2/32"])
    inside = [edge.viewer(source="127.0.0.2") for _ in range(10)]
    assert [viewer.ask("/a").status for viewer in inside] == [200] * 10
    with edge.viewer() as one, edge.viewer() as two:
        assert one.ask("/a").status == 200
        assert turned_away(two, 429)
    for viewer in inside:
        viewer.close()


def test_a_share_is_kept_until_the_connection_is_gone(made: Callable[..., Edge]) -> None:
    """Refused and lingering, it still is one."""
    edge = made(max_per_address=1)
    with edge.viewer() as refused:
        refused.send(b"BAD\r\n\r\n")
        assert refused.answer().status == 400
        with edge.viewer() as beyond:
            assert turned_away(beyond, 429)
    eventually(lambda: edge.count("connections_now") == 0)
    assert edge.ask("/a").status == 200


def test_what_comes_back_from_the_control_plane_is_whose_it_was(
    made: Callable[..., Edge],
) -> None:
    edge = made(sites=[b"/site/"], max_per_address=1, trusted=LOOPBACK, proxy_protocol=1)
    with edge.viewer() as viewer, edge.viewer() as other:
        viewer.send(line("192.0.2.1") + get("/site/x"))
        found: list[tuple[int, bytes, bytes, bytes]] = []

        def arrived() -> bool:
            found.extend(edge.plane.guests())
            return bool(found)

        eventually(arrived)
        ((fd, _, rest, client),) = found
        assert client == b"192.0.2.1"
        assert edge.plane.give_back(fd, rest, client)
        assert viewer.ask("/a").status == 200, "no second PROXY header is awaited"
        other.send(line("192.0.2.1"))
        assert turned_away(other, 429)


def test_a_stranger_does_not_come_back(made: Callable[..., Edge]) -> None:
    with pytest.raises(ValueError, match=r"client: found b'nobody'"):
        made().plane.give_back(0, b"", b"nobody")


# ---------------------------------------------------------------- PROXY

HEADERS = {
    "1": line("192.0.2.1"),
    "2": v2(FOUR + PORTS + TLVS),
}


@pytest.mark.parametrize("version", HEADERS)
def test_a_proxy_says_whose_connection_it_is(made: Callable[..., Edge], version: str) -> None:
    edge = made(log=True, trusted=LOOPBACK, proxy_protocol=1)
    with edge.viewer() as viewer:
        viewer.send(HEADERS[version] + get("/a") + get("/a"))
        assert [viewer.answer().status for _ in range(2)] == [200] * 2
    assert clients(edge, 2) == ["192.0.2.1"] * 2


@pytest.mark.parametrize("version", HEADERS)
def test_a_header_split_at_every_byte(made: Callable[..., Edge], version: str) -> None:
    edge = made(log=True, trusted=LOOPBACK, proxy_protocol=1)
    data = HEADERS[version] + get("/a")
    viewers = []
    for at in range(1, len(data)):
        viewers.append(edge.viewer())
        viewers[-1].send(data[:at])
    edge.await_count("accepted", len(viewers))
    for at, viewer in enumerate(viewers, start=1):
        viewer.send(data[at:])
    assert [viewer.answer().status for viewer in viewers] == [200] * len(viewers)
    assert set(clients(edge, len(viewers))) == {"192.0.2.1"}
    for viewer in viewers:
        viewer.close()


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(b"", command=0x20, family=0)])
def test_a_proxy_that_speaks_for_itself(made: Callable[..., Edge], header: bytes) -> None:
    edge = made(log=True, trusted=LOOPBACK, proxy_protocol=1, max_per_address=1)
    viewers = [edge.viewer() for _ in range(3)]
    for viewer in viewers:
        viewer.send(header)
        assert viewer.ask("/a").status == 200
        viewer.close()
    assert clients(edge, 3) == ["127.0.0.1"] * 3


@pytest.mark.parametrize(
    "data", [get("/a"), b"PROXY TCP4 1.2.3.4\r\n", v2(FOUR), b"PROXY " + b"x" * 200]
)
def test_a_proxy_without_a_valid_header_is_cut(made: Callable[..., Edge], data: bytes) -> None:
    edge = made(trusted=LOOPBACK, proxy_protocol=1)
    with edge.viewer() as viewer:
        viewer.send_all(data)
        with pytest.raises(Cut):
            viewer.answer()
    assert (edge.count("closed_proxy"), edge.count("requests")) == (1, 0)


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 192.0.2.1 ", v2(FOUR + PORTS)[:20]])
def test_a_header_that_does_not_come(made: Callable[..., Edge], sent: bytes) -> None:
    edge = made(trusted=LOOPBACK, proxy_protocol=1, first_byte_ms=150, header_ms=150)
    with edge.viewer() as viewer:
        viewer.send(sent)
        assert viewer.at_end()
    assert edge.count("closed_header_timeout" if sent else "closed_idle") == 1


@pytest.mark.parametrize("proxy_protocol", [0, 1])
@pytest.mark.parametrize("version", HEADERS)
def test_nobody_else_says_who_it_is(
    made: Callable[..., Edge], version: str, proxy_protocol: int
) -> None:
    """Forged: to a peer that is no proxy of ours the header is a malformed request."""
    edge = made(log=True, trusted=["127.0.0.2/32"], proxy_protocol=proxy_protocol)
    with edge.viewer() as forger:
        forger.send_all(HEADERS[version] + get("/a"))
        assert forger.answer().status == 400
        assert forger.at_end()
    assert clients(edge, 1) == ["127.0.0.1"]
    assert edge.ask("/a").status == 200, "and needs none"


def test_not_even_a_proxy_unless_that_is_agreed_on(made: Callable[..., Edge]) -> None:
    edge = made(trusted=LOOPBACK)
    assert [answer.status for answer in edge.raw(line("192.0.2.1") + get("/a"))] == [400]


def test_shares_are_those_of_whom_the_proxy_names(made: Callable[..., Edge]) -> None:
    edge = made(trusted=LOOPBACK, proxy_protocol=1, max_per_address=2)
    viewers = [edge.viewer() for _ in range(4)]
    for viewer, source in zip(viewers, ("192.0.2.1", "192.0.2.1", "192.0.2.2"), strict=False):
        viewer.send(line(source))
        assert viewer.ask("/a").status == 200
    viewers[3].send(line("192.0.2.1") + get("/a"))
    assert turned_away(viewers[3], 429)
    viewers[0].close()
    eventually(lambda: edge.count("connections_now") == 2)
    viewers[0] = edge.viewer()
    viewers[0].send(line("192.0.2.1"))
    assert viewers[0].ask("/a").status == 200
    for viewer in viewers:
        viewer.close()


# ---------------------------------------------------------------- Forwarded


def test_a_proxy_says_whose_request_it_is(made: Callable[..., Edge]) -> None:
    edge = made(log=True, trusted=LOOPBACK, client_field=X_FORWARDED_FOR)
    with edge.viewer() as viewer:
        for field in (
            "X-Forwarded-For: 203.0.113.9, 192.0.2.1",
            "x-forwarded-for: 203.0.113.9\r\nX-FORWARDED-FOR: 2001:db8::1, 127.0.0.9",
            "X-Forwarded-For: unknown",
            "Forwarded: for=192.0.2.7",
            "Via: 1.1 p",
        ):
            assert viewer.ask("/a", field).status == 200
    assert clients(edge, 5) == ["192.0.2.1", "2001:db8::1"] + ["127.0.0.1"] * 3


def test_the_field_that_is_believed_is_a_setting(made: Callable[..., Edge]) -> None:
    edge = made(log=True, trusted=LOOPBACK, client_field=FORWARDED)
    fields = ("X-Forwarded-For: 192.0.2.1", 'Forwarded: for="[2001:db8::1]:80";proto=https')
    assert edge.ask("/a", *fields).status == 200
    assert clients(edge, 1) == ["2001:db8::1"]


def test_nobody_else_says_whose_request_it_is(made: Callable[..., Edge]) -> None:
    """Nor does who came through a proxy that named it: it wrote its own request."""
    edge = made(log=True, trusted=["127.0.0.2/32"], client_field=X_FORWARDED_FOR, proxy_protocol=1)
    asked = get("/a", "X-Forwarded-For: 192.0.2.66", "Connection: close")
    assert [answer.status for answer in edge.raw(asked)] == [200]
    with edge.viewer(source="127.0.0.2") as viewer:
        viewer.send(line("192.0.2.1") + asked)
        assert viewer.answer().status == 200
    assert clients(edge, 2) == ["127.0.0.1", "192.0.2.1"]


def test_requests_of_an_address_have_a_share_too(made: Callable[..., Edge]) -> None:
    """Those under way; the proxy's connection goes on with somebody else's."""
    edge = made(trusted=LOOPBACK, client_field=X_FORWARDED_FOR, max_per_address=2)
    waiting, mine = [edge.viewer() for _ in range(2)], "X-Forwarded-For: 192.0.2.1"
    for viewer in waiting:
        viewer.send(get("/later", mine))
    edge.await_parked(2)
    with edge.viewer() as proxy:
        refused = proxy.ask("/a", mine)
        assert (refused.status, refused.closes) == (429, False)
        assert refused.fields[b"retry-after"] == b"1"
        assert proxy.ask("/a", "X-Forwarded-For: 192.0.2.2").status == 200
        assert proxy.ask("/a").status == 200
        edge.fill().fail(404)
        assert [viewer.answer().status for viewer in waiting] == [404, 404]
        assert proxy.ask("/a", mine).status == 200
    assert edge.count("crowded") == 1
    for viewer in waiting:
        viewer.close()


# ---------------------------------------------------------------- all of them


def test_the_bound_of_all_is_shared_by_the_workers(made: Callable[..., Edge]) -> None:
    """However the kernel spreads them."""
    edge = made(workers=4, max_connections=12)
    inside = [edge.viewer() for _ in range(12)]
    assert [viewer.ask("/a").status for viewer in inside] == [200] * 12
    with edge.viewer() as beyond:
        beyond.send_all(get("/a"))
        assert turned_away(beyond, 503)
    for viewer in inside:
        viewer.close()
    eventually(lambda: edge.count("connections_now") == 0)


def test_the_answer_of_who_is_turned_away_survives_its_request(
    made: Callable[..., Edge],
) -> None:
    """Closed with bytes unread, the answer would be reset away."""
    edge = made(max_connections=1)
    with edge.viewer() as inside:
        assert inside.ask("/a").status == 200
        for _ in range(50):
            with edge.viewer() as beyond:
                beyond.send_all(get("/a", "X: " + "y" * 8000))
                assert beyond.answer().status == 503
