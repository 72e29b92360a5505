"""The tables of ARCHITECTURE.md, enforced: imports point down, no circle, every file listed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edgecache", "origin")
ROW = re.compile(r"^\| ([LO])(\d) [^|]*\| ([^|]+) \|", re.MULTILINE)
CIMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+)?c?import\s+\(?\s*([\w., ]+)", re.MULTILINE)


class Layer(NamedTuple):
    package: str
    height: int


class Edge(NamedTuple):
    importer: str
    imported: str


def table() -> list[tuple[str, Layer]]:
    """(file pattern, layer) in the order of the document; a plain name comes before a pattern."""
    rows = []
    for letter, height, files in ROW.findall((ROOT / "ARCHITECTURE.md").read_text()):
        package = {"L": "edgecache", "O": "origin"}[letter]
        for pattern in re.findall(r"`([^`]+)`", files):
            folder = "native/" if pattern == "base.h" else ""
            rows.append((f"{package}/{folder}{pattern}", Layer(package, int(height))))
    return sorted(rows, key=lambda row: "*" in row[0])


def sources() -> list[Path]:
    """Every file of code in both packages but the package markers, which hold none."""
    found = (path for name in PACKAGES for path in (ROOT / name).rglob("*"))
    kinds = {".py", ".pyx", ".pxd", ".h"}
    markers = {"__init__.py", "__init__.pxd"}
    return sorted(path for path in found if path.suffix in kinds and path.name not in markers)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def layer_of(path: Path) -> Layer | None:
    name = str(path.relative_to(ROOT))
    return next((layer for pattern, layer in table() if fnmatch(name, pattern)), None)


def names_imported(path: Path) -> Iterator[str]:
    """Dotted names, absolute; `from a import b` gives both a and a.b."""
    package = list(path.relative_to(ROOT).parent.parts)
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                up = package[: len(package) + 1 - node.level] if node.level else []
                base = ".".join([*up, *([node.module] if node.module else [])])
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
    elif path.suffix in {".pyx", ".pxd"}:
        for base, names in CIMPORT.findall(path.read_text()):
            absolute = f"{'.'.join(package)}.{base.lstrip('.')}" if base.startswith(".") else base
            yield absolute
            for name in names.split(","):
                first = name.split()[0] if name.split() else ""
                yield f"{absolute}.{first}" if absolute else first


def edges() -> list[Edge]:
    """Imports between our own modules, whatever the scope they stand in."""
    modules = {module_of(path): path for path in sources()}
    found = set()
    for name, path in modules.items():
        for imported in names_imported(path):
            if imported in modules and imported != name:
                found.add(Edge(name, imported))
    return sorted(found)


def test_every_file_is_in_the_table() -> None:
    unlisted = [str(p.relative_to(ROOT)) for p in sources() if layer_of(p) is None]
    assert unlisted == [], "files without a layer: list them in ARCHITECTURE.md"


@pytest.mark.parametrize("pattern", [row[0] for row in table()])
def test_every_row_of_the_table_exists(pattern: str) -> None:
    assert list(ROOT.glob(pattern)), f"ARCHITECTURE.md names {pattern}, which is not there"


def test_imports_point_down() -> None:
    layers = {module_of(path): layer_of(path) for path in sources()}
    upward = []
    for edge in edges():
        above, below = layers[edge.importer], layers[edge.imported]
        if above is None or below is None:
            continue  # said by test_every_file_is_in_the_table
        if above.package == below.package:
            allowed = below.height <= above.height
        else:
            allowed = above.package == "origin" and below.height == 0
        if not allowed:
            upward.append(f"{edge.importer} ({above}) imports {edge.imported} ({below})")
    assert upward == []


def test_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for edge in edges():
        graph.setdefault(edge.importer, set()).add(edge.imported)
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {' -> '.join(reversed(error.args[1]))}")
    assert set(graph) <= set(order)


def test_the_reader_of_imports_sees_them() -> None:
    """A scanner that finds nothing would pass everything above."""
    found = edges()
    assert any(e.imported.startswith("edgecache.native.") for e in found)
    assert any(e.importer.startswith("origin.") and e.imported == "edgecache.units" for e in found)
