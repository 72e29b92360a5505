"""What the POP believes of a data centre's answer."""

from __future__ import annotations

import json

import pytest

from edgecache.control.admission import Admitted, RefusedError, _read
from edgecache.control.put import Answer, head
from edgecache.errors import UpstreamError


def body(**told: object) -> bytes:
    return json.dumps(told).encode()


def test_yes() -> None:
    answer = Answer(200, body(stream="cam", ingest=["http://a/ingest/cam"]))
    assert _read(answer) == Admitted("cam", ("http://a/ingest/cam",))


def test_yes_to_srt() -> None:
    told = body(stream="cam", ingest=["http://a/ingest/cam"], srt=["a:9000", "b:9000"])
    admitted = Admitted("cam", ("http://a/ingest/cam",), srt=("a:9000", "b:9000"))
    assert _read(Answer(200, told)) == admitted


def test_no() -> None:
    with pytest.raises(RefusedError, match="bad stream key"):
        _read(Answer(403, b""))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, b""),
        Answer(200, b"not json"),
        Answer(200, b"[]"),
        Answer(200, body(stream="cam")),
        Answer(200, body(stream="../etc", ingest=["http://a"])),
        Answer(200, body(stream="cam", ingest=[])),
        Answer(200, body(stream="cam", ingest=[1])),
        Answer(200, body(stream="cam", ingest=["http://a"], srt=[1])),
        Answer(200, body(stream="cam", ingest=["http://a"], srt=1)),
    ],
)
def test_nonsense_is_no_answer(answer: Answer) -> None:
    with pytest.raises(UpstreamError):
        _read(answer)


def test_a_field_cannot_break_out_of_its_line() -> None:
    assert head("PUT", "http://a:1/x?y", [("A", "b")]) == (
        b"PUT /x?y HTTP/1.1\r\nHost: a:1\r\nA: b\r\n\r\n"
    )
    with pytest.raises(ValueError, match="line break"):
        head("PUT", "http://a/x", [("A", "b\r\nEvil: 1")])
