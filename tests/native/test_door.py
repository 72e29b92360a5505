"""Who may come in: all, each address, proxies of ours (native/door.pxd)."""

from __future__ import annotations

from tests.native._probe import DoorOf

FULL, CROWDED, COUNTED, TRUSTED = range(4)


def test_an_address_has_its_share_and_no_more() -> None:
    door = DoorOf(1000, 3)
    assert [door.enter("192.0.2.1") for _ in range(5)] == [COUNTED] * 3 + [CROWDED] * 2
    assert door.enter("192.0.2.2") == COUNTED
    door.leave("192.0.2.1")
    assert [door.enter("192.0.2.1") for _ in range(2)] == [COUNTED, CROWDED]
    assert door.inside == 4


def test_proxies_of_ours_are_not_counted_by_address() -> None:
    door = DoorOf(1000, 2, trusted=[("::ffff:10.0.0.0", 104)])
    assert [door.enter("10.1.2.3") for _ in range(5)] == [TRUSTED] * 5
    assert [door.enter("11.1.2.3") for _ in range(3)] == [COUNTED, COUNTED, CROWDED]
    assert door.slots() == 2


def test_all_of_them_have_a_bound_too() -> None:
    door = DoorOf(4, 0, trusted=[("::ffff:10.0.0.0", 104)])
    who = ["192.0.2.1", "10.0.0.1", "192.0.2.1", "192.0.2.2"]
    assert [door.enter(address) for address in who] == [COUNTED, TRUSTED, COUNTED, COUNTED]
    assert (door.enter("192.0.2.3"), door.enter("10.0.0.1")) == (FULL, FULL)
    for address in who:
        door.leave(address)
    assert (door.inside, door.slots()) == (0, 0)
