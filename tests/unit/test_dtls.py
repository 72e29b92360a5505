"""Two ends of a DTLS connection, without a network."""

from __future__ import annotations

import pytest

from origin.dtls import Dtls, DtlsError, Identity, identity

OURS, THEIRS = identity(), identity()


def joined(expected: Identity = THEIRS) -> tuple[Dtls, Dtls]:
    """(server, client) after their handshake; `expected`: whom the server was told to expect."""
    server = Dtls(OURS, expected.fingerprint, server=True)
    client = Dtls(THEIRS, OURS.fingerprint, server=False)
    there = client.feed()
    while there:
        assert all(len(each) <= 1200 for each in there)
        back = [each for one in there for each in server.feed(one)]
        there = [each for one in back for each in client.feed(one)]
    return server, client


def test_both_have_the_same_keys() -> None:
    server, client = joined()
    assert server.ready
    assert client.ready
    assert client.sending is not None
    assert server.receiving is not None
    packet = b"\x80\x66\0\x01" + bytes(8) + b"media"
    assert server.receiving.unprotect(client.sending.protect(packet)) == packet
    report = b"\x80\xc9\0\x01\0\0\0\x01"
    assert server.sending is not None
    assert client.receiving is not None
    assert client.receiving.unprotect_rtcp(server.sending.protect_rtcp(report)) == report


def test_a_certificate_that_was_not_offered_gets_no_keys() -> None:
    with pytest.raises(DtlsError, match="not the one of the offer"):
        joined(expected=OURS)


def test_a_goodbye_is_heard() -> None:
    server, client = joined()
    (goodbye,) = client.close()
    with pytest.raises(DtlsError, match="goodbye"):
        server.feed(goodbye)


def test_what_is_lost_is_sent_again_when_it_is_due() -> None:
    client = Dtls(THEIRS, OURS.fingerprint, server=False)
    first = client.feed()
    due_s = client.due_s()
    assert due_s is not None
    assert 0 < due_s <= 1
    assert client.again() == []  # not yet
    assert len(first) == 1


def test_noise_is_passed_over() -> None:
    server = Dtls(OURS, THEIRS.fingerprint, server=True)
    assert server.feed(b"\x16\xfe\xff" + bytes(50)) == []
    assert not server.ready
