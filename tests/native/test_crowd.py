"""How many connections an address has, in memory that does not grow (native/crowd.pxd)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.native._probe import DoorOf

FULL, CROWDED, COUNTED = range(3)


def test_an_ipv6_subscriber_is_a_network_of_64_bits() -> None:
    door = DoorOf(1000, 3)
    spray = [f"2001:db8:0:7::{n:x}" for n in range(1, 9)]
    assert [door.enter(address) for address in spray] == [COUNTED] * 3 + [CROWDED] * 5
    assert door.enter("2001:db8:0:8::1") == COUNTED


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_counts_return_to_nothing(steps: list[tuple[bool, int]]) -> None:
    """Against a plain count, for addresses few enough to share no slot."""
    door, inside = DoorOf(20, 5), [0] * 4
    for comes, number in steps:
        address = f"198.51.100.{number}"
        if comes:
            room = sum(inside) < 20
            expected = COUNTED if room and inside[number] < 5 else CROWDED if room else FULL
            assert door.enter(address) == expected
            inside[number] += expected == COUNTED
        elif inside[number]:
            door.leave(address)
            inside[number] -= 1
    for number, count in enumerate(inside):
        for _ in range(count):
            door.leave(f"198.51.100.{number}")
    assert (door.inside, door.slots()) == (0, 0)


def test_strangers_are_let_in_beside_a_crowd() -> None:
    """A slot may be shared with a crowd; both of an address' slots are not, but for one stranger in
    millions. A thousand addresses at their bound leave it at one in four thousand."""
    door = DoorOf(1 << 20, 4)
    for number in range(1000):
        for _ in range(4):
            assert door.enter(f"10.0.{number >> 8}.{number & 255}") >= CROWDED
    refused = sum(
        door.enter(f"172.16.{number >> 8}.{number & 255}") == CROWDED for number in range(2000)
    )
    assert refused <= 8


def test_each_door_has_a_seed_of_its_own() -> None:
    assert len({tuple(DoorOf(1, 1).seed) for _ in range(4)}) == 4
