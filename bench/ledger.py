"""The ledgers of a POP and of an origin: what counters promise each other, from /metrics alone.

A law is an equation between names of the exposition, without `edge_`, `origin_` and `_total`. A
name stands for all its labels together, `name{value}` for the samples with that label value.
`0..name` may count in part: what is under way and has reached one side only. Laws hold at any time,
but the workers' counters are read one after the other while they run: who finds one broken looks
again, and a real loss stays. Pure; does not know HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

LAWS: Final = (
    "accepted = closed + connections_now",
    "parked = woken + park_timeout + park_gone + park_drained + parked_now",
    "requests = status_2xx + status_3xx + status_4xx + status_5xx + handed_over + unanswered"
    " + 0..parked_now",
    "handed_over = site_taken + upload_accepted",
    "site_taken = site_returned + site_closed + site_requests",
    "store_created = store_entries_now + store_evicted + store_expired + store_purged"
    " + store_replaced + store_failed",
    "fill_started = fill_completed + fill_failed + fill_stopped + fill_refused + fill_held_pushed"
    " + fills_running",
    "push_received = push_accepted + push_refused + pushes_running",
    "push_received_bytes = push_bytes + push_discarded_bytes",
    "put_created = push_accepted{object} + push_accepted{part} + push_accepted{lone_part}",
    "put_same = push_accepted{same}",
    "put_conflict = push_refused{conflict}",
    "deposit_kept + deposit_resumed = deposit_left + deposit_kept_now",
    "push_door_accepted = push_door_closed + push_connections",
    "whip_accepted = whip_closed + whip_publishers",
    "admin_door_accepted = admin_door_closed + admin_connections",
)
ORIGIN_LAWS: Final = (
    "push_items{enqueued} = push_items{acknowledged} + push_items{refused} + push_items{dropped}"
    " + push_items{superseded} + push_items{lost} + push_state{pending}",
    "joins{received} = joins{joined} + joins_dropped + joins_waiting",
    "tags{received} + tags{made} = tags{forwarded} + tags{kept} + tags_dropped + tags_waiting",
    "frames{encoded} = frames{packaged} + frames_dropped + frames_waiting",
    "made{parts} + made{inits} = store_events{objects} + store_events{duplicates}"
    " + store_events{conflicts} + store_events{out_of_order}",
)
_SAMPLE: Final = re.compile(
    r"^(?:edge|origin)_([a-z0-9_]+?)(?:_total)?(?:\{([^}]*)\})? (\S+)$", re.MULTILINE
)


def read(exposition: str) -> dict[str, float]:
    """`name`, all labels together, and `name{value}` for each label value -> number."""
    found: dict[str, float] = {}
    for name, labels, number in _SAMPLE.findall(exposition):
        values = {value for _, value in re.findall(r'(\w+)="([^"]*)"', labels)}
        for key in (name, *(f"{name}{{{value}}}" for value in values)):
            found[key] = found.get(key, 0.0) + float(number)
    return found


def _side(terms: str, counts: Mapping[str, float]) -> tuple[float, float]:
    """Least and most that a sum of terms may be."""
    least = most = 0.0
    for term in terms.split(" + "):
        name = term.strip().removeprefix("0..")
        value = counts.get(name, 0.0)
        most += value
        least += 0.0 if "0.." in term else value
    return least, most


def broken(counts: Mapping[str, float], laws: Sequence[str] = LAWS) -> dict[str, float]:
    """Law -> by how much its left side is too large (or too small: negative). Empty: all hold."""
    found = {}
    for law in laws:
        left, right = law.split(" = ")
        total = _side(left, counts)[0]
        least, most = _side(right, counts)
        if not least <= total <= most:
            found[law] = total - (least if total < least else most)
    return found
