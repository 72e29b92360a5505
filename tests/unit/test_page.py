"""Pages: names that never change, nothing from elsewhere, and the player that we say we ship."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import pytest

from origin.page import PageError, Pages

STATIC: Final = Path(__file__).resolve().parents[2] / "origin/page/static"
# hls.js 1.7.4 and dash.js 5.2.1, as scripts/vendor-player takes them out of their packages.
VENDORED: Final = {
    "hls.min.js": "cfc70cc9e9fc63d071919e087670abc760c8fd1bc889b88588026e4d22193bbe",
    "hls.LICENSE.txt": "ca8773cf798c7ed997d4dd7c8e23c348699f8d5b7462636694cc14de6cda12db",
    "dash.min.js": "d4ee2d6fd00a3944f448964787d4603ca1e4ae5ce2956d0a755b78e0d3566b57",
    "dash.LICENSE.txt": "e9f99772bb2b4d07a8c24204a8c52e022649cc5dc7e411e8eb54fb8e258cc26e",
}
LINK: Final = re.compile(r'(?:href|src|data-\w+)="(/static/[^"]+)"')
IMPORT: Final = re.compile(r' from "\./([^"]+)"')


def small(folder: Path, **static: str) -> Pages:
    """Pages of two empty templates and the given scripts: `a="…"` is a.js."""
    (folder / "static").mkdir()
    for name in ("watch", "go", "state"):
        (folder / f"{name}.html").write_text("{{static:a.js}} {{stream}}")
    for name, text in static.items():
        (folder / f"static/{name}.js").write_text(text)
    return Pages(folder)


@pytest.mark.parametrize("name", VENDORED)
def test_the_player_is_the_one_that_was_checked(name: str) -> None:
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == VENDORED[name]


def test_everything_a_page_needs_is_there_and_never_changes() -> None:
    pages = Pages()
    wanted = [
        link.removeprefix("/static/")
        for page in (pages.watch("demo"), pages.go(), pages.state())
        for link in LINK.findall(page.body.decode())
    ]
    assert len(wanted) > 8
    seen = set()
    while wanted:
        name = wanted.pop()
        asset = pages.static(name)
        assert asset is not None, name
        assert "immutable" in asset.cache_control
        if name.endswith(".js") and ".min." not in name and name not in seen:
            wanted += IMPORT.findall(asset.body.decode())
        seen.add(name)
    assert {name.split(".")[0] for name in seen} >= {"player", "meter", "words", "hls", "dash"}


def test_pages_need_nothing_inline_and_nobody_else() -> None:
    for page in (Pages().watch("demo"), Pages().go(), Pages().state()):
        text = page.body.decode()
        assert "://" not in text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", text)
        assert "default-src 'self'" in page.policy
        assert "unsafe" not in page.policy


def test_a_script_changes_its_name_with_what_it_imports(tmp_path: Path) -> None:
    fixed = []
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        pages = small(
            tmp_path / version,
            a='import { b } from "./b.js";\n',
            b=f"export const b = {version};\n",
        )
        page = pages.watch("x").body.decode().split()[0]
        fixed.append(page)
        asset = pages.static(page.removeprefix("/static/"))
        assert asset
        assert re.search(rb'"\./b\.[0-9a-f]{12}\.js"', asset.body)
    assert fixed[0] != fixed[1]


@pytest.mark.parametrize(
    "other", ['export { a } from "./a.js";\n', 'export { c } from "./c.js";\n']
)
def test_a_circle_and_a_missing_import_are_found_at_start(tmp_path: Path, other: str) -> None:
    with pytest.raises(PageError, match="import of"):
        small(tmp_path, a='export { b } from "./b.js";\n', b=other)


def test_values_are_escaped(tmp_path: Path) -> None:
    page = small(tmp_path, a="").watch('"><script>')
    assert page.body.decode().endswith("&quot;&gt;&lt;script&gt;")
