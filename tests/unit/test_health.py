"""origin/health.py: when work is left out, and when it comes back."""

from __future__ import annotations

from origin.health import Health, Limits

LIMITS = Limits(late_s=1.0, for_s=5.0, calm_s=60.0, calm_max_s=200.0)


class Watched:
    """A health, and the clock of the parts that it sees, four a second."""

    def __init__(self, steps: int = 2) -> None:
        self.health = Health(LIMITS)
        self.steps = steps
        self.now = 1000.0

    def see(self, inside_s: float, for_s: float) -> list[tuple[float, int]]:
        """(seconds, level) of each change."""
        found = []
        for part in range(1, round(for_s * 4) + 1):
            self.now += 0.25
            if self.health.saw(inside_s, self.now, steps=self.steps):
                found.append((part / 4, self.health.level))
                assert not self.health.saw(inside_s, self.now + 1e6, steps=self.steps)
                self.health.began()
        return found


def test_late_without_a_break_leaves_out_one_step_after_the_other() -> None:
    assert Watched().see(1.5, 60) == [(5.25, 1), (10.5, 2)]
    assert Watched(steps=0).see(1.5, 60) == []


def test_a_hiccup_is_nothing() -> None:
    watched = Watched()
    for _ in range(10):
        assert watched.see(3.0, 4.75) == []
        assert watched.see(0.7, 0.25) == []  # neither late nor calm


def test_what_was_left_out_comes_back_when_it_is_calm() -> None:
    watched = Watched()
    watched.see(1.5, 11)
    assert watched.see(0.7, 300) == []
    assert watched.see(0.2, 200) == [(60.25, 1), (120.5, 0)]
    assert watched.see(0.2, 300) == []


def test_what_came_back_too_early_waits_twice_as_long() -> None:
    watched = Watched(steps=1)
    waited = []
    for _ in range(4):
        assert [level for _, level in watched.see(1.5, 6)] == [1]
        waited += [after for after, _ in watched.see(0.2, 210)][:1]
        watched.now -= 210 - waited[-1]
        watched.health.began()
    assert waited == [60.25, 120.25, 200.25, 200.25]
    watched.see(0.2, 500)  # it was not too early this time
    watched.see(1.5, 6)
    assert watched.see(0.2, 210)[0] == (60.25, 0)


def test_another_encoder_is_judged_by_itself() -> None:
    watched = Watched()
    assert watched.see(1.5, 5) == []
    watched.health.began()
    assert watched.see(1.5, 5) == []
