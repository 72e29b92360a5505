"""A stream whose host has a wall clock that jumps (battery E11)."""

from __future__ import annotations

import re

from origin.markers import Marker
from origin.model import MPD_TYPE, PlaylistVersion, Publication
from origin.timing import NS
from tests.encoded import encode
from tests.unit.test_presentation import ENCODERS, WALL, presentation

PUBLISHED = re.compile(rb'publishTime="([^"]*)"')


def test_a_wall_clock_that_jumps_changes_no_playlist() -> None:
    """E11: dates, numbers and events of a generation go by its media; an MPD that is published
    again says no earlier time of itself."""
    made: list[list[Publication]] = []
    for off_s in ((0,), (3600, -3600, 5 * 365 * 86_400)):
        show = presentation()
        start = show.begin_generation(wall_ns=WALL)
        out: list[Publication] = []
        for number, (track, data) in enumerate(encode(ENCODERS["wheel"], start.offset_s)):
            if number == 20:
                show.mark(Marker(id="break", start_ns=WALL + 4 * NS, planned_ns=NS))
            jumps = any(each.path.endswith(".mpd") for each in out)
            out += show.feed(track, data, WALL + jumps * off_s[number % len(off_s)] * NS)
        out += show.feed("180p", b"", WALL + min(off_s) * NS)
        made.append([*out, *show.end()])
    steady, jumping = ([undated(each) for each in out] for out in made)
    assert jumping == steady
    texts = [each.full for each in made[1] if isinstance(each, PlaylistVersion)]
    assert any(b"EXT-X-DATERANGE" in text for text in texts)
    published = [found[1] for text in texts if (found := PUBLISHED.search(text))]
    assert len(set(published)) > 1
    assert published == sorted(published)


def undated(publication: Publication) -> object:
    """Without when an MPD was published."""
    if isinstance(publication, PlaylistVersion) and publication.content_type == MPD_TYPE:
        return PUBLISHED.sub(b"", publication.full)
    return publication
