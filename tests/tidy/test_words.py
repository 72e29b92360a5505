"""Words that must not stand in the project: unfinished work, unbounded waits, other machines."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = {".py", ".pyx", ".pxd", ".pyi", ".h"}
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
UNBOUNDED = re.compile(r"\bQueue\(\s*\)|^\s*except\s*:", re.MULTILINE)
HOME = re.compile(r"(?<![\w.$})/-])/(?:work|root|home|opt|Users)/")
URL = re.compile(r"\b(?:https?|rtmps?|wss?)://[^\s\"'`<>)\\,;]+")
# Specifications and standards that may be cited; everything else is loopback or an example.
HOSTS = {
    "www.w3.org",
    "www.rfc-editor.org",
    "datatracker.ietf.org",
    "www.ietf.org",
    "www.apache.org",
}
EXAMPLE = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid)$")


@pytest.fixture(scope="module")
def texts(tracked: dict[str, Path]) -> dict[str, str]:
    """Name -> text of every file that we write; minified, licence and binary ones are not."""
    unread = {".png", ".flv", ".mp4", ".bin", ".gz"}
    return {
        name: path.read_text()
        for name, path in tracked.items()
        if not name.endswith((".min.js", ".LICENSE.txt")) and path.suffix not in unread
    }


def hits(texts: dict[str, str], pattern: re.Pattern[str], *folders: str) -> list[str]:
    """file:line: match, in the code below the folders, or in every file when none is given."""
    return [
        f"{name}:{text[: match.start()].count(chr(10)) + 1}: {match[0].strip()}"
        for name, text in texts.items()
        if not folders or (name.startswith(folders) and Path(name).suffix in CODE)
        for match in pattern.finditer(text)
    ]


def test_nothing_is_left_for_later(texts: dict[str, str]) -> None:
    assert hits(texts, UNFINISHED) == []


def test_no_unbounded_queue_and_no_bare_except(texts: dict[str, str]) -> None:
    assert hits(texts, UNBOUNDED, "edgecache", "origin") == []


def test_the_control_thread_never_sleeps(texts: dict[str, str]) -> None:
    folders = ("edgecache/control", "edgecache/server.py", "origin")
    assert hits(texts, re.compile(r"\btime\.sleep\("), *folders) == []


def test_no_path_of_a_developer_machine(texts: dict[str, str]) -> None:
    assert hits(texts, HOME) == []


def is_public(url: str) -> bool:
    """Whether the URL names a host that is neither loopback, an example, nor a specification's."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False  # a template, or a malformed one in a test
    if "{" in host or "." not in host:
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_global  # not so: loopback, link-local, documentation
    return not (host in HOSTS or EXAMPLE.search(host))


def test_no_foreign_host(texts: dict[str, str]) -> None:
    """Neither registries nor content networks: the project runs without the internet."""
    assert [hit for hit in hits(texts, URL) if is_public(hit.split(": ", 1)[1])] == []
