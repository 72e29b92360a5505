"""Names on the wire are the ones ARCHITECTURE.md promises, and nothing else gets into a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin import names


def test_paths() -> None:
    assert names.multivariant_path("a") == "/live/a/master.m3u8"
    assert names.media_path("a", "360p") == "/live/a/360p.m3u8"
    assert names.init_path("a", "t0", "360p", 2) == "/live/a/t0/360p/init2.mp4"
    assert names.segment_path("a", "t0", "360p", 1042) == "/live/a/t0/360p/1042.m4s"
    assert names.part_path("a", "t0", "360p", 1042, 3) == "/live/a/t0/360p/1042.3.m4s"


def test_text_is_known_by_its_name() -> None:
    assert names.part_path("a", "t0", "text-en", 7, 3) == "/live/a/t0/text-en/7.3.vtt"
    assert names.segment_path("a", "t0", "text", 7) == "/live/a/t0/text/7.vtt"
    assert names.segment_path("a", "t0", "texture", 7) == "/live/a/t0/texture/7.m4s"


def test_relative_to_the_playlists() -> None:
    assert names.relative("a", names.segment_path("a", "t0", "360p", 7)) == "t0/360p/7.m4s"
    assert names.relative("a", names.media_path("a", "audio")) == "audio.m3u8"


@pytest.mark.parametrize("name", ["a", "360p", "a-b_c", "x" * 64])
def test_good_names(name: str) -> None:
    assert names.check_name("stream", name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "../etc", "A", "a/b", "a.b", "a\n", "ä", "%0a"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"^stream name .*1 to 64 characters"):
        names.check_name("stream", name)


@given(st.integers(min_value=0, max_value=2**40))
def test_epoch_round_trip(unix_s: int) -> None:
    assert names.epoch_seconds(names.epoch_of(unix_s)) == unix_s


@pytest.mark.parametrize("epoch", ["", "A", "-1", " 1", "1_0", "z" * 13])
def test_bad_epochs(epoch: str) -> None:
    with pytest.raises(ValueError, match="base 36"):
        names.epoch_seconds(epoch)


def test_no_epoch_before_1970() -> None:
    with pytest.raises(ValueError, match="-1"):
        names.epoch_of(-1)


def test_an_epoch_follows_on_another_within_a_second() -> None:
    first = names.epoch_after(None, 1000.9)
    assert names.epoch_seconds(first) == 1000
    assert names.epoch_seconds(names.epoch_after(first, 1000.95)) == 1001
    assert names.epoch_seconds(names.epoch_after(first, 1007.2)) == 1007


def test_epochs_are_ordered() -> None:
    assert names.is_newer("10", "z")
    assert names.is_newer("1", "")
    assert not names.is_newer("z", "10")
    assert not names.is_newer("z", "z")
    assert not names.is_newer("", "")
