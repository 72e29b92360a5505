"""What a WHIP publisher offers, and what is taken of it: H.264, Opus, one of each.

Laws: sans-IO; pure functions. Of an offer only what an answer needs is read; the first picture and
the first sound that can be taken are, all else is declined (port 0). Who offers pictures, and none
that can be taken, is refused, rather than on air by sound alone; so with sound. Of simulcast one
layer comes, the first, which is the sender's best (RFC 8853 5.1), since the answer knows no other
(RFC 8829 5.11). Bounds: an offer's length is its reader's; lines of media. Source: RFC 8829 (JSEP),
RFC 8866, RFC 9725 section 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edgecache.errors import EdgeError, Source

TRANSPORT_SEQUENCE: Final = (
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
)
_MEDIA_MAX: Final = 8
_CODECS: Final = {"audio": "opus/48000/2", "video": "h264/90000"}
_NEEDED: Final = {"audio": "Opus", "video": "H.264 (packetization-mode=1)"}
_RATES: Final = {"audio": 48000, "video": 90000}
_EXTENSIONS: Final = 14  # of one byte's head, RFC 8285 4.2
_HOST_PRIORITY: Final = 126 << 24 | 65535 << 8 | 255  # RFC 8445 5.1.2.1


class SdpError(EdgeError):
    """The offer cannot be answered; the message is for the publisher."""

    source: Source = "downstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A line of the offer. `payload` is the payload type that is taken, None: declined. parameters:
    of its codec, as offered; extension: the id of transport-wide sequence numbers, 0 for none."""

    kind: str
    head: str
    mid: str
    payload: int | None = None
    parameters: str = ""
    extension: int = 0

    @property
    def rate(self) -> int:
        """Of its RTP clock, Hz."""
        return _RATES[self.kind]


