"""Bytes of a raw record to a JSON object, exactly: numbers keep their digits, and no key occurs twice."""

import json
from typing import Any

import msgspec

from schemas.errors import HOSTILE, InvalidRecord
from schemas.text import unmarked

# Numbers with a point or an exponent stay text: exact, whatever their size, and their field judges them.
_decode = msgspec.json.Decoder(float_hook=str).decode

_JSON_NAMES: dict[type, str] = {
    list: "an array", str: "a string or a number", int: "a number", bool: "a boolean", type(None): "null",
}  # fmt: skip


def decode_object(value: bytes) -> dict[str, Any]:
    """The object in these bytes. Pure. Raises InvalidRecord: `not_json`, `not_an_object` or `duplicate_key`.

    JSON leaves open which of two values of one key holds (RFC 8259, section 4), so none does.
    """
    try:
        decoded = _decode(value)
    except HOSTILE as error:
        if (text := unmarked(value)) != value:
            return decode_object(text)
        raise InvalidRecord("not_json", f"the value is not JSON: {str(error)[:200]}") from None
    if type(decoded) is not dict:
        raise InvalidRecord("not_an_object", f"the value is JSON, but {_JSON_NAMES[type(decoded)]} and no object")
    colons = value.count(b":")
    # As many colons as keys, as in most records: nothing to look for.
    if colons != len(decoded):
        try:
            if b"\\u003" in value or colons != _colons(decoded):
                json.loads(value, object_pairs_hook=_without_duplicates)
        except RecursionError as error:
            raise InvalidRecord("not_json", f"the value is nested too deeply: {error}") from None
    return decoded


def _colons(value: dict[str, Any] | list[Any]) -> int:
    """The number of colons that this has as JSON, if none is escaped; too few where a key occurred twice."""
    number, items = 0, value
    texts: list[str] = []
    if type(value) is dict:
        number, items = len(value), list(value.values())
        texts = list(value)
    for item in items:
        if type(item) is str:
            texts.append(item)
        elif isinstance(item, dict | list):
            number += _colons(item)
    return number + "".join(texts).count(":")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidRecord("duplicate_key", f"the key {key[:100]!r} occurs twice in one object")
        found[key] = value
    return found
