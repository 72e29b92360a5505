"""A miss storm: N viewers on open connections ask at once for one object nobody has yet.

Lag of a viewer's byte is its arrival less the time the origin wrote the chunk that holds it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..load import percentiles
from .crowd import RECEIVE_WINDOW, Crowd, Viewer, fetch, request


def lags_ms(
    arrivals: Sequence[tuple[int, int]], ends: Sequence[int], writes_ns: Sequence[int]
) -> list[float]:
    """Per chunk: when the viewer had all of it, less when the origin wrote it. `ends` are body
    offsets, ascending; `arrivals` ascend in both members and reach the last end."""
    found, at = [], 0
    for end, written in zip(ends, writes_ns, strict=True):
        while arrivals[at][1] < end:
            at += 1
        found.append((arrivals[at][0] - written) / 1e6)
    return found


def main(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Params: address, origin ([ip, port]), path, viewers, ends, size, timeout_s."""
    address = (params["address"][0], int(params["address"][1]))
    crowd = Crowd(address, params["viewers"])
    cpu, began = time.process_time(), time.monotonic()
    _, last_ask_ns = crowd.ask(request(address, params["path"]))
    crowd.read_for(params["timeout_s"])
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    paths = json.loads(fetch(tuple(params["origin"]), "/_stub/paths"))
    stub = paths.get(params["path"], {"requests": 0, "writes_ns": []})
    yield _summary(params, crowd, stub, last_ask_ns) | {"client_cpu": share}


def _summary(
    params: Mapping[str, Any], crowd: Crowd, stub: Mapping[str, Any], last_ask_ns: int
) -> dict[str, Any]:
    whole = [v for v in crowd.answered() if v.body_bytes == params["size"]]
    problems = []
    if len(whole) < len(crowd.viewers):
        problems.append(f"{len(crowd.viewers) - len(whole)} viewers were not served whole")
    if len(stub["writes_ns"]) != len(params["ends"]):
        problems.append("the origin did not finish its answer")
        return {"problems": problems}
    if last_ask_ns > stub["writes_ns"][0]:
        problems.append("viewers were still asking when the origin answered")
    if params["size"] > RECEIVE_WINDOW:
        problems.append("the body exceeds the receive window: stamps would show the client")
    return {"problems": problems, "origin_requests": stub["requests"]} | _lag(whole, params, stub)


def _lag(
    whole: Sequence[Viewer], params: Mapping[str, Any], stub: Mapping[str, Any]
) -> dict[str, Any]:
    writes = stub["writes_ns"]
    first = [(v.arrivals[0][0] - writes[0]) / 1e6 for v in whole]
    last = [(v.arrivals[-1][0] - writes[-1]) / 1e6 for v in whole]
    chunk = [lag for v in whole for lag in lags_ms(v.arrivals, params["ends"], writes)]
    figures: dict[str, Any] = {}
    for name, values in (("first", first), ("last", last), ("chunk", chunk)):
        p50, p99, top = percentiles(values, (50, 99, 100))
        figures |= {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99, f"{name}_max_ms": top}
    return figures | {"series": {"first byte lag, ms": percentiles(first, range(101))}}
