"""The ledger's reading and its laws, on exposition text by hand."""

from __future__ import annotations

import pytest

from bench.ledger import LAWS, ORIGIN_LAWS, broken, read

TEXT = """\
# HELP edge_accepted_total connections accepted
# TYPE edge_accepted_total counter
edge_accepted_total 7.0
edge_closed_total 5.0
edge_connections_now 2.0
edge_requests_total 10.0
edge_status_2xx_total 8.0
edge_parked_total 2.0
edge_parked_now 2.0
edge_push_received_total 4.0
edge_push_accepted_total{reason="part"} 2.0
edge_push_accepted_total{reason="version"} 1.0
edge_push_refused_total{reason="conflict"} 1.0
edge_put_created_total 2.0
edge_put_conflict_total 1.0
edge_deposit_kept_total 3.0
edge_deposit_resumed_total 2.0
edge_deposit_left_total 1.0
edge_deposit_kept_now 4.0
"""


def test_labels_count_together() -> None:
    counts = read(TEXT)
    assert counts["push_accepted"] == 3
    assert counts["accepted"] == 7
    assert broken(counts) == {}


@pytest.mark.parametrize(
    ("sample", "law", "off"),
    [
        ("edge_closed_total 5.0", "accepted = ", 1),
        ('edge_push_accepted_total{reason="part"} 2.0', "push_received = ", 1),
        ("edge_status_2xx_total 8.0", "requests = ", 1),
        ("edge_put_created_total 2.0", "put_created = ", -1),
        ("edge_put_conflict_total 1.0", "put_conflict = ", -1),
        ("edge_deposit_kept_now 4.0", "deposit_kept + deposit_resumed = ", 1),
        ("edge_parked_now 2.0", "parked = ", 1),
    ],
)
def test_one_that_is_lost_is_found(sample: str, law: str, off: int) -> None:
    name, _, value = sample.rpartition(" ")
    text = TEXT.replace(sample, f"{name} {float(value) - 1}")
    found = {known: lost for known, lost in broken(read(text)).items() if known.startswith(law)}
    assert list(found.values()) == [off]


def test_what_is_under_way_may_stand_on_either_side() -> None:
    waiting = "0..parked_now"
    assert any(waiting in law for law in LAWS)
    for answered in (8, 9, 10):
        assert not broken(read(TEXT.replace("2xx_total 8.0", f"2xx_total {answered}.0")))
    for wrong in (7, 11):
        assert broken(read(TEXT.replace("2xx_total 8.0", f"2xx_total {wrong}.0")))


def test_the_origins_pushes_are_told_apart_by_label() -> None:
    text = """\
origin_push_items_total{event="enqueued",pop="a"} 5.0
origin_push_items_total{event="enqueued",pop="b"} 3.0
origin_push_items_total{event="acknowledged",pop="a"} 4.0
origin_push_items_total{event="acknowledged",pop="b"} 3.0
origin_push_items_total{event="connects",pop="a"} 9.0
origin_push_state{of="pending",pop="a"} 1.0
origin_push_state{of="queued",pop="a"} 1.0
"""
    assert broken(read(text), ORIGIN_LAWS) == {}
    lost = text.replace('event="acknowledged",pop="b"} 3.0', 'event="acknowledged",pop="b"} 2.0')
    assert list(broken(read(lost), ORIGIN_LAWS).values()) == [1]
