"""RTP time stamps on one clock."""

from __future__ import annotations

from origin.rtp import SenderReport
from origin.rtptime import TrackClock


def test_a_track_begins_when_it_came_and_goes_on_by_its_stamps() -> None:
    clock = TrackClock(90000, 100.0)
    assert clock.at_ms(2**32 - 900, 100.5) == 500
    assert clock.at_ms(2**32 - 900 + 900, 100.9) == 510  # however late it came
    assert clock.at_ms(900, 101.0) == 520  # across the wrap
    assert clock.at_ms(0, 101.0) == 510


def test_sound_goes_to_where_the_sender_says_step_by_step() -> None:
    """Both came at once; by the sender's clock the sound is 5 ms later."""
    video, audio = TrackClock(90000, 0.0), TrackClock(48000, 0.0)
    assert video.at_ms(9000, 1.0) == audio.at_ms(4800, 1.0) == 1000
    audio.follow(video)
    assert audio.at_ms(4800, 1.0) == 1000  # nothing was reported
    video.report(SenderReport(1, 50.0, 9000, 0))
    audio.report(SenderReport(2, 50.005, 4800, 0))
    steps = []
    for _ in range(7):
        audio.follow(video)
        steps.append(round(audio.at_ms(4800, 1.0), 3))
    assert steps == [1001, 1002, 1003, 1004, 1005, 1005, 1005]
    assert video.at_ms(9000, 1.0) == 1000
