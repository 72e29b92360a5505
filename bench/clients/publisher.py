"""A packager and its parked viewers in one process: publish a version, see when each gets it.

The zero of every lag is the wall clock just before the first byte of the PUT leaves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from ..load import percentiles
from .bystanders import Bystanders
from .crowd import Crowd, fetch, request
from .pushdoor import Door, object_fields, playlist, version_fields

STREAM: Final = "/live/bench"
PLAYLIST: Final = f"{STREAM}/v.m3u8"
HIT: Final = f"{STREAM}/e/v/hit.m4s"
MSN: Final = 100
LAST_PARTS: Final = 4
_BREATH_S: Final = 0.3  # for whoever watches the server's CPU
_TAKEN: Final = (200, 201, 204)
_RELEASE_TURN: Final = 8  # answers read between two turns of the bystanders


def fanout(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Params: address, door, origin, secret, viewers, size, settle_s, timeout_s. Bystanders ask for
    a hit of that size all the while: before the publish, and while the viewers are released."""
    with closing(Door(tuple(params["door"]), params["secret"])) as door:
        _publish(door, params["size"], 0)
        _send(door, [door.message(HIT, bytes(params["size"]), object_fields())])
        crowd = Crowd(tuple(params["address"]), params["viewers"])
        crowd.ask(_blocking(crowd.address, 0))
        crowd.read_for(params["settle_s"])
        problems = [] if len(crowd.waiting) == params["viewers"] else ["not everybody was parked"]
        bystanders = Bystanders(crowd.address, HIT)
        bystanders.run(params["settle_s"])
        yield {"parked": len(crowd.waiting)}
        time.sleep(_BREATH_S)
        sent_ns = door.send(*_version(door, params["size"], 1))
        _release(crowd, bystanders, params["timeout_s"])
        _take(door, 1)
    whole = [v for v in crowd.answered() if v.body_bytes == params["size"]]
    if len(whole) < params["viewers"]:
        problems.append(f"{params['viewers'] - len(whole)} viewers were not served whole")
    first = [(v.arrivals[0][0] - sent_ns) / 1e6 for v in whole]
    last = [(v.arrivals[-1][0] - sent_ns) / 1e6 for v in whole]
    over_ns = sent_ns + int(max(last, default=0) * 1e6)
    before = bystanders.latencies_ms(0, sent_ns)
    during = bystanders.latencies_ms(sent_ns, over_ns)
    yield {"problems": problems, **_figures("first", first), **_figures("last", last)} | {
        "hits_before_p99_ms": percentiles(before, (99,))[0],
        "hits_p99_ms": percentiles(during, (99,))[0],
        "hits_max_ms": max(during, default=0.0),
        "origin_requests": _origin_requests(params),
        "series": {
            "lag behind the publish, ms": percentiles(last, range(101)),
            "hits meanwhile, ms": percentiles(during, range(101)),
        },
    }


def _release(crowd: Crowd, bystanders: Bystanders, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while crowd.waiting and time.monotonic() < deadline:
        bystanders.turn()
        crowd.turn(0, _RELEASE_TURN)


def push_to_byte(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Params as of fanout, and publishes, part_bytes, gap_s. A part and the playlist that names it
    are pushed back to back; viewers are parked on the playlist."""
    lags: list[float] = []
    problems: list[str] = []
    with closing(Door(tuple(params["door"]), params["secret"])) as door:
        _publish(door, params["size"], 0)
        crowd = Crowd(tuple(params["address"]), params["viewers"])
        for number in range(params["publishes"]):
            crowd.ask(_blocking(crowd.address, number))
            crowd.read_for(params["gap_s"])
            if len(crowd.waiting) < params["viewers"]:
                problems.append(f"publish {number}: not everybody was parked")
            sent_ns = _publish(door, params["size"], number + 1, params["part_bytes"])
            crowd.read_for(params["timeout_s"])
            served = [v for v in crowd.answered() if v.body_bytes == params["size"]]
            lags += [(v.arrivals[0][0] - sent_ns) / 1e6 for v in served]
    if len(lags) < params["publishes"] * params["viewers"]:
        problems.append(f"{params['publishes'] * params['viewers'] - len(lags)} answers missing")
    yield {"problems": problems[:3], **_figures("first", lags)} | {
        "origin_requests": _origin_requests(params),
        "series": {"first byte behind the push, ms": percentiles(lags, range(101))},
    }


def _blocking(address: tuple[str, int], parts: int) -> bytes:
    msn, part = MSN + parts // LAST_PARTS, parts % LAST_PARTS
    return request(address, f"{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}")


def _version(door: Door, size: int, parts: int, part_bytes: int = 0) -> list[bytes]:
    """The playlist that lists `parts` parts since MSN, behind the last of them if it has a size."""
    msn, listed = MSN + parts // LAST_PARTS, parts % LAST_PARTS
    body = playlist(size, parts)
    messages = [door.message(PLAYLIST, body, version_fields(msn, listed, LAST_PARTS, size))]
    if part_bytes:
        part = parts.to_bytes(4, "big").ljust(part_bytes, b"p")
        messages.insert(0, door.message(f"{STREAM}/e/v/o{parts}.m4s", part, object_fields()))
    return messages


def _publish(door: Door, size: int, parts: int, part_bytes: int = 0) -> int:
    """Wall ns of the first byte sent."""
    return _send(door, _version(door, size, parts, part_bytes))


def _send(door: Door, messages: Sequence[bytes]) -> int:
    stamp = door.send(*messages)
    _take(door, len(messages))
    return stamp


def _take(door: Door, answers: int) -> None:
    for _ in range(answers):
        status = door.status()
        if status not in _TAKEN:
            raise SystemExit(f"the push door answered {status}")


def _figures(name: str, values: Sequence[float]) -> dict[str, float]:
    p50, p99, top = percentiles(values, (50, 99, 100))
    return {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99, f"{name}_max_ms": top}


def _origin_requests(params: Mapping[str, Any]) -> int:
    paths = json.loads(fetch(tuple(params["origin"]), "/_stub/paths"))
    return sum(int(row["requests"]) for row in paths.values())