@dataclass(frozen=True, slots=True)
class Offer:
    """fingerprint: of the publisher's certificate, SHA-256; active: it begins the DTLS handshake
    if it is let."""

    fingerprint: bytes
    active: bool
    media: tuple[Media, ...]

    @property
    def taken(self) -> tuple[Media, ...]:
        return tuple(media for media in self.media if media.payload is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where media is sent to, and by which names (ICE)."""

    ufrag: str
    password: str
    host: str
    port: int


def read(text: str) -> Offer:
    """Raises SdpError."""
    blocks = re.split(r"\r?\n(?=m=)", text.strip())
    if not blocks[0].startswith("v=0") or not 1 < len(blocks) <= 1 + _MEDIA_MAX:
        raise SdpError(f"SDP: found no offer of 1 to {_MEDIA_MAX} media")
    session, *rest = map(_attributes, blocks)
    media: list[Media] = []
    for block, said in zip(blocks[1:], rest, strict=True):
        one = _media(block, said)
        if any(other.kind == one.kind for other in media if other.payload is not None):
            one = Media(kind=one.kind, head=one.head, mid=one.mid)
        media.append(one)
    taken = {one.kind for one in media if one.payload is not None}
    if not taken:
        raise SdpError("SDP: found neither H.264 nor Opus, one of them is needed")
    for one, said in zip(media, rest, strict=True):
        if one.kind in _NEEDED.keys() - taken and _sends(said):
            found = ", ".join(dict.fromkeys(_codecs(said))) or "no codec"
            raise SdpError(f"SDP: m={one.kind}: found {found}, {_NEEDED[one.kind]} is needed")
    first = {**session, **rest[0]}
    return Offer(_fingerprint(first), _is_active(first), tuple(media))


def _attributes(block: str) -> dict[str, list[str]]:
    """Values of its `a=` lines, by name."""
    found: dict[str, list[str]] = {}
    for line in block.splitlines():
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            found.setdefault(name, []).append(value.strip())
    return found


def _fingerprint(said: dict[str, list[str]]) -> bytes:
    for each in said.get("fingerprint", ()):
        method, _, value = each.partition(" ")
        if method.lower() == "sha-256" and re.fullmatch(
            r"([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}", value
        ):
            return bytes.fromhex(value.replace(":", ""))
    raise SdpError("SDP: a=fingerprint: found none by sha-256, one is needed")


def _is_active(said: dict[str, list[str]]) -> bool:
    setup = said.get("setup", ["actpass"])[0]
    if setup not in ("actpass", "active", "passive"):
        raise SdpError("SDP: a=setup: allowed are actpass, active and passive")
    return setup != "passive"


def _media(block: str, said: dict[str, list[str]]) -> Media:
    head = block.splitlines()[0]
    kind, _, _, *payloads = head.removeprefix("m=").split(" ")
    mid = said.get("mid", [""])[0]
    if not re.fullmatch(r"[!-~]{0,64}", mid):
        raise SdpError("SDP: a=mid: found one that is no token")
    declined = Media(kind=kind, head=head, mid=mid)
    if kind not in _CODECS or "rtcp-mux" not in said or not _sends(said):
        return declined
    names = dict(each.split(" ", 1) for each in said.get("rtpmap", ()) if " " in each)
    told = dict(each.split(" ", 1) for each in said.get("fmtp", ()) if " " in each)
    fit = [each for each in payloads if names.get(each, "").lower() == _CODECS[kind]]
    if kind == "video":  # mode 0 has no fragments: pictures beyond a packet are not in it
        fit = [each for each in fit if "packetization-mode=1" in told.get(each, "")]
    if not fit or not fit[0].isdecimal():
        return declined
    return Media(
        kind=kind,
        head=head,
        mid=mid,
        payload=int(fit[0]),
        parameters=told.get(fit[0], ""),
        extension=_extension(said.get("extmap", ())),
    )


def _sends(said: dict[str, list[str]]) -> bool:
    return not {"recvonly", "inactive"} & said.keys()


def _codecs(said: dict[str, list[str]]) -> list[str]:
    """Names of what is offered, the first ones; not of what protects or repeats it."""
    names = re.findall(r"\d+ ([A-Za-z0-9.-]{1,16})/", "\n".join(said.get("rtpmap", ())[:16]))
    return [name for name in names if name.lower() not in ("rtx", "red", "ulpfec", "flexfec-03")]


def _extension(said: list[str] | tuple[()]) -> int:
    for each in said:
        number, _, name = each.partition(" ")
        number = number.partition("/")[0]
        if name.startswith(TRANSPORT_SEQUENCE) and number.isdecimal():
            return int(number) if int(number) <= _EXTENSIONS else 0
    return 0


def answer(offer: Offer, place: Place, fingerprint: bytes) -> str:
    """What is taken, sent to `place`, to somebody with the certificate of this SHA-256."""
    bundle = " ".join(media.mid for media in offer.taken)
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-lite"]
    lines.append(f"a=group:BUNDLE {bundle}")
    for media in offer.media:
        if media.payload is None:
            _, _, protocol, *payloads = media.head.removeprefix("m=").split(" ")
            lines += [f"m={media.kind} 0 {protocol} {' '.join(payloads)}", "c=IN IP4 0.0.0.0"]
            lines += [f"a=mid:{media.mid}", "a=inactive"]
        else:
            lines += _taken(media, place)
            lines.append("a=fingerprint:sha-256 " + fingerprint.hex(":").upper())
            lines.append("a=setup:" + ("passive" if offer.active else "active"))
    return "\r\n".join((*lines, ""))


def _taken(media: Media, place: Place) -> list[str]:
    payload, family = media.payload, "IP6" if ":" in place.host else "IP4"
    protocol = media.head.split(" ")[2]
    name = {"audio": "opus/48000/2", "video": "H264/90000"}[media.kind]
    lines = [
        f"m={media.kind} {place.port} {protocol} {payload}",
        f"c=IN {family} {place.host}",
        f"a=mid:{media.mid}",
        f"a=ice-ufrag:{place.ufrag}",
        f"a=ice-pwd:{place.password}",
        f"a=candidate:1 1 udp {_HOST_PRIORITY} {place.host} {place.port} typ host",
        "a=end-of-candidates",
        "a=recvonly",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        f"a=rtpmap:{payload} {name}",
    ]
    if media.parameters:
        lines.append(f"a=fmtp:{payload} {media.parameters}")
    lines.append(f"a=rtcp-fb:{payload} nack")
    if media.kind == "video":
        lines.append(f"a=rtcp-fb:{payload} nack pli")
    if media.extension:
        lines += [f"a=extmap:{media.extension} {TRANSPORT_SEQUENCE}"]
        lines += [f"a=rtcp-fb:{payload} transport-cc"]
    return lines
