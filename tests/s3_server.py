"""A real S3 server on loopback, with one bucket, that can be away."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from moto.server import ThreadedMotoServer

from origin.archive.objects import Place

BUCKET: Final = "recordings"


@dataclass
class S3:
    """`port` stays the same over `stop` and `start`."""

    server: ThreadedMotoServer
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def place(self, prefix: str) -> Place:
        return Place(
            url=f"s3://{BUCKET}/{prefix}",
            endpoint=self.endpoint,
            region="us-east-1",
            access_key="tests",
            secret_key="not-a-secret",
        )

    def options(self, prefix: str, secret_file: object) -> list[str]:
        """As overrides of the origin's configuration."""
        return [
            f"archive.store=s3://{BUCKET}/{prefix}",
            f"archive.endpoint={self.endpoint}",
            "archive.region=us-east-1",
            "archive.access_key=tests",
            f"archive.secret_file={secret_file}",
        ]


@contextmanager
def s3_server() -> Iterator[S3]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        found = S3(server, port)
        bucket = urllib.request.Request(f"{found.endpoint}/{BUCKET}", method="PUT")
        signed = "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request"
        bucket.add_header("Authorization", signed)
        with urllib.request.urlopen(bucket, timeout=10) as answer:
            assert answer.status == 200
        yield found
    finally:
        server.stop()
