"""What goes wrong under way, as what is sent when. Pure: tags in, a script out.

A script is a list of what is to be sent, each at its time since the beginning; where None stands
for a tag, the publisher is gone without a word, and connects again for what follows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from edgecache.flv import CONFIG, SCRIPT, Tag

WRAP_MS: Final = 1 << 32
_SEED: Final = 20261126
_SHARE: Final = 0.01
_HEAD: Final = 5  # codec, kind of packet and composition time stand in a body's first bytes

Script = list[tuple[float, Tag | None]]  # seconds, what
Event = Callable[[Sequence[Tag]], Script]


def _end_ms(tags: Sequence[Tag]) -> int:
    return max(tag.timestamp for tag in tags) + 33


def steady(tags: Sequence[Tag]) -> Script:
    """Everything as it was made."""
    return [(tag.timestamp / 1000, tag) for tag in tags]


def _restamped(tags: Sequence[Tag], stamp: Callable[[int], int]) -> Script:
    return [
        (tag.timestamp / 1000, replace(tag, timestamp=stamp(tag.timestamp) % WRAP_MS))
        for tag in tags
    ]


def jump(by_ms: int) -> Event:
    """Half way the time stamps jump; the media goes on."""

    def event(tags: Sequence[Tag]) -> Script:
        half = _end_ms(tags) // 2
        # begun late enough to be able to jump back
        return _restamped(tags, lambda at: at + 60_000 + (by_ms if at >= half else 0))

    return event


def wrap(tags: Sequence[Tag]) -> Script:
    """Half way the 32 bits of an RTMP time stamp (49.7 days) are over."""
    half = _end_ms(tags) // 2
    return _restamped(tags, lambda at: at + WRAP_MS - half)


def drop(seconds: float) -> Event:
    """Half way the publisher is gone, and back with time stamps from 0 and a key frame."""

    def event(tags: Sequence[Tag]) -> Script:
        half = _end_ms(tags) // 2
        key_ms = next(tag.timestamp for tag in tags if tag.is_keyframe and tag.timestamp >= half)
        began = [tag for tag in tags if tag.timestamp < key_ms]
        again = [tag for tag in tags if tag.packet == CONFIG or tag.kind == SCRIPT]
        rest = [tag for tag in tags if tag.timestamp >= key_ms and tag.packet != CONFIG]
        away_s = key_ms / 1000 + seconds
        return [
            *steady(began),
            (key_ms / 1000, None),
            *((away_s, replace(tag, timestamp=0)) for tag in again),
            *(
                (tag.timestamp / 1000 + seconds, replace(tag, timestamp=tag.timestamp - key_ms))
                for tag in rest
            ),
        ]

    return event


def then(other: Sequence[Tag]) -> Event:
    """The same publisher goes on with another clip, on the same clock."""

    def event(tags: Sequence[Tag]) -> Script:
        end_ms = _end_ms(tags)
        return steady([*tags, *(replace(t, timestamp=t.timestamp + end_ms) for t in other)])

    return event


def corrupt_tags(tags: Sequence[Tag]) -> Script:
    """One in a hundred tags of media has a tenth of its bytes, anywhere, replaced."""
    chance = random.Random(_SEED)

    def harmed(tag: Tag) -> Tag:
        if tag.packet == CONFIG or tag.kind == SCRIPT or chance.random() >= _SHARE:
            return tag
        body = bytearray(tag.body)
        for _ in range(max(4, len(body) // 10)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        return replace(tag, body=bytes(body))

    return steady([harmed(tag) for tag in tags])


def corrupt_bytes(tags: Sequence[Tag]) -> Script:
    """One in a hundred bytes of all coded media is another one."""
    chance = random.Random(_SEED)

    def harmed(tag: Tag) -> Tag:
        if tag.packet == CONFIG or tag.kind == SCRIPT:
            return tag
        body = bytearray(tag.body)
        for at in range(_HEAD, len(body)):
            if chance.random() < _SHARE:
                body[at] = chance.randrange(256)
        return replace(tag, body=bytes(body))

    return steady([harmed(tag) for tag in tags])
