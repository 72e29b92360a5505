"""The overload ladder: in order, without flapping, by whatever limit is the tightest."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecache.control.pressure import RUNGS, Ladder, groups, resident


def test_rungs_are_climbed_in_order_and_left_only_well_below() -> None:
    assert [name for _, name in RUNGS] == [
        "evict", "refuse_dvr", "refuse_viewers", "close_idle",
    ]  # fmt: skip
    ladder = Ladder()
    shares = (0.5, 0.84, 0.85, 0.83, 0.93, 0.90, 0.885, 0.96, 0.99, 0.96, 0.93, 0.85, 0.81)
    assert [ladder.at(share) for share in shares] == [0, 0, 1, 1, 2, 2, 1, 3, 4, 4, 3, 1, 0]


def test_one_look_may_climb_all_or_leave_all() -> None:
    ladder = Ladder()
    assert ladder.at(1.2) == len(RUNGS)
    assert ladder.at(0.1) == 0


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize("version", [1, 2])
def test_the_groups_that_have_a_limit(tmp_path: Path, version: int) -> None:
    own = tmp_path / "cgroup"
    if version == 2:
        own.write_text("0::/system.slice/edge\n")
        names = ("memory__max", "memory__current")
        root, stat, unlimited = tmp_path, "anon 5\ninactive_file 300\n", "max\n"
    else:
        own.write_text("5:cpu:/\n4:memory:/system.slice/edge\n0::/\n")
        names = ("memory__limit_in_bytes", "memory__usage_in_bytes")
        root, stat, unlimited = tmp_path / "memory", "total_inactive_file 300\n", f"{1 << 63}\n"
    write(root, **{names[0]: unlimited, names[1]: "9000\n", "memory__stat": stat})
    write(root / "system.slice", **{names[0]: "4000\n", names[1]: "1300\n", "memory__stat": stat})
    edge = root / "system.slice/edge"
    write(edge, **{names[0]: "1000\n", names[1]: "800\n", "memory__stat": stat})
    found = groups(tmp_path, own)
    assert [(group.limit(), group.used()) for group in found] == [(1000, 500), (4000, 1000)]


def test_a_host_without_groups_has_no_limit(tmp_path: Path) -> None:
    assert groups(tmp_path, tmp_path / "none") == []
    assert resident() > 1 << 20
