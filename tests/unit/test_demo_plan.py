"""What the demo's programs are told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgecache.config import load_config
from edgecache.demo_plan import HOST, Demo, Ports, write_settings
from origin.config import load_config as load_origin

# Any: nothing listens.
PORTS = Ports(**{each.name: 20_000 + at for at, each in enumerate(dataclasses.fields(Ports))})


def whip(home: Path, offered: bool) -> list[str]:
    """Where the origin and the POPs take WHIP."""
    home.mkdir()
    files = write_settings(Demo(home=home, ports=PORTS, publish=False, whip=offered))
    pops = [load_config(files[name]).value.ingest.whip_listen for name in ("pop-a", "pop-b")]
    return [load_origin(files["origin"]).value.whip.listen, *pops]


def test_whip_is_asked_for_only_where_it_can_be_had(tmp_path: Path) -> None:
    """Elsewhere the origin would say an error that nobody can do anything about."""
    assert whip(tmp_path / "without", offered=False) == ["", "", ""]
    assert whip(tmp_path / "with", offered=True) == [f"{HOST}:0"] * 3
