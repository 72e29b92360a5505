"""All doors of broadcasters together: RTMP, the same behind TLS, SRT and the media of WHIP have
listeners of their own, HTTP comes by the viewers'.

Law: one admission for all of them, so a key is asked for and remembered once. Does not know what
goes through a door.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping

from ..config import EdgeConfig
from ..errors import ConfigError
from .admission import Admission, SignFields
from .dial import Ways
from .ingest import IngestRouter, limits_of
from .srt import SrtRouter
from .tlsdoor import Certificate
from .upload import Limits, Uploads
from .whip import WhipRelay
from .whipdoor import WhipDoor

log = logging.getLogger(__name__)


class Broadcasters:
    """await start(listening), then drain() and stop(). `uploads` is None where the configuration
    keeps HTTP closed. Raises ConfigError for a certificate that cannot be used."""

    def __init__(self, config: EdgeConfig, sign: SignFields, ways: Ways) -> None:
        def plain(method: str, target: str) -> str:
            return sign(method, target, ())

        centres = config.ingest.data_centres or config.origin.urls
        admission = Admission(data_centres=centres, sign=plain, ways=ways)
        limits = limits_of(config.ingest)
        self._router = IngestRouter(admission=admission, sign=sign, limits=limits)
        self._srt = SrtRouter(admission=admission)
        chain, key = config.ingest.certificate, config.ingest.private_key
        self._certificate = Certificate(chain, key) if chain and key else None
        self._whip = WhipRelay(public=config.ingest.whip_public)
        whip = WhipDoor(self._whip, admission=admission, sign=sign)
        uploads = Uploads(
            admission=admission, sign=sign, hosts=config.hosts(), whip=whip,
            limits=Limits(relay=limits.relay),
        )  # fmt: skip
        self.uploads = uploads if config.ingest.http else None

    @property
    def publishers(self) -> int:
        """Connections open now."""
        uploads = self.uploads.publishers if self.uploads else 0
        return self._router.publishers + self._srt.publishers + self._whip.publishers + uploads

    def gauges(self) -> dict[str, float]:
        """Over all doors, and those of SRT and WHIP."""
        srt, whip = self._srt.publishers, self._whip.publishers
        return {"publishers": self.publishers, "srt_publishers": srt, "whip_publishers": whip}

    def counts(self) -> dict[str, Callable[[], Counter[str]]]:
        """By prefix, for the metrics."""
        found = {"ingest": lambda: self._router.counts, "srt": lambda: self._srt.counts}
        found["whip"] = lambda: self._whip.counts
        if uploads := self.uploads:
            found["upload"] = lambda: uploads.counts
        return found

    async def start(self, listening: Mapping[str, list[socket.socket]]) -> None:
        """Serve on duplicates of the sockets that have our doors' names."""
        if "ingest" in listening:
            await self._router.start(listening["ingest"][0].dup())
        if "rtmps" in listening and self._certificate:
            self._router.start_tls(listening["rtmps"][0].dup(), self._certificate)
        if "srt" in listening:
            await self._srt.start(listening["srt"][0].dup())
        if "whip" in listening:
            await self._whip.start(listening["whip"][0].dup())

    def reload(self) -> None:
        """The certificate's files may have changed."""
        try:
            if self._certificate:
                self._certificate.reload()
        except ConfigError as error:
            log.error("certificate rejected, the old one stays: %s", error)

    def drain(self) -> None:
        """Take no more publishers by a listener of ours; those that are on go on."""
        self._router.drain()
        self._srt.drain()
        self._whip.drain()

    async def stop(self) -> None:
        """Tell every publisher, finish what they sent, close."""
        stopping = [self._router.stop(), self._srt.stop()]
        if self.uploads:
            stopping.append(self.uploads.stop())
        await asyncio.gather(*stopping)
        self._whip.stop()
