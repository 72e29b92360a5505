"""The swarm against a scripted origin: what it counts when all is well, and when it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import BenchError
from bench.swarm import drive, plan, result
from bench.swarm.build import build
from bench.swarm.drive import Crowd
from bench.swarm.origin import Fault, Origin, Script, Show, serving
from bench.swarm.result import Digests, Result
from bench.swarm.serverside import run_beside

SHORT = Show(part_s=0.1, parts=4)
FEW = Crowd(viewers=20, seconds=1.5, ramp_s=0.3, retry_s=0.1, timeout_s=2.0)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    build()


def play(origin: Origin, crowd: Crowd = FEW) -> Result:
    return drive.run(plan.look(origin.url), crowd)


def ledger_closes(run: Result) -> bool:
    t = run.tallies
    return (
        t["asked"] == t["answered"] + t["failed"] + t["dropped"]
        and t["bytes_media"] >= t["bytes_compared"] + t["bytes_first"]
        and t["joined"] == t["ended"] + t["left"] + t["lost"]
    )


def once(kind: Fault, suffix: str, after: int = 3) -> Script:
    """One fault, at a path with that in it which was asked for that often before."""
    left = [kind]

    def script(path: str, before: int) -> Fault:
        return left.pop() if left and suffix in path and before >= after else ""

    return script


def test_low_latency_viewers_play_and_check_every_byte() -> None:
    with serving(replace(SHORT, tracks=("video", "audio"))) as origin:
        run = play(origin)
    t = run.tallies
    assert run.sound, run.summary()
    assert ledger_closes(run)
    assert (run.playing, t["started"], t["left"], t["asked_segment"]) == (20, 20, 20, 0)
    assert t["asked_init"] == 40
    assert t["bytes_compared"] + t["bytes_first"] == t["bytes_media"]
    assert t["bytes_first"] < t["bytes_media"] / 10
    assert run.digests.right == t["copies"] + t["versions"]
    assert run.digests.wrong == run.digests.without == 0
    # two tracks, a playlist and a part every 0.1 s
    assert 30 <= run.steady["asked"] / run.steady_s / 20 <= 45
    assert t["parked"] > 0.7 * t["asked_blocking"]
    blocked = run.percentiles_ms("blocked")
    assert blocked
    assert 50 <= blocked["p90"] <= 120


def test_the_origin_is_asked_what_the_swarm_counted() -> None:
    with serving(SHORT) as origin:
        run = play(origin)
    asked = sum(origin.asked.values()) - 1  # plan.look
    assert asked - run.tallies["dropped"] <= run.tallies["answered"] <= asked
    assert origin.asked["/show/master.m3u8"] == 21


def test_classic_viewers_poll_and_fetch_segments() -> None:
    show = replace(SHORT, part_s=0.25, history_s=5.0)
    with serving(show) as origin:
        run = play(origin, replace(FEW, low_latency=False, seconds=3.0))
    assert run.sound, run.summary()
    assert ledger_closes(run)
    assert run.tallies["asked_part"] == run.tallies["asked_blocking"] == 0
    assert 20 * 3 <= run.tallies["asked_segment"] <= 20 * 9
    assert run.steady["asked_playlist"] / run.steady_s / 20 == pytest.approx(1.0, abs=0.4)


def test_a_media_playlist_needs_no_multivariant_one() -> None:
    with serving(SHORT) as origin:
        look = plan.look(f"{origin.base}/show/video.m3u8")
        run = drive.run(look, FEW)
    assert look.multivariant is None
    assert run.sound
    assert run.tallies["asked_multivariant"] == 0


@pytest.mark.parametrize("connections", [1, 4])
def test_any_number_of_connections_will_do(connections: int) -> None:
    with serving(replace(SHORT, part_s=0.2, tracks=("video", "audio"))) as origin:
        run = play(origin, replace(FEW, connections=connections))
    assert run.sound, run.summary()
    assert run.tallies["connects"] <= 20 * connections


def test_delta_updates_are_understood() -> None:
    with serving(replace(SHORT, window=12, history_s=8.0)) as origin:
        full = play(origin)
        delta = play(origin, replace(FEW, skip=True))
    assert delta.sound, delta.summary()
    sizes = [r.tallies["bytes_playlist"] / (r.tallies["asked_playlist"] + 1) for r in (full, delta)]
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize("framing", ["chunked", "pieces", "close"])
def test_every_framing_is_understood(framing: Fault) -> None:
    with serving(replace(SHORT, part_s=0.2), lambda _path, _before: framing) as origin:
        run = play(origin)
    assert run.sound, run.summary()
    assert ledger_closes(run)
    assert run.digests.right > 0
    if framing == "close":
        assert run.tallies["connects"] > 20 * 5


@pytest.mark.parametrize(
    ("fault", "suffix", "kind"),
    [
        ("404", ".m4s", "4xx"),
        ("503", ".m3u8?", "5xx"),
        ("corrupt", ".m4s", "bytes"),
        ("cut", ".m4s", "reset"),
        ("stale", ".m3u8?", "stale"),
    ],
)
def test_one_fault_is_counted_once(fault: Fault, suffix: str, kind: str) -> None:
    # a hold back of 0.9 s outlives one retry
    with serving(replace(SHORT, part_s=0.3, history_s=8), once(fault, suffix)) as origin:
        run = play(origin)
    assert run.errors == {kind: 1}, run.summary()
    assert run.tallies["failed"] == 1
    assert run.tallies["stalls"] == 0
    assert run.samples
    assert suffix.removesuffix("?") in run.samples[0]
    assert ledger_closes(run)
    assert not run.sound


def test_a_corrupt_first_copy_shows() -> None:
    """Whoever is first defines the copy; its ETag does not match, and everybody else differs."""
    with serving(SHORT, once("corrupt", "/video/10", after=0)) as origin:
        run = play(origin)
    assert run.errors["bytes"] >= 1
    assert run.digests.wrong == 1


def test_silence_ends_at_the_deadline() -> None:
    with serving(SHORT, once("silent", ".m4s")) as origin:
        run = play(origin, replace(FEW, timeout_s=0.4))
    assert run.errors == {"timeout": 1}
    assert ledger_closes(run)


def test_a_late_origin_is_a_stall_of_everybody() -> None:
    """0.3 s of hold back, 1 s of silence, 0.1 s until there are two parts again: 0.8 s, and less
    by what had been fetched ahead of the first sleep."""
    with serving(replace(SHORT, pause=(1.0, 1.0))) as origin:
        run = play(origin, replace(FEW, seconds=2.5))
    t = run.tallies
    assert run.errors == {}
    assert (t["stalls"], t["stalled_viewers"]) == (20, 20)
    apart = run.percentiles_ms("versions_apart")
    assert apart
    assert apart["p50"] == pytest.approx(100, rel=0.2)
    assert apart["p100"] == pytest.approx(1100, rel=0.1)
    assert 0.6 <= t["stall_us"] / 20e6 <= 1.0
    assert not run.sound


def test_a_late_origin_within_the_hold_back_is_none() -> None:
    with serving(replace(SHORT, part_s=0.2, pause=(1.0, 0.3))) as origin:
        run = play(origin, replace(FEW, seconds=2.0))
    assert run.sound, run.summary()


def test_the_end_of_the_stream_is_no_stall() -> None:
    with serving(replace(SHORT, length_s=7.2)) as origin:
        run = play(origin, replace(FEW, seconds=2.0))
    assert run.errors == {}
    assert (run.tallies["ended"], run.tallies["stalls"]) == (20, 0)


def test_a_dead_server_loses_the_viewers() -> None:
    with serving(SHORT) as origin:
        look = plan.look(origin.url)
    run = drive.run(look, replace(FEW, viewers=3, retry_s=0.02, tries=5))
    assert run.tallies["lost"] == 3
    assert run.errors == {"connect": 18}
    assert ledger_closes(run)


def test_several_processes_are_one_crowd() -> None:
    with serving(SHORT) as origin:
        run = play(origin, replace(FEW, processes=2, viewers=11))
    assert run.sound, run.summary()
    assert run.viewers == run.playing == run.tallies["left"] == 11


def test_more_viewers_than_descriptors_is_refused() -> None:
    with serving(SHORT) as origin, pytest.raises(BenchError, match="viewers: found 50000"):
        play(origin, replace(FEW, viewers=50_000, processes=1))


def test_a_server_that_is_not_there_cannot_be_measured() -> None:
    with serving(SHORT) as origin, pytest.raises(BenchError, match="process 999999999 is not"):
        run_beside(plan.look(origin.url), FEW, 999_999_999)


def test_what_cannot_be_played_is_refused() -> None:
    with serving(SHORT) as origin:
        with pytest.raises(BenchError, match="not a playlist"):
            plan.look(f"{origin.base}/show/video/init.mp4")
        with pytest.raises(BenchError, match="404"):
            plan.look(f"{origin.base}/nothing")
    with pytest.raises(BenchError, match="allowed: http"):
        plan.look("https://localhost/x.m3u8")
    with pytest.raises(BenchError, match="refused"):
        plan.look(origin.url)


@pytest.mark.parametrize("us", [0, 1, 15, 16, 17, 31, 32, 33, 1000, 123_456, 7_000_000])
def test_buckets_are_read_back_within_their_width(us: int) -> None:
    index = us if us < 16 else (us.bit_length() - 4) * 16 + (us >> (us.bit_length() - 5) & 15)
    assert result.bucket_us(index) == pytest.approx(us, rel=1 / 32, abs=0.5)


def test_quantiles_and_merging() -> None:
    counts = [0] * 640
    counts[3], counts[10] = 9, 1
    assert [result.quantile_us(counts, q) for q in (50, 90, 99, 100)] == [3, 3, 10, 10]
    with pytest.raises(ValueError, match="nothing"):
        result.quantile_us([0, 0], 50)
    one = Result(1, 1, 2.0, 1.0, {"a": 1}, {"a": 1}, {"s": [0, 1]}, Digests(1, 2, 3), ("x",))
    two = result.merged([one, replace(one, elapsed_s=3.0)])
    assert (two.viewers, two.elapsed_s, two.tallies["a"], two.spans["s"]) == (2, 3.0, 2, [0, 2])
    assert two.digests == Digests(2, 4, 6)
    assert two.samples == ["x", "x"]
