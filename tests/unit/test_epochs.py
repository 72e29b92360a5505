"""Who may say what a stream's playlists are."""

from __future__ import annotations

from edgecache.control.epochs import Epochs


def test_the_newest_epoch_of_a_stream_counts_until_it_has_ended() -> None:
    epochs = Epochs()
    assert epochs.admits("cam", 7)
    assert epochs.admits("cam", 9)
    assert not epochs.admits("cam", 8)
    assert not epochs.admits("cam", 8, ended=True)
    assert epochs.admits("cam", 9)
    assert epochs.admits("cam", 0)  # nobody said
    assert epochs.admits("other", 3)
    assert epochs.admits("cam", 9, ended=True)
    assert epochs.admits("cam", 8)


def test_what_is_pulled_is_judged_and_changes_nothing() -> None:
    epochs = Epochs()
    assert not epochs.outdates("cam", 7)
    assert epochs.admits("cam", 9)
    assert epochs.outdates("cam", 8)
    assert not epochs.outdates("cam", 9)
    assert not epochs.outdates("cam", 10)
    assert not epochs.outdates("cam", 0)  # nobody said
    assert epochs.admits("cam", 9)


def test_a_silent_stream_is_forgotten() -> None:
    epochs = Epochs()
    assert epochs.admits("cam", 9)
    epochs.forget("cam")
    assert epochs.admits("cam", 1)
