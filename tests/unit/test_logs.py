"""Log records: one line each, whatever a peer put in them, and never a secret."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecache import logs

log = logging.getLogger("edgecache.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Later tests read records of both packages."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in ("root", "edgecache", "origin")}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(fmt: logs.Format, level: str = "info") -> io.StringIO:
    out = io.StringIO()
    logs.setup(level=level, fmt=fmt, stream=out)
    return out


def test_json_lines() -> None:
    out = lines("json")
    log.info("stored %s", "x", extra={"stream": "cam", "bytes": 5})
    record = json.loads(out.getvalue())
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "info",
        "logger": "edgecache.test",
        "message": "stored x",
        "stream": "cam",
        "bytes": 5,
    }


def test_console_lines() -> None:
    out = lines("console")
    log.warning("slow", extra={"origin": "o"})
    assert out.getvalue().endswith("WARNING edgecache.test  slow  origin=o\n")


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_one_record_is_one_line(fmt: logs.Format) -> None:
    out = lines(fmt)
    log.info('a\nb\r\x1b[31m\u2028"}', extra={"path": "/x\n{fake}\x00"})
    text = out.getvalue()
    assert text.count("\n") == 1
    assert text.isprintable() or text[:-1].isprintable()
    assert "\\x1b" in text


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_secrets_do_not_get_out(fmt: logs.Format) -> None:
    out = lines(fmt)
    logs.redact("s3cr3t-value")
    log.info("key s3cr3t-value", extra={"url": "rtmp://h/live/s3cr3t-value"})
    log.info("EC1 kid=a,ts=1,nonce=2,sig=deadbeef and token=abc stream_key: xyz")
    try:
        raise ValueError("s3cr3t-value")
    except ValueError:
        log.exception("failed")
    text = out.getvalue()
    assert "failed" in text
    assert not any(secret in text for secret in ("s3cr3t", "deadbeef", "abc ", "xyz"))
    assert text.count("[redacted]") >= 5


def test_levels_are_ours_only() -> None:
    out = lines("json", "debug")
    log.debug("ours")
    logging.getLogger("somebody.else").info("theirs")
    logs.set_level("error")
    log.warning("quiet")
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == ["ours"]


@pytest.mark.parametrize("elsewhere", [0, 1])
def test_the_journal_is_told_the_level_of_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: int
) -> None:
    """Unless stderr was sent elsewhere since."""
    with (tmp_path / "journal").open("w+") as out:
        found = os.fstat(out.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + elsewhere}")
        logs.setup(stream=out)
        log.info("fine")
        log.warning("low")
        try:
            raise ValueError("x")
        except ValueError:
            log.exception("failed")
        out.seek(0)
        told = [line.partition(">")[0] for line in out.read().splitlines()]
    assert len(told) > 3
    if elsewhere:
        assert not any(line.startswith("<") for line in told)
    else:
        assert told == ["<6", "<4"] + ["<3"] * (len(told) - 2)
