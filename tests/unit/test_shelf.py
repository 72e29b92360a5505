"""edgecache/control/shelf.py: variants, bounds, purges."""

from __future__ import annotations

from edgecache.control.body import Body
from edgecache.control.caching import Fields, Verdict, variant
from edgecache.control.shelf import Shelf, Stored


def stored(
    target: str = "/a",
    *,
    names: tuple[str, ...] = (),
    request: Fields = (),
    size: int = 100,
    tags: frozenset[str] = frozenset(),
    span: tuple[int, int, int] | None = None,
) -> Stored:
    return Stored(
        target=target, status=200, reason="OK", fields=(),
        verdict=Verdict(stores=True, lifetime_s=60), answered_s=0.0, initial_age_s=1.0,
        answered_unix_s=0.0, body=Body.whole(bytes(size)), names=names,
        values=variant(names, request), tags=tags, span=span,
    )  # fmt: skip


def test_age_and_what_is_left() -> None:
    found = stored()
    assert (found.age_s(9.0), found.left_s(9.0)) == (10.0, 50.0)


def test_the_variant_of_the_request_is_found() -> None:
    shelf = Shelf(1 << 20)
    one = stored(names=("lang",), request=(("lang", "de"),))
    two = stored(names=("lang",), request=(("lang", "fr"),))
    shelf.put(one)
    shelf.put(two)
    assert shelf.find("/a", (("lang", "de"),)) == [one]
    assert shelf.find("/a", (("lang", "fr"),)) == [two]
    assert shelf.find("/a", ()) == []
    assert shelf.find("/b", ()) == []


def test_a_new_one_replaces_its_like_and_parts_of_it() -> None:
    shelf = Shelf(1 << 20)
    part = stored(span=(0, 99, 1000))
    shelf.put(part)
    other = stored(span=(100, 199, 1000))
    shelf.put(other)
    assert shelf.find("/a", ()) == [other, part]
    whole = stored()
    shelf.put(whole)
    assert shelf.find("/a", ()) == [whole]
    assert shelf.used == whole.size


def test_variants_and_bytes_are_bounded() -> None:
    shelf = Shelf(10_000, variants_max=2)
    made = [stored(names=("n",), request=(("n", str(i)),)) for i in range(3)]
    for each in made:
        shelf.put(each)
    assert len(shelf) == 2
    assert shelf.find("/a", (("n", "0"),)) == []
    for i in range(10):
        shelf.put(stored(f"/{i}", size=1000))
        shelf.find("/0", ())  # used again and again
    assert shelf.used <= 10_000
    assert shelf.find("/0", ())
    assert not shelf.find("/a", (("n", "2"),))
    assert shelf.used == sum(each.size for i in range(10) for each in shelf.find(f"/{i}", ()))


def test_purge_by_target_prefix_and_tag() -> None:
    shelf = Shelf(1 << 20)
    for target, tags in (("/x/1", {"red"}), ("/x/2", {"blue"}), ("/y", {"red"})):
        shelf.put(stored(target, tags=frozenset(tags)))
    assert shelf.purge(prefix="/x/", tag="red") == 1
    assert shelf.purge(tag="red") == 1
    assert shelf.purge(prefix="/x/") == 1
    assert (len(shelf), shelf.used) == (0, 0)
    shelf.put(stored("/z"))
    assert (shelf.invalidate("/z"), shelf.invalidate("/z")) == (1, 0)


def test_a_206_is_held_to_its_own_words() -> None:
    assert stored(span=(0, 99, 1000)).holds_its_span
    assert not stored(span=(0, 50, 1000)).holds_its_span
    assert stored().holds_its_span
