"""The edge's configuration: the example equals the defaults, limits reach the core, secrets
load."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from edgecache.config import EdgeConfig, load_config, load_secrets
from edgecache.errors import ConfigError
from edgecache.fields import split_address
from edgecache.sources import Route

ROOT = Path(__file__).resolve().parents[2]
KEY = "keys.a.secret=0123456789abcdef"


def rejected(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    return "\n".join(caught.value.problems)


def test_the_example_is_the_defaults_and_names_every_key() -> None:
    example = load_config(ROOT / "examples/edge.toml")
    assert example.value == EdgeConfig()
    unset = {key for key, _, source in example.rows() if source == "default"}
    files = {"admin.token_file", "origin.ca_file", "ingest.certificate", "ingest.private_key"}
    assert unset == {"keys", "route", *files}


def test_the_example_route_is_the_default(tmp_path: Path) -> None:
    lines = (ROOT / "examples/edge.toml").read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("# [[route]]"))
    text = "\n".join(line.removeprefix("# ") for line in lines[first : lines.index("", first)])
    path = tmp_path / "edge.toml"
    path.write_text(text)
    loaded = load_config(path)
    assert loaded.value.route == (Route(),)
    assert {source for key, _, source in loaded.rows() if key.startswith("route.")} == {
        f"{path}:{n}" for n in (2, 3, 6, 7, 8, 9, 10)
    }


def test_routes_are_ordered_and_complete() -> None:
    given = 'route=[{prefix="/a/"}, {prefix="/a/b/", kind="vod"}]'
    assert [route.prefix for route in load_config(None, [given]).value.routes()] == [
        "/a/b/", "/a/", "/",
    ]  # fmt: skip
    assert load_config(None, ['route=[{prefix="/", kind="vod"}]']).value.routes()[0].kind == "vod"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('prefix="a/"', "route.0.prefix"),
        ('prefix="/a"', "route.0.prefix"),
        ('prefix="/a//"', "route.0.prefix"),
        ('query=["_HLS_msn"]', "route.0.query"),
        ('query=["a=b"]', "route.0.query"),
        ('prefix="/"}, {prefix="/"', "route: found one twice"),
        ('origins=["http://a/path"]', "route.0.origins.0"),
    ],
)
def test_no_routes(text: str, said: str) -> None:
    assert said in rejected(f"route=[{{{text}}}]")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":80", ("0.0.0.0", 80)),
        ("[::1]:80", ("::1", 80)),
        ("pop.example:0", ("pop.example", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize(
    "text", ["80", "a", "a:b", "a:70000", "::1:80", "http://a:80", "a:80 ", ""]
)
def test_no_addresses(text: str) -> None:
    assert "http.listen" in rejected(f"http.listen={text}")


@pytest.mark.parametrize(
    "text",
    ["origin", "ftp://a", "http://", "http://a/p", "http://a?x=1", "http://u:p@a", "http://a:0"],
)
def test_no_urls(text: str) -> None:
    assert "origin.urls.0" in rejected(f"origin.urls={text}")


def test_doors_need_a_key() -> None:
    assert "keys: found none" in rejected("push.listen=:1")
    assert load_config(None, ["push.listen=:1", KEY]).value.push.listen == ":1"
    assert "keys: found none" in rejected("ingest.srt_listen=:1")


@pytest.mark.parametrize(
    "given",
    [
        ("ingest.rtmps_listen=:1",),
        ("ingest.rtmps_listen=:1", "ingest.certificate=/c"),
        ("ingest.private_key=/k",),
    ],
)
def test_a_door_behind_tls_needs_both_files(given: tuple[str, ...]) -> None:
    assert "allowed ingest.certificate with ingest.private_key" in rejected(KEY, *given)


def test_a_key_has_one_source() -> None:
    assert "either secret or secret_file" in rejected(KEY, "keys.a.secret_file=/x")
    assert "keys.a.secret" in rejected("keys.a.secret=short")


def test_secrets(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("fedcba9876543210\n")
    config = load_config(None, [KEY, f"keys.b.secret_file={file}"]).value
    assert load_secrets(config) == {"a": b"0123456789abcdef", "b": b"fedcba9876543210"}
    file.write_text("short")
    with pytest.raises(ConfigError, match="under 16 bytes"):
        load_secrets(config)
    file.unlink()
    with pytest.raises(ConfigError, match=r"keys\.b\.secret_file: found .*No such file"):
        load_secrets(config)


def test_limits_are_those_of_the_core() -> None:
    core = pytest.importorskip("edgecache._core")
    config = load_config(None, ["http.workers=4", "http.connections=1000", "http.parked=10"]).value
    limits = config.limits()
    assert limits["max_connections"] == 1000
    assert limits["max_parked"] == 3
    core.Plane(name=b"edge", budget_bytes=config.cache.memory, limits=limits)


def test_where_the_origin_pushes_to() -> None:
    def url(*overrides: str) -> str:
        return load_config(None, [KEY, *overrides]).value.push_url(99)

    assert url() == ""
    assert url("push.listen=127.0.0.1:0") == "http://127.0.0.1:99"
    assert url("push.listen=[::1]:0") == "http://[::1]:99"
    assert url("push.listen=:0", "push.advertise=http://pop:5/") == "http://pop:5"
    assert url("push.listen=:0").endswith(":99")


def test_the_bound_of_all_leaves_descriptors_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert load_config().value.limits()["max_connections"] == 1024 * 9 // 10 - 64
    assert load_config(None, ["http.connections=5000"]).value.limits()["max_connections"] == 960


def test_proxies_of_ours() -> None:
    given = 'http.trusted=["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]'
    mapped, nothing = bytes(10) + b"\xff\xff", bytes(14)
    assert load_config(None, [given]).value.trusted() == [
        (mapped + bytes((10, 0, 0, 0)), 104),
        (mapped + bytes((192, 0, 2, 1)), 128),
        (b"\x20\x01\x0d\xb8" + nothing[:12], 32),
    ]
    limits = load_config(None, ["http.client_field=x-forwarded-for", "http.beyond=reset"])
    assert limits.value.limits() | {"client_field": 2, "reset_beyond": 1} == limits.value.limits()


def test_names_that_we_go_by() -> None:
    chain = ["chain.siblings=http://10.0.0.1:8080,http://b.example", "chain.host=http://b.example"]
    given = ["http.hosts=POP.example,*.live.example,[2001:DB8::1]", *chain]
    assert load_config(None, chain).value.hosts() == ()
    assert load_config(None, given[:1]).value.hosts() == (
        "pop.example",
        "*.live.example",
        "[2001:db8::1]",
    )
    assert load_config(None, given).value.hosts()[3:] == ("b.example",)
    given[2] = "chain.host=http://10.0.0.1:8080"
    assert load_config(None, given).value.hosts()[3:] == ("10.0.0.1",)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["http.hosts=pop.example:80"], "http.hosts: found"),
        (["http.hosts=*.example.*"], 'allowed up to 64 names without a port, such as "pop.'),
        (["http.hosts=" + ",".join(f"h{n}" for n in range(65))], "up to 64 names"),
        (['http.trusted=["10.0.0.1/8"]'], "http.trusted: found"),
        (["http.trusted=proxy.example"], 'allowed up to 64 networks such as "10.0.0.0/8"'),
        (["http.trusted=" + ",".join(f"10.0.0.{n}" for n in range(65))], "up to 64 networks"),
        (["http.trusted=", "http.proxy_protocol=true"], "http.trusted: found none"),
        (["http.trusted=", "http.client_field=forwarded"], "http.trusted: found none"),
        (["http.client_field=x-real-ip"], "http.client_field: found 'x-real-ip', allowed"),
        (["http.beyond=drop"], "http.beyond: found 'drop', allowed 'answer' or 'reset'"),
        (["http.connections_per_address=-1"], "http.connections_per_address: found '-1'"),
    ],
)
def test_no_such_front_door(overrides: list[str], said: str) -> None:
    found = rejected(*overrides)
    assert said in found
    assert len(found.splitlines()) == 1
