"""The state of a daemon as lines."""

from __future__ import annotations

from edgecache.control import dump


def test_one_line_a_thing() -> None:
    state = {
        "pop": "a",
        "ready": [],
        "connections": 3,
        "workers": [{"parked": 1, "open": 2}, {"parked": 0, "open": 1}],
        "origins": {"http://o": {"healthy": True}},
        "fills": {},
    }
    assert list(dump.dump(state)) == [
        "pop: a",
        "ready: []",
        "connections: 3",
        "workers[0]: parked 1, open 2",
        "workers[1]: parked 0, open 1",
        "origins[http://o]: healthy true",
        "fills: none",
    ]


def test_what_is_too_much_is_cut_and_said() -> None:
    lines = list(dump.dump({"fills": {f"/{n}": {"waiters": n} for n in range(dump.LINES + 5)}}))
    assert len(lines) == dump.LINES + 1
    assert lines[-1] == "fills: and 5 more"
