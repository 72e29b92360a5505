"""What an operators' door takes and answers, as OpenAPI 3.1, from what its routes say of
themselves. Shared by both daemons.

Law: made of the table by which requests find their handlers, so there is nothing that it leaves
out. Does not know HTTP, nor how anything is answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

PATH: Final = "/openapi.json"
REFUSALS: Final = {
    400: "what was asked for is not usable",
    401: "a token is needed",
    403: "not allowed here",
    404: "not known",
    405: "another method",
    409: "contradicts what there is",
    411: "a body without Content-Length",
    413: "too large a body",
    415: "not JSON",
    421: "a Host that is not ours",
    503: "not now",
}
Json = dict[str, Any]
F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, kw_only=True)
class Says:
    """Of one route. `answers`: status -> the type of its JSON, or str: text. `refuses`: statuses
    with one line of text. `body`: the type of the JSON that it takes. `query`: names, all optional.
    `guarded`: asks for the token, if the door has one."""

    summary: str
    answers: Mapping[int, Any]
    refuses: tuple[int, ...] = ()
    query: tuple[str, ...] = ()
    body: Any = None
    guarded: bool = True


@dataclass
class Described:
    """A description that grows."""

    title: str
    version: str
    always: tuple[int, ...] = ()  # refusals of every route
    paths: dict[str, Json] = field(default_factory=dict)
    schemas: Json = field(default_factory=dict)

    def add(self, path: str, method: str, says: Says) -> None:
        refused = {*self.always, *says.refuses, *((401,) if says.guarded else ())}
        answers = {str(status): _text(REFUSALS[status]) for status in sorted(refused)}
        answers |= {str(status): self._answer(kind) for status, kind in says.answers.items()}
        found = re.findall(r"\{(\w+)\}", path)
        parameters = [_parameter(name, "path") for name in found]
        parameters += [_parameter(name, "query") for name in says.query]
        operation: Json = {"summary": says.summary, "parameters": parameters, "responses": answers}
        if says.guarded:
            operation["security"] = [{"token": []}]
        if says.body is not None:
            content = {"application/json": {"schema": self._schema(says.body)}}
            operation["requestBody"] = {"content": content}
        self.paths.setdefault(path, {})[method.lower()] = operation

    def document(self) -> Json:
        token = {"type": "http", "scheme": "bearer"}
        return {
            "openapi": "3.1.0",
            "info": {"title": self.title, "version": self.version},
            "paths": self.paths,
            "components": {"securitySchemes": {"token": token}, "schemas": self.schemas},
        }

    def _answer(self, kind: Any) -> Json:
        if kind is str:
            return _text("as asked")
        content = {"application/json": {"schema": self._schema(kind)}}
        return {"description": "as asked", "content": content}

    def _schema(self, kind: Any) -> Json:
        made = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
        self.schemas |= made.pop("$defs", {})
        return made


def _text(description: str) -> Json:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _parameter(name: str, where: str) -> Json:
    return {"name": name, "in": where, "required": where == "path", "schema": {"type": "string"}}


def says(said: Says) -> Callable[[F], F]:
    """Said of a handler, in the table or on its way there."""

    def decorate(handler: F) -> F:
        handler.__dict__["says"] = said
        return handler

    return decorate


def described(
    title: str, version: str, table: Iterable[tuple[str, str, object]], always: tuple[int, ...]
) -> Json:
    """Of rows (path, method, handler); each handler has said what it is. Raises AttributeError."""
    whole = Described(title, version, always)
    for path, method, handler in table:
        whole.add(path, method, handler.says)  # type: ignore[attr-defined]
    return whole.document()
