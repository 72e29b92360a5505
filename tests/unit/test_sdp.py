"""Offers of real publishers, and what is taken of them."""

from __future__ import annotations

import re

import pytest

from origin import sdp

FINGERPRINT = bytes(range(32))
PLACE = sdp.Place(ufrag="name", password="p" * 24, host="192.0.2.7", port=9001)
HEAD = """v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
"""
SECURE = f"""a=ice-ufrag:abcd
a=ice-pwd:{"x" * 24}
a=fingerprint:sha-256 {FINGERPRINT.hex(":").upper()}
a=setup:actpass
"""
AUDIO = f"""m=audio 9 UDP/TLS/RTP/SAVPF 111 9
c=IN IP4 0.0.0.0
{SECURE}a=mid:0
a=extmap:3 {sdp.TRANSPORT_SEQUENCE}
a=sendonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:9 G722/8000
"""
VIDEO = f"""m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103
c=IN IP4 0.0.0.0
{SECURE}a=mid:1
a=extmap:3 {sdp.TRANSPORT_SEQUENCE}
a=sendonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtpmap:97 H264/90000
a=fmtp:97 packetization-mode=0;profile-level-id=42001f
a=rtpmap:102 H264/90000
a=fmtp:102 packetization-mode=1;profile-level-id=42001f
a=rtpmap:103 rtx/90000
a=fmtp:103 apt=102
"""


def wire(text: str) -> str:
    return text.replace("\n", "\r\n")


def test_one_picture_and_one_sound_are_taken() -> None:
    offer = sdp.read(wire(HEAD + AUDIO + VIDEO))
    assert (offer.fingerprint, offer.active) == (FINGERPRINT, True)
    taken = [(media.kind, media.payload, media.extension, media.rate) for media in offer.taken]
    assert taken == [("audio", 111, 3, 48000), ("video", 102, 3, 90000)]
    said = sdp.answer(offer, PLACE, FINGERPRINT[::-1])
    lines = said.split("\r\n")
    assert lines[-1] == ""
    assert "a=group:BUNDLE 0 1" in lines
    assert "m=video 9001 UDP/TLS/RTP/SAVPF 102" in lines
    assert "a=fmtp:102 packetization-mode=1;profile-level-id=42001f" in lines
    assert lines.count("a=candidate:1 1 udp 2130706431 192.0.2.7 9001 typ host") == 2
    assert lines.count("a=setup:passive") == lines.count("a=recvonly") == 2
    assert lines.count("a=fingerprint:sha-256 " + FINGERPRINT[::-1].hex(":").upper()) == 2


def test_what_is_second_or_unknown_is_declined_in_its_place() -> None:
    data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:2\n"
    more = VIDEO.replace("a=mid:1", "a=mid:3")
    offer = sdp.read(wire(HEAD + AUDIO + VIDEO + data + more))
    said = sdp.answer(offer, PLACE, FINGERPRINT)
    heads = re.findall(r"^m=.*?(?=\r)", said, re.MULTILINE)
    assert heads == [
        "m=audio 9001 UDP/TLS/RTP/SAVPF 111",
        "m=video 9001 UDP/TLS/RTP/SAVPF 102",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "m=video 0 UDP/TLS/RTP/SAVPF 96 97 102 103",
    ]
    assert "a=group:BUNDLE 0 1\r\n" in said


def test_of_simulcast_the_first_layer_is_taken() -> None:
    """Whose answer names no layers is sent the first, the preferred one, alone."""
    layers = "a=rid:h send\na=rid:l send\na=simulcast:send h;l\n"
    plain, offer = (sdp.read(wire(HEAD + VIDEO + more)) for more in ("", layers))
    assert sdp.answer(offer, PLACE, FINGERPRINT) == sdp.answer(plain, PLACE, FINGERPRINT)
    assert "simulcast" not in sdp.answer(offer, PLACE, FINGERPRINT)


def test_who_waits_for_a_handshake_gets_one() -> None:
    offer = sdp.read(wire(HEAD + VIDEO.replace("actpass", "passive")))
    assert not offer.active
    assert "a=setup:active\r\n" in sdp.answer(offer, PLACE, FINGERPRINT)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no offer of 1 to 8 media"),
        (HEAD, "no offer of 1 to 8 media"),
        (HEAD + VIDEO * 9, "no offer of 1 to 8 media"),
        (HEAD + VIDEO.replace("H264", "H265"), "neither H.264 nor Opus"),
        (HEAD + VIDEO.replace("packetization-mode=1", "packetization-mode=0"), "neither H.264"),
        (HEAD + VIDEO.replace("sendonly", "recvonly"), "neither H.264 nor Opus"),
        (HEAD + VIDEO.replace("a=rtcp-mux\n", ""), "neither H.264 nor Opus"),
        (HEAD + AUDIO + VIDEO.replace("H264", "AV1"), "m=video: found VP8, AV1, H.264 (packet"),
        (HEAD + VIDEO + AUDIO.replace("opus", "PCMU"), "m=audio: found PCMU, G722, Opus is needed"),
        (HEAD + VIDEO.replace("sha-256", "sha-1"), "a=fingerprint"),
        (HEAD + VIDEO.replace("actpass", "holdconn"), "a=setup"),
        (HEAD + VIDEO.replace("a=mid:1", "a=mid:1 2"), "a=mid"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(text: str, why: str) -> None:
    with pytest.raises(sdp.SdpError, match="SDP") as caught:
        sdp.read(wire(text))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
