"""The pages: /watch/{stream}, /go, /state, and the files they need under /static/.

Laws: read once at start, from this package only; nothing from another host. An asset has two names:
`name`, checked again each time (ETag), and `name` with its digest inside, which never changes and
is cached for good. A template names assets as `{{static:name}}` and gets the second name, and so
does a script for `from "./name.js"`: a page never mixes two versions of its parts. Values are
escaped for HTML. Does not know HTTP servers: it hands out bytes and header values.
"""

from __future__ import annotations

import html
import mimetypes
import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import xxhash

_PLACE: Final = re.compile(r"\{\{\s*(?:static:([A-Za-z0-9._-]+)|([a-z_]+))\s*\}\}")
_IMPORT: Final = re.compile(r'(?<= from "\./)[a-z-]+\.js(?=";$)', re.MULTILINE)
# Media comes from blob: URLs (Media Source Extensions), and hls.js runs its worker from one.
_POLICY: Final = (
    "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; "
    "img-src 'self' data:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'; "
    "object-src 'none'"
)
_FOREVER: Final = "public, max-age=31536000, immutable"
_CHECK: Final = "public, max-age=60"


@dataclass(frozen=True, slots=True)
class Asset:
    """A body and the values of the fields it is served with. etag: 32 hex digits, unquoted."""

    body: bytes
    content_type: str
    cache_control: str
    etag: str
    policy: str = ""


class PageError(ValueError):
    """A template names what is not there: a mistake in the package, found at start."""


class Pages:
    """All of this package's files, or those below `root`."""

    def __init__(self, root: Traversable | None = None) -> None:
        root = root or resources.files(__name__)
        self._assets: dict[str, Asset] = {}
        self._immutable: dict[str, str] = {}
        files = {
            file.name: file.read_bytes()
            for file in (root / "static").iterdir()
            if file.is_file() and not file.name.startswith(".")
        }
        for name in files:
            self._add(name, files, ())
        self._templates = {
            name: self._link((root / f"{name}.html").read_text("utf-8"))
            for name in ("watch", "go", "state")
        }

    def static(self, name: str) -> Asset | None:
        """The asset called `name`, by either of its names."""
        return self._assets.get(name)

    def watch(self, stream: str) -> Asset:
        return self._render("watch", stream=stream)

    def go(self) -> Asset:
        return self._render("go")

    def state(self) -> Asset:
        return self._render("state")

    def _add(self, name: str, files: dict[str, bytes], importers: tuple[str, ...]) -> str:
        """Take `name` and, first, what it imports; returns the name that never changes."""
        if name in self._immutable:
            return self._immutable[name]
        if name not in files or name in importers:
            raise PageError(f"import of {name!r} by {importers[-1]!r}: not there, or a circle")
        body = files[name]
        if name.endswith(".js") and not name.endswith(".min.js"):
            inside = (*importers, name)
            text = _IMPORT.sub(lambda match: self._add(match[0], files, inside), body.decode())
            body = text.encode()
        digest = xxhash.xxh3_128_hexdigest(body)
        stem, dot, suffix = name.rpartition(".")
        fixed = f"{stem}.{digest[:12]}{dot}{suffix}" if stem else f"{name}.{digest[:12]}"
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        kind += "; charset=utf-8" if kind.startswith("text/") else ""
        self._assets[name] = Asset(body, kind, _CHECK, digest)
        self._assets[fixed] = Asset(body, kind, _FOREVER, digest)
        self._immutable[name] = fixed
        return fixed

    def _link(self, template: str) -> str:
        def replace(match: re.Match[str]) -> str:
            if not match[1]:
                return match[0]
            if match[1] not in self._immutable:
                raise PageError(f"static file {match[1]!r} is named by a template, but not there")
            return f"/static/{self._immutable[match[1]]}"

        return _PLACE.sub(replace, template)

    def _render(self, name: str, **values: str) -> Asset:
        text = _PLACE.sub(lambda match: html.escape(values[match[2]]), self._templates[name])
        body = text.encode()
        digest = xxhash.xxh3_128_hexdigest(body)
        return Asset(body, "text/html; charset=utf-8", _CHECK, digest, _POLICY)
