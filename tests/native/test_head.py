"""The prebuilt head: line and fields side by side, validator inside (native/head.pxd)."""

from __future__ import annotations

import http
import re

import pytest

from tests.native._probe import alive, head, reason

FIELDS = b"Content-Type: video/mp4\r\nCache-Control: max-age=1\r\n"


@pytest.mark.parametrize(
    ("length", "framing"),
    [
        (0, b"Content-Length: 0"),
        (2**63 - 1, b"Content-Length: 9223372036854775807"),
        (-1, b"Transfer-Encoding: chunked"),
    ],
)
def test_a_head(length: int, framing: bytes) -> None:
    before = alive()
    whole, fields, etag, line = head(200, length, FIELDS, b"tag")
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + FIELDS)
    assert whole[line:] == fields
    assert fields.startswith(FIELDS)
    assert fields.endswith(b'ETag: "tag"\r\n')
    assert etag == b'"tag"'
    assert re.fullmatch(rb"([A-Za-z-]+: [^\r\n]+\r\n)+", fields)
    assert alive() == before


def test_without_a_validator() -> None:
    whole, fields, etag, _ = head(404, 5, b"", b"")
    assert etag == b""
    assert b"ETag: " not in fields
    assert whole.startswith(b"HTTP/1.1 404 Not Found\r\n")


def test_long_fields_and_validators() -> None:
    fields = b"X-Long: " + b"y" * 60_000 + b"\r\n"
    whole, _, etag, _ = head(200, 1, fields, b"e" * 1000)
    assert fields in whole
    assert etag == b'"' + b"e" * 1000 + b'"'


@pytest.mark.parametrize(
    "status",
    [
        200,
        204,
        206,
        301,
        302,
        304,
        400,
        403,
        404,
        405,
        408,
        410,
        421,
        431,
        500,
        501,
        502,
        503,
        504,
        505,
    ],
)
def test_reasons_are_those_of_the_registry(status: int) -> None:
    assert reason(status).decode() == http.HTTPStatus(status).phrase


@pytest.mark.parametrize("status", [299, 418, 599])
def test_a_status_without_a_name_has_a_phrase(status: int) -> None:
    assert reason(status) == b"Status"
