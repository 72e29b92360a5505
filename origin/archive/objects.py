"""The permanent store: objects under keys, in a local folder or an S3-compatible bucket.

Laws: an object is created once and never changed (conditional create): the same bytes again are no
news, other bytes under a known key are a conflict. What is read whole is checked against its
xxh3-128. Every call ends in bounded time. `obstore` does the work outside of the interpreter, and
is imported only here, and only when a store is opened. Does not know what the objects are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from edgecache.errors import EdgeError

from ..model import digest_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_CONNECT: Final = timedelta(seconds=5)
_REQUEST: Final = timedelta(seconds=30)
_RETRY: Final[RetryConfig] = {"max_retries": 1, "retry_timeout": timedelta(seconds=20)}


class ObjectError(EdgeError):
    """The store does not do what it should: it is away, full, or refuses."""

    source = "upstream"


class ConflictError(EdgeError):
    """Other bytes are known under this key: somebody else wrote them, or they are damaged."""

    source = "upstream"


class MissingError(EdgeError):
    """No such object."""

    source = "downstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a store is. url: a folder, or `s3://bucket/prefix`. endpoint: of an S3-compatible
    server, "" for Amazon's. access_key, secret_key: "" for those of the environment."""

    url: str
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""


class Objects:
    """The store at `place`; a folder is created. Raises ObjectError when it cannot be opened. May
    be called on any thread; the `*_async` ones on a loop."""

    def __init__(self, place: Place) -> None:
        self.url = place.url
        self._store = _open(place)

    def create(self, key: str, body: bytes) -> bool:
        """False when the same bytes were there already. Raises ConflictError, ObjectError."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            obstore.put(self._store, key, body, mode="create", use_multipart=False)
        except AlreadyExistsError:
            if digest_of(self.read(key)) != digest_of(body):
                raise ConflictError(f"{key}: other bytes are stored under this key") from None
            return False
        except (BaseError, OSError) as error:
            raise ObjectError(_line(key, error)) from None
        return True

    def read(self, key: str) -> bytes:
        """All of it. Raises MissingError, ObjectError."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            raise MissingError(f"{key}: no such object") from None
        except (BaseError, OSError) as error:
            raise ObjectError(_line(key, error)) from None

    async def read_async(self, key: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop). Raises MissingError, ObjectError."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            return bytes(await obstore.get_range_async(self._store, key, start=start, end=stop))
        except FileNotFoundError:
            raise MissingError(f"{key}: no such object") from None
        except (BaseError, OSError) as error:
            raise ObjectError(_line(key, error)) from None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """(key, size) of everything below the folder `prefix`. Raises ObjectError."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            for rows in obstore.list(self._store, prefix=prefix):
                yield from ((row["path"], row["size"]) for row in rows)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise ObjectError(_line(prefix, error)) from None

    def delete(self, keys: Sequence[str]) -> None:
        """Gone, whether they were there or not. Raises ObjectError."""
        import obstore
        from obstore.exceptions import BaseError

        for key in keys:
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise ObjectError(_line(key, error)) from None


def _open(place: Place) -> ObjectStore:
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore, S3Store

    parts = urlsplit(place.url)
    try:
        if parts.scheme != "s3":
            Path(place.url).mkdir(parents=True, exist_ok=True)
            return LocalStore(place.url, mkdir=True, automatic_cleanup=True)
        given: dict[str, Any] = {
            "endpoint": place.endpoint,
            "region": place.region,
            "access_key_id": place.access_key,
            "secret_access_key": place.secret_key,
        }
        options: ClientConfig = {
            "connect_timeout": _CONNECT,
            "timeout": _REQUEST,
            "allow_http": place.endpoint.startswith("http://"),
        }
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            virtual_hosted_style_request=not place.endpoint,
            client_options=options,
            retry_config=_RETRY,
            **{name: value for name, value in given.items() if value},
        )
    except (BaseError, OSError, ValueError) as error:
        raise ObjectError(f"archive.store: {_line(place.url, error)}") from None


def _line(what: str, error: Exception) -> str:
    """The first line says it; the rest is for the library's authors."""
    text = str(error).strip() or error.__class__.__name__
    return f"{what}: {text.splitlines()[0][:200]}"
