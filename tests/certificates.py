"""Two certificates that nobody trusts, with their keys: for tests of doors behind TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Pair:
    """PEM texts. Made by `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1`."""

    chain: str
    key: str

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.chain)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """(chain, key), whatever was there before."""
        files = folder / "chain.pem", folder / "key.pem"
        files[0].write_text(self.chain)
        files[1].write_text(self.key)
        return files


FIRST: Final = Pair(
    """\
-----BEGIN CERTIFICATE-----
MIIBqDCCAU2gAwIBAgIUJRYALY54Kowd5n/KEpr8XiIdxfMwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNcG9wLWEuZXhhbXBsZTAgFw0yNjExMjYwNDExMjRaGA8yMDgx
MDgyOTA0MTEyNFowGDEWMBQGA1UEAwwNcG9wLWEuZXhhbXBsZTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABJqjW8BV54A/nS3ZrLaE3RELW/xmobh0c1R0YZnZ2bBw
lzVHs7zU2swTso5QXKi42C0x7JmD+pfELOAvSzVUu/qjczBxMB0GA1UdDgQWBBSN
EWCdrDctyLlfsuiU+AenTu11jjAfBgNVHSMEGDAWgBSNEWCdrDctyLlfsuiU+Aen
Tu11jjAPBgNVHRMBAf8EBTADAQH/MB4GA1UdEQQXMBWCDXBvcC1hLmV4YW1wbGWH
BH8AAAEwCgYIKoZIzj0EAwIDSQAwRgIhAL1rw2ChzVDK3vOm2j6P6GoEIVmfsUL3
XnTrEVXtH9pYAiEA3c8fXR5OGN2BQlVf01G5Curu++8FKSvc5m21fs1BfQ4=
-----END CERTIFICATE-----
""",
    """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgkBIMzc+PdhOZgGJN
ahtn7QvJGa/t/DJt+IeXoemWJeihRANCAASao1vAVeeAP50t2ay2hN0RC1v8ZqG4
dHNUdGGZ2dmwcJc1R7O81NrME7KOUFyouNgtMeyZg/qXxCzgL0s1VLv6
-----END PRIVATE KEY-----
""",
)
SECOND: Final = Pair(
    """\
-----BEGIN CERTIFICATE-----
MIIBpjCCAU2gAwIBAgIUH3nhKYlQYdQgh2OUZnCXYCoYk4UwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNcG9wLWIuZXhhbXBsZTAgFw0yNjExMjYwNDExMjRaGA8yMDgx
MDgyOTA0MTEyNFowGDEWMBQGA1UEAwwNcG9wLWIuZXhhbXBsZTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABCiiMOUI89N3YgQaTVgQCgWNn76vFBVTSXxLZgt/YV9E
t8U52f6+Sw1zCgb/3/KovAZlzpb2u2rU0+jb0ebEMKyjczBxMB0GA1UdDgQWBBS0
WQP0Ac+kAIoBXfy7++s0b+mwAzAfBgNVHSMEGDAWgBS0WQP0Ac+kAIoBXfy7++s0
b+mwAzAPBgNVHRMBAf8EBTADAQH/MB4GA1UdEQQXMBWCDXBvcC1iLmV4YW1wbGWH
BH8AAAEwCgYIKoZIzj0EAwIDRwAwRAIgZHhX3Eyt9Hnty++tzDBzx9QhqF0r8BFQ
klAzL2gs+XMCICJJ+iSvGefFLQZ9BmCqntTD4QYWZ4ZUw+uJ+kVaI/zc
-----END CERTIFICATE-----
""",
    """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcis1UdsDVDlt0GEy
IHiLQVlYqgsckqZVMzkrWjSpKmehRANCAAQoojDlCPPTd2IEGk1YEAoFjZ++rxQV
U0l8S2YLf2FfRLfFOdn+vksNcwoG/9/yqLwGZc6W9rtq1NPo29HmxDCs
-----END PRIVATE KEY-----
""",
)
