"""Members of nested JSON by a dotted path: `author.name`, `links.0.href`."""

from collections.abc import Mapping
from typing import Any

LONGEST_INDEX = 6
"""Digits of an array index."""


def member_path(column: str) -> tuple[str, ...] | None:
    """The parts of a dotted path; None for a plain name. A name with an empty part (`a..b`, `a.`) is a plain one."""
    parts = tuple(column.split("."))
    return parts if len(parts) > 1 and all(parts) else None


def read_member(record: Mapping[str, Any], column: str, path: tuple[str, ...]) -> Any:
    """The member that is named so as a whole, else the one at the path; None where there is neither. Pure."""
    value: Any = record.get(column)
    if value is not None:
        return value
    value = record
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdecimal() and len(part) <= LONGEST_INDEX:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value
