"""A live origin whose clock the test turns: LL-HLS or classic HLS, one rendition, requests counted.

It behaves as RFC 8216bis 6.2.5 asks: holds `_HLS_msn/_HLS_part` and hinted parts until they exist.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from tests.running import LIMIT_S, Asked, ScriptedOrigin, Step, ok

PARTS = 4  # of a segment


class Packager:
    """`advance()` makes the next part (or segment, `parts=False`). Media takes `media_s` to answer
    from when it exists."""

    def __init__(
        self,
        origin: ScriptedOrigin,
        path: str,
        *,
        parts: bool = True,
        media_s: float = 0.0,
        target_s: int = 2,
        fields: Sequence[str] = (),
    ) -> None:
        self.base, _, name = path.rpartition("/")
        self.path, self.name = path, name.removesuffix(".m3u8")
        self.parts, self.media_s, self.target_s, self.fields = parts, media_s, target_s, fields
        self.made = 12 * PARTS  # parts so far
        self.ended = False
        self._changed = threading.Condition()
        self._origin = origin
        origin.scripts[path] = self._playlist
        for msn in range(400):
            origin.scripts[self.segment(msn)] = self._media
            for part in range(PARTS if parts else 0):
                origin.scripts[self.part(msn, part)] = self._media
        origin.says(f"{self.base}/init.mp4", ok(b"init"))

    def segment(self, msn: int) -> str:
        return f"{self.base}/{self.name}-{msn}.m4s"

    def part(self, msn: int, part: int) -> str:
        return f"{self.base}/{self.name}-{msn}.{part}.m4s"

    @property
    def version(self) -> tuple[int, int]:
        return divmod(self.made, PARTS)

    def advance(self) -> None:
        with self._changed:
            self.made += 1 if self.parts else PARTS
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _await(self, made: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.ended or self.made >= made, LIMIT_S)

    def _playlist(self, asked: Asked) -> Sequence[Step]:
        given = dict(
            pair.split("=") for pair in asked.target.partition("?")[2].split("&") if "=" in pair
        )
        if "_HLS_msn" in given and self.parts:
            msn, part = int(given["_HLS_msn"]), int(given.get("_HLS_part", PARTS - 1))
            self._await(msn * PARTS + part + 1)
        body = self.text(delta="_HLS_skip" in given).encode()
        return [ok(body, "Content-Type: application/vnd.apple.mpegurl", *self.fields)]

    def text(self, *, delta: bool = False) -> str:
        msn, parts = self.version
        first = msn - 8
        lines = ["#EXTM3U", "#EXT-X-VERSION:9", f"#EXT-X-TARGETDURATION:{self.target_s}"]
        if self.parts:
            lines += [
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12,PART-HOLD-BACK=1.5",
                "#EXT-X-PART-INF:PART-TARGET=0.5",
            ]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        lines += ["#EXT-X-SKIP:SKIPPED-SEGMENTS=4"] if delta else ['#EXT-X-MAP:URI="init.mp4"']
        for number in range(first + (4 if delta else 0), msn):
            if self.parts and number >= msn - 2:
                lines += [self._part_tag(number, part) for part in range(PARTS)]
            lines += [f"#EXTINF:{self.target_s},", self.segment(number).rpartition("/")[2]]
        if self.parts:
            lines += [self._part_tag(msn, part) for part in range(parts)]
        if self.ended:
            return "\n".join([*lines, "#EXT-X-ENDLIST", ""])
        if self.parts:
            uri = self.part(msn, parts).rpartition("/")[2]
            lines += [f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{uri}"']
        return "\n".join([*lines, ""])

    def _part_tag(self, msn: int, part: int) -> str:
        return f'#EXT-X-PART:DURATION=0.5,URI="{self.part(msn, part).rpartition("/")[2]}"'

    def _media(self, asked: Asked) -> Sequence[Step]:
        number = asked.target.rpartition("-")[2].removesuffix(".m4s")
        msn, _, part = number.partition(".")
        needed = int(msn) * PARTS + (int(part) + 1 if part else PARTS)
        if part:
            self._await(needed)
        if self.made < needed:
            return [ok(b"", status="404 Not Found")]
        time.sleep(self.media_s)
        return [ok(asked.target.encode() * 100, "Content-Type: video/mp4")]
