"""The packets of the flood, and what newcomers are counted as."""

from __future__ import annotations

import socket

from bench.clients.synflood import Newcomers, checksum, syn
from tests.running import ScriptedOrigin, ok


def test_a_packet_is_a_syn_that_a_kernel_believes() -> None:
    source = int.from_bytes(socket.inet_aton("198.18.3.4"))
    packet = syn(source, 40_000, 0xFFFF_FFFE, ("10.99.0.1", 8080))
    head, tcp = packet[:20], packet[20:]
    assert (head[0], head[9], int.from_bytes(head[2:4])) == (0x45, 6, len(packet))
    assert [socket.inet_ntoa(head[at : at + 4]) for at in (12, 16)] == ["198.18.3.4", "10.99.0.1"]
    assert [int.from_bytes(tcp[at : at + 2]) for at in (0, 2)] == [40_000, 8080]
    assert tcp[13] == 2, "SYN and nothing else"
    pseudo = head[12:20] + bytes((0, 6, 0, len(tcp)))
    assert checksum(pseudo + tcp) == 0


def test_newcomers_are_answered_or_lost() -> None:
    origin = ScriptedOrigin()
    origin.says("/good", ok(b"body"), "fin")
    lost = {}
    for path, closed in (("/good", False), ("/unknown", False), ("/good", True)):
        if closed:
            origin.close()
        newcomers = Newcomers(("127.0.0.1", origin.port), path)
        newcomers.turn()
        newcomers.turn()  # it is not time for another one yet
        newcomers.finish()
        lost[path, closed] = newcomers.lost
        assert len(newcomers.took_ms) == 1 - newcomers.lost
    assert lost == {("/good", False): 0, ("/unknown", False): 1, ("/good", True): 1}
