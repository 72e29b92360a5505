"""Which origins a key comes from."""

from __future__ import annotations

import pytest

from edgecache.config import load_config
from edgecache.control.routes import Routes
from edgecache.errors import ConfigError
from tests.looped import looped

OTHERS = [
    'route=[{prefix="/x/", origins=["http://b:2", "https://c"], query=["t", "s"]},'
    '{prefix="/x/y/", kind="vod"}]',
]
CONFIG = load_config(None, [*OTHERS, "origin.urls=http://a:1,http://b:2"]).value


@looped
async def test_the_longest_prefix_decides() -> None:
    routes = Routes(CONFIG)
    assert [routes.of(key).rules.prefix for key in (b"/x/y/z?t=1", b"/x/y", b"/xy", b"/")] == [
        "/x/y/", "/x/", "/", "/",
    ]  # fmt: skip
    assert routes.keep() == [(b"/x/y/", []), (b"/x/", [b"t", b"s"]), (b"/", [])]


@looped
async def test_an_origin_is_one_however_often_it_is_named() -> None:
    routes = Routes(CONFIG)
    assert [origin.url for origin in routes.origins] == ["http://a:1", "http://b:2", "https://c"]
    assert routes.of(b"/x/").upstreams.origins[0] is routes.of(b"/").upstreams.origins[1]
    routes.reload(load_config(None, [*OTHERS, "origin.urls=http://b:2"]).value, lambda *_: True)
    assert [origin.url for origin in routes.of(b"/").upstreams.origins] == ["http://b:2"]
    assert routes.of(b"/x/y/").upstreams is routes.of(b"/").upstreams
    await routes.close()


@looped
async def test_only_our_origins_have_paths() -> None:
    route = Routes(CONFIG).of(b"/x/")
    found = route.at("http://b:2/p/q?r=1#s")
    assert found is not None
    assert (found[0].url, found[1]) == ("http://b:2", "/p/q?r=1")
    assert route.at("https://c") is not None
    for url in ("http://a:1/p", "https://b:2/p", "http://b:2@evil/p", "//b:2/p", "/p"):
        assert route.at(url) is None


@looped
async def test_a_reload_keeps_what_is_the_same_and_is_whole_or_nothing() -> None:
    routes = Routes(CONFIG)
    before = {prefix: routes.of(prefix) for prefix in (b"/x/", b"/x/y/", b"/")}
    told: list[object] = []

    def tell(*tables: object) -> bool:
        told.append(tables)
        return True

    fresh = load_config(
        None,
        [
            "origin.urls=http://d:1",
            'route=[{prefix="/x/", origins=["http://b:2", "https://c"], query=["t", "s"]},'
            '{prefix="/z/", kind="http"}]',
        ],
    ).value
    with pytest.raises(ConfigError):
        routes.reload(fresh, lambda *_: False)
    assert {prefix: routes.of(prefix) for prefix in before} == before
    assert routes.origins[0].url == "http://a:1"
    routes.reload(fresh, tell)
    assert told == [(routes.keep(), [b"/z/"])]
    assert routes.of(b"/x/y/") is routes.of(b"/x/") is before[b"/x/"]
    for key in (b"/", b"/z/"):
        assert [origin.url for origin in routes.of(key).upstreams.origins] == ["http://d:1"]
    await routes.close()
