"""origin/config.py"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecache.errors import ConfigError
from origin.config import Config, load_config
from origin.secretfiles import passphrases_of, secrets_of
from origin.server import Origin

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/origin.toml"


def load(text: str, folder: Path, *overrides: str, **environ: str) -> Config:
    path = folder / "origin.toml"
    path.write_text(text)
    return load_config(path, overrides=overrides, environ=environ).value


def test_defaults_are_a_small_ladder_on_a_grid() -> None:
    config = load_config(None, environ={}).value
    assert (config.live.segment, config.live.parts) == (2000, 8)
    assert {track: rung.bitrate * 8 for track, rung in config.ladder.items()} == {
        "360p": 700_000,
        "180p": 250_000,
    }


def test_the_example_is_the_defaults() -> None:
    """What it shows for each key is what holds without it."""
    example = load_config(EXAMPLE, environ={}).value
    assert example == load_config(None, environ={}).value


def test_the_example_names_every_key() -> None:
    rows = load_config(EXAMPLE, environ={}).rows()
    silent = {key for key, _, source in rows if source == "default"}
    assert silent <= {
        "audio.tracks",
        "text.tracks",
        "keys",
        "pops",
        "data.dir",
        "archive.ladder",
        "archive.secret_file",
        "catalog.token_file",
        "hooks.secret_file",
        "admin.token_file",
        "encoder.ffmpeg",
        "slate.still",
        "srt.passphrases",
    }  # no default to show


def test_its_comments_can_be_uncommented(tmp_path: Path) -> None:
    """Keys, POPs and tracks stand there as comments."""
    lines = EXAMPLE.read_text().splitlines()
    text = "\n".join(line.removeprefix("#: ") for line in lines)
    config = load(text, tmp_path)
    assert list(config.pops) == ["pop-a", "pop-b"]
    assert list(config.keys) == ["main"]


def test_files_environment_and_command_line(tmp_path: Path) -> None:
    config = load(
        '[live]\nwindow = "60s"\nparts = 4\n',
        tmp_path,
        "live.parts=10",
        ORIGIN__LIVE__PARTS="8",
        ORIGIN__LIVE__SEGMENT="4s",
    )
    assert (config.live.window, config.live.parts, config.live.segment) == (60_000, 10, 4000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[http]\nlisten = "8080"', "http.listen: found '8080', allowed an address such as"),
        ('[http]\nlisten = "h:99999"', "http.listen: found"),
        ('[http]\npublic = "https://x/y"', "http.public"),
        ('[live]\nsegment = "2"', "live.segment: found '2', allowed a duration with its unit"),
        ('[live]\nwindow = "7s"\nsegment = "4s"', "at least 3 segments"),
        ('[live]\ndvr = "20s"', "live.dvr: allowed 0, or live.window and more"),
        ('[live]\ndvr = "2h"', "live.dvr: found without data.dir"),
        ("[live]\nparts = 0", "live.parts: found 0"),
        ('[keys.main]\nsecret = "short"', "keys.main.secret: found a secret (not shown)"),
        ("[keys.main]", "either secret or secret_file"),
        ('[keys."a b"]\nsecret = "0123456789abcdef"', "key id 'a b'"),
        ('[pops.ams]\npush = "http://h:1"', "found POPs without a key"),
        ('[pops.AMS]\npush = "http://h:1"', "found POP 'AMS'"),
        ('[pops.ams]\npush = "http://h:1/path"', "pops.ams.push: found"),
        ('[ladder.x]\nwidth = 641\nheight = 360\nbitrate = "1Mbps"', "ladder.x.width: found 641"),
        ('[ladder.audio]\nwidth = 64\nheight = 36\nbitrate = "1Mbps"', "any other"),
        ('[ladder.audio-de]\nwidth = 64\nheight = 36\nbitrate = "1Mbps"', "any other"),
        ("[audio.tracks.german]", "found audio track 'german'"),
        ("[text.tracks.german]", "found text track 'german'"),
        ("[ladder.text-hi]\nwidth=16\nheight=16\nbitrate='9kbps'", "ladder.text-hi"),
        ("[audio.tracks.audio]\nchannels = [0, 16]", "audio.tracks.audio.channels"),
        ("[ladder.x]\nwidth = 64\nheight = 36\nbitrate = 1000", "a rate with its unit"),
        ("[ladder]", "ladder: found"),
        ('[push]\nqueue_bytes = "1KiB"', "push.queue_bytes: found"),
        ("[push]\nqeue_items = 9", "did you mean queue_items?"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(text, tmp_path)
    assert [line for line in error.value.problems if says in line], error.value.problems
    assert all("\n" not in line for line in error.value.problems)


def test_a_grid_that_frames_do_not_fill_is_refused_before_anybody_publishes(
    tmp_path: Path,
) -> None:
    config = load('[live]\nsegment = "1s"\nparts = 30\n', tmp_path)
    with pytest.raises(ConfigError, match=r"live: part 0\.033 s: found 360p with frames"):
        Origin(config)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load('[http]\nlisten = "x"\n[live]\nparts = 0\nx = 1\n', tmp_path)
    assert len(error.value.problems) == 3


def test_secrets_from_text_and_file(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"fedcba9876543210\n")
    text = f'[keys.a]\nsecret = "0123456789abcdef"\n[keys.b]\nsecret_file = "{tmp_path}/b"\n'
    found = secrets_of(load(text, tmp_path))
    assert list(found.items()) == [("a", b"0123456789abcdef"), ("b", b"fedcba9876543210")]


def test_secret_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    text = (
        f'[keys.a]\nsecret_file = "{tmp_path}/none"\n[keys.b]\nsecret_file = "{tmp_path}/short"\n'
    )
    with pytest.raises(ConfigError) as error:
        secrets_of(load(text, tmp_path))
    assert [line.split(":")[0] for line in error.value.problems] == [
        "keys.a.secret_file",
        "keys.b.secret_file",
    ]
    assert "short" not in error.value.problems[1].replace(str(tmp_path / "short"), "")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "origin.toml"
    path.write_text('[keys.a]\nsecret = "0123456789abcdef"\n')
    loaded = load_config(path, environ={})
    assert "0123456789abcdef" not in repr(loaded.value) + repr(loaded.rows())


def test_passphrases_are_what_srt_allows(tmp_path: Path) -> None:
    """10 to 79 bytes, in place or in a file, by stream."""
    (tmp_path / "long").write_text("x" * 79 + "\n")
    text = f"""
    [srt.passphrases]
    default = {{ secret = "0123456789" }}
    cam = {{ secret_file = "{tmp_path}/long" }}
    """
    found = passphrases_of(load(text, tmp_path))
    assert found == {"default": b"0123456789", "cam": b"x" * 79}


def test_passphrases_that_srt_does_not_allow(tmp_path: Path) -> None:
    (tmp_path / "longer").write_text("x" * 80)
    text = f"""
    [srt.passphrases]
    a = {{ secret = "012345678" }}
    b = {{ secret_file = "{tmp_path}/longer" }}
    c = {{ secret_file = "{tmp_path}/none" }}
    """
    with pytest.raises(ConfigError) as caught:
        passphrases_of(load(text, tmp_path))
    assert caught.value.problems == (
        "srt.passphrases.a: found 9 bytes, allowed 10 to 79",
        "srt.passphrases.b.secret_file: found 80 bytes, allowed 10 to 79",
        f"srt.passphrases.c.secret_file: found {tmp_path}/none: No such file or directory, "
        "allowed a readable file",
    )
