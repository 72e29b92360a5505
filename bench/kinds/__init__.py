"""How each kind of question is measured; one file a kind."""

from __future__ import annotations

from typing import Any, Final

from .base import Kind
from .eviction import EVICTION
from .exhaustion import EXHAUSTION
from .hit import HIT
from .hold import IDLE, SLOW
from .hot_key import HOT_KEY
from .publish import FANOUT, PUSH_TO_BYTE
from .storm import STORM
from .viewers import VIEWERS

KINDS: Final[dict[str, Kind[Any]]] = {
    "hit": HIT,
    "hot_key": HOT_KEY,
    "miss_storm": STORM,
    "idle": IDLE,
    "slow": SLOW,
    "fanout": FANOUT,
    "push_to_byte": PUSH_TO_BYTE,
    "eviction": EVICTION,
    "exhaustion": EXHAUSTION,
    "viewers": VIEWERS,
}
