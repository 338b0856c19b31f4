"""Refuses a text that is not one JSON object a line, by its first lines: each of its lines would be a failure. Pure."""

import re
from collections.abc import Sequence

import msgspec

from producers.text.found_encoding import file_kind
from schemas.errors import HOSTILE

LINES_LOOKED_AT = 10
"""A first line that is no object may be a bad record, or what a program said; then objects follow it soon."""

_NEARLY = {
    re.compile(rb"\{.*\},\Z", re.DOTALL): "it has commas between its objects; take them away with `sed 's/,$//' FILE`",
    re.compile(rb"\{\s*'"): "it is Python's notation, and not JSON; write it with `json.dumps`",
}
"""By what each of the first two lines looks like."""
_JSON = re.compile(rb"[\[{]\s*(?:[\"{\[]|\Z)")
_DELIMITERS = re.compile(rb"[,;\t|]")


def is_object(line: bytes) -> bool:
    """True if a line begins and ends like a JSON object, valid or not."""
    line = line.strip()
    return line[:1] == b"{" and line[-1:] == b"}"


def not_json_lines(head: Sequence[bytes]) -> str | None:
    """The form of a text that is not one JSON object a line, with the way out; None where it is.

    `head` are its first lines; two at least, if it has as many and the first is no object.
    """
    first, *others = (line.strip() for line in head[:LINES_LOOKED_AT])
    for form, meaning in _NEARLY.items():
        if others and form.match(first) and form.match(others[0]):
            return meaning
    if is_object(first):
        return None
    if first[:1] == b"[":
        if _ends(first) == "whole" and any(map(is_object, others)):
            return None
        return "it is a JSON array, and not one object a line; make lines of it with `jq -c '.[]' FILE`"
    if first[:1] == b"{":
        if others and not is_object(others[0]) and _ends(first) == _ends(first + b"\n" + others[0]) == "early":
            return "it is a JSON object over several lines, and not one a line; make lines of it with `jq -c . FILE`"
        return None
    if any(map(is_object, others)):
        return None
    if what := _known(first):
        return f"it is {what}, and not one JSON object a line"
    csv = ", `headrace publish csv FILE` reads CSV" if _DELIMITERS.search(first) else ""
    return f"its first lines are no JSON objects{csv}; it begins with {first[:60]!r}"


def not_keys(first: bytes) -> str | None:
    """The form of a text that, by its first line, is not one key a line, with the way out; None where it may be."""
    if what := "JSON" if _JSON.match(first.strip()) else _known(first.strip()):
        return f"it is {what}, and not one key a line; write the keys alone, e.g. with `jq -r .customer_id FILE`"
    return None


def _known(first: bytes) -> str | None:
    what = file_kind(first)
    return what and what.replace("gzip", "gzip twice")  # one packing has been taken off already


def _ends(text: bytes) -> str:
    """`whole` JSON, `early` where more would have to follow, or `wrong`."""
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return "early" if "truncated" in str(error) else "wrong"
    except HOSTILE:
        return "wrong"
    return "whole"
