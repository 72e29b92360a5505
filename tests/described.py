"""An operators' door is asked whatever its description (OpenAPI) allows, and more; what it answers
must be in there, word for word."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.running import Answer, ask

Json = dict[str, Any]
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "integer": int, "number": (int, float),
}  # fmt: skip
_NAMES = st.sampled_from(["cam", "a", "b-1", "..", "x" * 65, "é", "<b>", " "]) | st.text(max_size=9)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


def conforms(value: object, schema: Json, whole: Json) -> bool:
    if "$ref" in schema:
        return conforms(value, whole["components"]["schemas"][schema["$ref"][21:]], whole)
    if "anyOf" in schema:
        return any(conforms(value, each, whole) for each in schema["anyOf"])
    if not isinstance(value, _TYPES[schema["type"]]):
        return False
    if isinstance(value, list):
        return all(conforms(each, schema["items"], whole) for each in value)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return value.keys() == known.keys() and all(
            conforms(each, known[name], whole) for name, each in value.items()
        )
    more = schema.get("additionalProperties", True)
    if isinstance(value, dict) and isinstance(more, dict):
        return all(conforms(each, more, whole) for each in value.values())
    return True


def _body(operation: Json, whole: Json) -> st.SearchStrategy[bytes]:
    """JSON with the names that are known, any JSON, or any bytes."""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = whole["components"]["schemas"][schema["$ref"][21:]]
    words = _JSON | st.sampled_from(["a", "2026-01-01T00:00:00Z", "fc30", 1.5, 0])
    known = dict.fromkeys(schema.get("properties", {}), words)
    told: st.SearchStrategy[Any] = st.just({}) | st.fixed_dictionaries({}, optional=known) | _JSON
    return st.binary(max_size=9) | told.map(lambda value: json.dumps(value).encode())


def _check(answer: Answer, operation: Json, whole: Json) -> None:
    told = operation["responses"].get(str(answer.status))
    assert told is not None, (answer, operation)
    (kind,) = told["content"]
    assert answer.fields["content-type"].partition(";")[0] == kind, (answer, operation)
    if kind == "application/json":
        schema = told["content"][kind]["schema"]
        assert conforms(json.loads(answer.body), schema, whole), (answer, schema)


def exercise(door: str, token: str, *, examples: int) -> set[int]:
    """Returns the statuses that were seen. The same requests each time."""
    known = {"Authorization": f"Bearer {token}"}
    whole = json.loads(ask(door, "GET", "/openapi.json", known).body)
    operations = [
        (path, method.upper(), operation)
        for path, methods in whole["paths"].items()
        for method, operation in methods.items()
    ]

    seen: set[int] = set()

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def asked(data: st.DataObject) -> None:
        path, method, operation = data.draw(st.sampled_from(operations))
        query = {}
        for each in operation["parameters"]:
            if each["in"] == "path":
                path = path.replace(f"{{{each['name']}}}", quote(data.draw(_NAMES), safe=""))
            elif data.draw(st.booleans()):
                query[each["name"]] = data.draw(_NAMES)
        fields = data.draw(st.sampled_from([known, known, {}, {"Authorization": "Bearer x"}]))
        body = data.draw(_body(operation, whole)) if "requestBody" in operation else None
        if body is not None:
            kind = data.draw(st.sampled_from(["json", "json", "xml"]))
            fields = {**fields, "Content-Type": f"application/{kind}"}
        answer = ask(door, method, f"{path}?{urlencode(query)}" if query else path, fields, body)
        _check(answer, operation, whole)
        seen.add(answer.status)
        guarded = "security" in operation and fields.get("Authorization") != known["Authorization"]
        assert (answer.status == 401) == guarded or answer.status == 404

    asked()
    return seen
