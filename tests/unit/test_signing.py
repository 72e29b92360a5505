"""EC1: what is covered, what is refused, and that refusing costs nothing to others."""

from __future__ import annotations

import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import SignatureError
from edgecache.signing import Verifier, sign

SECRET = b"0123456789abcdef"
FIELDS = [("Edge-TTL", "1000"), ("Content-Type", "video/mp4"), ("edge-digest", "ab")]


class Clock:
    def __init__(self) -> None:
        self.wall_s = 1_000_000.0
        self.monotonic_s = 50.0


def verifier(clock: Clock, max_nonces: int = 100, **secrets: bytes) -> Verifier:
    """One that began an hour ago."""
    made = Verifier(
        secrets or {"a": SECRET},
        max_nonces=max_nonces,
        wall_s=lambda: clock.wall_s,
        monotonic_s=lambda: clock.monotonic_s,
    )
    made.since_s -= 3600
    return made


def signed(
    *, kid: str = "a", secret: bytes = SECRET, at: float = 1_000_000, nonce: str | None = None
) -> list[tuple[str, str]]:
    value = sign("PUT", "/a?b", FIELDS, kid=kid, secret=secret, now_s=at, nonce=nonce)
    return [*FIELDS, ("Authorization", value)]


def refused(check: Verifier, fields: list[tuple[str, str]]) -> tuple[int, str]:
    with pytest.raises(SignatureError) as caught:
        check.verify("PUT", "/a?b", fields)
    return caught.value.status, caught.value.reason


def test_known_answer() -> None:
    """The contract of ARCHITECTURE.md, spelt out once more by hand."""
    message = b"PUT\n/a?b\n1000000\n0011223344556677\nedge-digest:ab\nedge-ttl:1000"
    expected = hmac.new(SECRET, message, hashlib.sha256).hexdigest()
    value = dict(signed(nonce="0011223344556677"))["Authorization"]
    assert value == f"EC1 kid=a,ts=1000000,nonce=0011223344556677,sig={expected}"


def test_several_keys_and_rotation() -> None:
    check = verifier(Clock(), a=SECRET, b=b"another secret..")
    assert check.verify("PUT", "/a?b", signed()) == "a"
    assert check.verify("PUT", "/a?b", signed(kid="b", secret=b"another secret..")) == "b"
    check.replace_secrets({"b": b"another secret.."})
    assert refused(check, signed()) == (403, "bad_signature")


@pytest.mark.parametrize(
    "change",
    [
        {"method": "POST"},
        {"target": "/a?c"},
        {"fields": [("Edge-TTL", "1001"), ("edge-digest", "ab")]},
        {"fields": [("Edge-TTL", "1000")]},
        {"fields": [*FIELDS, ("Edge-Final", "1")]},
        {"fields": [*FIELDS, ("EDGE-TTL", "1000")]},
    ],
)
def test_what_is_covered(change: dict[str, object]) -> None:
    request = {"method": "PUT", "target": "/a?b", "fields": FIELDS, **change}
    authorization = signed()[-1]
    fields = [*request["fields"], authorization]  # type: ignore[misc]
    with pytest.raises(SignatureError) as caught:
        verifier(Clock()).verify(str(request["method"]), str(request["target"]), fields)
    assert caught.value.reason == "bad_signature"


def test_other_fields_may_change_on_the_way() -> None:
    fields = [*reversed(signed()), ("Via", "x"), ("Content-Type", "other")]
    assert verifier(Clock()).verify("PUT", "/a?b", fields) == "a"


@pytest.mark.parametrize("skew_s", [-31, 31, -3600, 3600])
def test_stale_and_early(skew_s: int) -> None:
    assert refused(verifier(Clock()), signed(at=1_000_000 + skew_s)) == (403, "stale")


@pytest.mark.parametrize("skew_s", [-30, 0, 30])
def test_within_the_window(skew_s: int) -> None:
    assert verifier(Clock()).verify("PUT", "/a?b", signed(at=1_000_000 + skew_s)) == "a"


def test_a_nonce_counts_once_within_its_window() -> None:
    clock = Clock()
    check = verifier(clock)
    early = signed(at=1_000_030)  # acceptable for 60 s from now
    check.verify("PUT", "/a?b", early)
    assert refused(check, early) == (403, "replayed")
    clock.wall_s += 59
    clock.monotonic_s += 59
    assert refused(check, early) == (403, "replayed")
    clock.wall_s += 2
    clock.monotonic_s += 2
    assert refused(check, early) == (403, "stale")


def test_what_a_dead_process_may_have_taken_is_not_taken_again() -> None:
    """Signed before this one began; a wall clock that is set meanwhile changes nothing."""
    clock = Clock()
    check = verifier(clock)
    check.recall({}, clock.monotonic_s)
    old, new = signed(at=999_999.998), signed(at=1_000_000.001)
    for step_s in (0, 5, 20):
        clock.monotonic_s += step_s
        clock.wall_s += step_s
        assert refused(check, old) == (503, "before_start")
    assert check.verify("PUT", "/a?b", new) == "a"
    assert refused(check, new) == (403, "replayed")
    clock.wall_s -= 3600
    assert check.verify("PUT", "/a?b", signed(at=clock.wall_s)) == "a"


def test_who_takes_over_remembers_since_when() -> None:
    clock = Clock()
    first, second = verifier(clock), verifier(clock)
    first.recall({}, clock.monotonic_s - 10)
    taken = signed()
    first.verify("PUT", "/a?b", taken)
    second.recall(first.remembered(), first.since_s)
    assert refused(second, taken) == (403, "replayed")
    assert refused(second, signed(at=999_989)) == (503, "before_start")
    assert second.verify("PUT", "/a?b", signed(at=999_991)) == "a"


def test_a_stamp_has_milliseconds() -> None:
    assert re.search(r",ts=\d+\.\d{3},", sign("PUT", "/", kid="a", secret=SECRET))


def test_a_full_table_refuses_rather_than_forgets() -> None:
    clock = Clock()
    check = verifier(clock, max_nonces=2)
    first = signed()
    check.verify("PUT", "/a?b", first)
    check.verify("PUT", "/a?b", signed())
    assert refused(check, signed()) == (503, "nonce_table_full")
    assert refused(check, first) == (403, "replayed")
    clock.monotonic_s += 61
    assert check.verify("PUT", "/a?b", signed()) == "a"


def test_strangers_cannot_fill_the_table() -> None:
    check = verifier(Clock(), max_nonces=1)
    for _ in range(10):
        assert refused(check, signed(secret=b"wrong")) == (403, "bad_signature")
        assert refused(check, signed(kid="nobody")) == (403, "bad_signature")
    assert check.verify("PUT", "/a?b", signed()) == "a"


@pytest.mark.parametrize(
    "value",
    ["", "Basic eA==", "EC1", "EC1 kid=a", "EC1 kid=a,ts=1,nonce=00,sig=00", "EC2 " + "x" * 200],
)
def test_malformed(value: str) -> None:
    assert refused(verifier(Clock()), [("Authorization", value)]) == (401, "unsigned")
    assert refused(verifier(Clock()), [*signed(), ("authorization", "x")]) == (401, "unsigned")
    assert refused(verifier(Clock()), FIELDS) == (401, "unsigned")


@given(st.text(max_size=300))
def test_any_text_is_judged_not_crashed_on(value: str) -> None:
    fields = [("Authorization", value), ("Edge-X", value)]
    with pytest.raises(SignatureError):
        verifier(Clock()).verify("PUT", value, fields)
