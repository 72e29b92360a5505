"""Which origins a key comes from."""

from __future__ import annotations

from edgecache.config import load_config
from edgecache.control.routes import Routes
from tests.looped import looped

CONFIG = load_config(
    None,
    [
        "origin.urls=http://a:1,http://b:2",
        'route=[{prefix="/x/", origins=["http://b:2", "https://c"], query=["t", "s"]},'
        '{prefix="/x/y/", kind="vod"}]',
    ],
).value


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
    routes.replace(["http://b:2"])
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
