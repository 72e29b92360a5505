"""One WHIP publisher at its data centre: datagrams in, an FLV byte stream out.

Laws: no socket; nothing is decoded. Key frames are asked for when one is needed, and every
`_KEY_S`: browsers send none by themselves. What lacks is asked for again until it is too late;
sound is put beside the picture by the sender's own clock. Bounds: bytes that wait to be taken
(beyond: it ends), packets that wait for an earlier one. Ends once, for one reason. Does not know
who may publish.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from pylibsrtp import Error as SrtpError

from edgecache import flv

from . import rtp
from .dtls import Dtls, DtlsError
from .h264 import Depacketizer, Tags
from .reorder import Reorder
from .rtptime import TrackClock
from .sdp import Media

log = logging.getLogger(__name__)

_WAITING_BYTES: Final = 8 << 20
_WAIT_S: Final = 0.3  # for a packet that is sent again
_HELD: Final = 2048
_KEY_S: Final = 2.0
_PLEA_S: Final = 0.5  # between two requests for one key frame
_REPORT_S: Final = 1.0
_ARRIVALS_S: Final = 0.05
_UNTOLD: Final = 1024  # transport numbers in one report
_NO_SSRC: Final = 0
_OPUS: Final = b"Opus"
_OPUS_HEAD: Final = b"OpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0"  # two channels, 48 kHz


class _Track:
    def __init__(self, media: Media, begun_s: float) -> None:
        self.media = media
        self.order = Reorder(wait_s=_WAIT_S, held=_HELD)
        self.clock = TrackClock(media.rate, begun_s)
        self.ssrc = _NO_SSRC
        self.told: rtp.SenderReport | None = None
        self.told_s = 0.0
        self.lost = 0  # as last reported
        self.expected = 0

    def report(self, now_s: float) -> bytes:
        order = self.order
        lost, expected = order.lost - self.lost, order.lost + order.received - self.expected
        self.lost, self.expected = order.lost, order.lost + order.received
        return rtp.receiver_report(
            self.ssrc,
            fraction=max(0, min(255, 256 * lost // expected if expected else 0)),
            lost=order.lost,
            newest=order.newest,
            middle=self.told.middle if self.told else 0,
            since_s=now_s - self.told_s,
        )


class Peer:
    """datagram() what comes, tick() some 50 times a second; `send` is given what goes out. A body
    for Ingest. media: what was taken of its offer."""

    def __init__(
        self, dtls: Dtls, media: tuple[Media, ...], *, send: Callable[[bytes], None], now_s: float
    ) -> None:
        self._dtls = dtls
        self._send = send
        self._tracks = {one.payload: _Track(one, now_s) for one in media}
        by_kind = {track.media.kind: track for track in self._tracks.values()}
        self._video, self._audio = by_kind.get("video"), by_kind.get("audio")
        self._extension = next((one.extension for one in media if one.extension), 0)
        self._pictures = Depacketizer()
        self._tags = Tags()
        self._sounds = False  # have begun
        self._out = [flv.HEADER]
        self._waiting_bytes = 0
        self._fresh = asyncio.Event()
        self._fresh.set()
        self._arrived: dict[int, float] = {}  # by transport number, since the last report
        self._transport = 0
        self._untold: int | None = None
        self._told = 0
        self._told_s = self._reported_s = self._pleaded_s = self._key_s = 0.0
        self._began = False
        self.ended = ""  # why
        self.dismissed = ""  # why, if for good: it need not come again

    async def iter_any(self) -> AsyncIterator[bytes]:
        while self._out or not self.ended:
            await self._fresh.wait()
            self._fresh.clear()
            data, self._out, self._waiting_bytes = b"".join(self._out), [], 0
            if data:
                yield data

    def set_exception(self, exc: BaseException) -> None:
        """It is to end here for good. DTLS has no word for why, who asks for the session has."""
        self.dismissed = self.dismissed or str(exc)
        self.end(str(exc))

    def end(self, reason: str) -> None:
        """What has come is still taken."""
        if not self.ended:
            self.ended = reason
            self._put(self._dtls.close())
        self._fresh.set()

    def begin(self) -> None:
        """There is a way to it."""
        if not self._began:
            self._began = True
            self._handshake(b"")

    def datagram(self, data: bytes, now_s: float) -> None:
        if self.ended or not data:
            return
        if 20 <= data[0] <= 63:  # RFC 7983
            self._handshake(data)
        elif self._dtls.receiving is not None and data[0] >> 6 == 2:
            try:
                if rtp.is_rtcp(data):
                    self._reported(self._dtls.receiving.unprotect_rtcp(data), now_s)
                else:
                    self._received(self._dtls.receiving.unprotect(data), now_s)
            except SrtpError:  # not theirs, or the second of one: nothing is known of it
                return

    def tick(self, now_s: float) -> None:
        if self.ended:
            return
        if not self._dtls.ready:
            due_s = self._dtls.due_s()
            if self._began and due_s is not None and due_s <= 0:
                self._handshake(None)
            return
        for track in self._tracks.values():
            if track.ssrc:
                self._advance(track, now_s)
                if lacking := track.order.missing(now_s):
                    self._tell(rtp.nack(track.ssrc, lacking))
        self._report(now_s)

    # -- connection

    def _handshake(self, data: bytes | None) -> None:
        """data: None when something has to be sent again."""
        try:
            self._put(self._dtls.again() if data is None else self._dtls.feed(data))
        except DtlsError as error:
            self.end(str(error))

    def _put(self, datagrams: list[bytes]) -> None:
        for each in datagrams:
            self._send(each)

    def _tell(self, report: bytes) -> None:
        if self._dtls.sending is not None:
            self._send(self._dtls.sending.protect_rtcp(report))

    # -- reports

    def _reported(self, data: bytes, now_s: float) -> None:
        for told in rtp.reports(data):
            for track in self._tracks.values():
                if track.ssrc == told.ssrc:
                    track.told, track.told_s = told, now_s
                    track.clock.report(told)

    def _report(self, now_s: float) -> None:
        if self._arrived and now_s - self._told_s >= _ARRIVALS_S:
            self._told_s = now_s
            first = min(self._arrived) if self._untold is None else self._untold
            first = max(first, max(self._arrived) - _UNTOLD)
            seen = {at: when for at, when in self._arrived.items() if at >= first}
            ssrc = next(track.ssrc for track in self._tracks.values() if track.ssrc)
            self._tell(rtp.arrivals(ssrc, self._told, first, seen))
            self._told += 1
            self._untold = max(self._arrived) + 1
            self._arrived.clear()
        if now_s - self._reported_s >= _REPORT_S:
            self._reported_s = now_s
            for track in self._tracks.values():
                if track.ssrc:
                    self._tell(track.report(now_s))
        self._plead(now_s)

    def _plead(self, now_s: float) -> None:
        video = self._video
        if video is None or not video.ssrc:
            return
        needed = self._pictures.wanting or now_s - self._key_s >= _KEY_S
        if needed and now_s - self._pleaded_s >= _PLEA_S:
            self._pleaded_s = now_s
            self._tell(rtp.picture_loss(video.ssrc))

    # -- media

    def _received(self, data: bytes, now_s: float) -> None:
        packet = rtp.packet(data, self._extension)
        track = self._tracks.get(packet.payload_type) if packet else None
        if packet is None or track is None:
            return
        track.ssrc = packet.ssrc
        if packet.transport is not None:
            self._transport = rtp.unwrap(packet.transport, self._transport, 16)
            self._arrived[self._transport] = now_s
        track.order.put(packet, now_s)
        self._advance(track, now_s)

    def _advance(self, track: _Track, now_s: float) -> None:
        for packet in track.order.take(now_s):
            if track is self._audio:
                if packet is not None and packet.payload:
                    self._sound(track, packet, now_s)
            elif packet is None:
                self._pictures.gap()
            elif whole := self._pictures.put(packet):
                self._picture(track, *whole, now_s)

    def _picture(self, track: _Track, stamp: int, units: list[bytes], now_s: float) -> None:
        data = self._tags.make(units, round(track.clock.at_ms(stamp, now_s)))
        if any(unit[0] & 31 == 5 for unit in units):
            self._key_s = now_s
        self._hand_out(data)

    def _sound(self, track: _Track, packet: rtp.Packet, now_s: float) -> None:
        at_ms = round(track.clock.at_ms(packet.timestamp, now_s))
        if self._video is not None:
            track.clock.follow(self._video.clock)
        if not self._sounds:
            self._sounds = True
            self._hand_out(flv.encode_tag(flv.AUDIO, at_ms, b"\x90" + _OPUS + _OPUS_HEAD))
        self._hand_out(flv.encode_tag(flv.AUDIO, at_ms, b"\x91" + _OPUS + packet.payload))

    def _hand_out(self, data: bytes) -> None:
        self._out.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > _WAITING_BYTES:
            self.end("what it sends is not taken")
        self._fresh.set()
