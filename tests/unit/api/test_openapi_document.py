"""The OpenAPI document says what it means in JSON Schema's words, and what every operation answers."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.app import ENTRY_POINTS, create_app
from runtime.settings import Settings

DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}

SUBSCHEMAS = {"anyOf", "allOf", "oneOf", "items", "additionalProperties", "propertyNames", "not", "prefixItems"}
NAMED_SUBSCHEMAS = {"properties", "patternProperties", "$defs"}
VOCABULARY = (
    SUBSCHEMAS
    | NAMED_SUBSCHEMAS
    | {"$ref", "type", "title", "description", "enum", "const", "default", "examples", "format", "required"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern"}
    | {"minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "discriminator"}
)
"""JSON Schema 2020-12, as far as it is used here, and OpenAPI's own."""


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema in a part of the document that is one, or a list of them."""
    if isinstance(node, list):
        for item in node:
            yield from schemas(item)
    elif isinstance(node, dict):
        yield node
        for keyword, value in node.items():
            if keyword in SUBSCHEMAS:
                yield from schemas(value)
            elif keyword in NAMED_SUBSCHEMAS:
                yield from schemas(list(value.values()))


def roots() -> Iterator[Any]:
    yield from DOCUMENT["components"]["schemas"].values()
    for operation in OPERATIONS.values():
        yield from (parameter["schema"] for parameter in operation.get("parameters", ()))
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        yield from (content["schema"] for body in bodies for content in body.get("content", {}).values())


def test_no_schema_has_a_word_that_json_schema_does_not_know() -> None:
    assert {word for root in roots() for schema in schemas(root) for word in schema} - VOCABULARY == set()


def test_the_bounds_of_a_page_are_in_the_document() -> None:
    (limit,) = [p for p in OPERATIONS["GET /api/customers"]["parameters"] if p["name"] == "limit"]
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 100)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_answers_when_all_is_well(name: str) -> None:
    successes = {code: answer for code, answer in OPERATIONS[name]["responses"].items() if code.startswith("2")}
    assert successes
    for code, answer in successes.items():
        contents = list(answer.get("content", {}).values())
        assert contents or code in {"202", "204"}, "only these may have no body"
        assert all(content["schema"] for content in contents)


def test_every_model_has_a_name_of_its_own() -> None:
    """Of two with one name FastAPI makes a name each of the modules that they are in."""
    assert [name for name in DOCUMENT["components"]["schemas"] if "__" in name] == []


def test_every_entry_point_is_there() -> None:
    app = create_app(Settings())
    paths = [path.partition("?")[0] for path in ENTRY_POINTS if path not in ("/docs", "/openapi.json")]
    routes = [re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))) for path in app.openapi()["paths"]]
    assert [path for path in paths if not any(route.fullmatch(path) for route in routes)] == []
