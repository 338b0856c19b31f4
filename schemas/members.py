"""Members of nested JSON by a dotted path: `author.name`, `links.0.href`."""

from typing import Any

from schemas.errors import InvalidField
from schemas.text import tidy
from schemas.unicode_forms import UNSEEN

LONGEST_INDEX = 6
"""Digits of an array index."""


def member_path(column: str) -> tuple[str, ...] | None:
    """The parts of a dotted path; None for a plain name. A name with an empty part (`a..b`, `a.`) is a plain one."""
    parts = tuple(column.split("."))
    return parts if len(parts) > 1 and all(parts) else None


def read_member(record: dict[str, Any], column: str, path: tuple[str, ...]) -> Any:
    """The member that is named so as a whole, else the one at the path; None where there is neither. Pure."""
    value: Any = record.get(column)
    if value is not None:
        return value
    value = record
    for part in path:
        if isinstance(value, dict):
            value = value[part] if part in value else with_plain_names(value).get(part)
        elif isinstance(value, list) and part.isascii() and part.isdecimal() and len(part) <= LONGEST_INDEX:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def plain_name(name: str) -> str:
    """A member's or column's name as people see it: without marks and what else is invisible, with single spaces."""
    if name.isascii():
        return name
    try:
        return tidy(name, None, UNSEEN) or name
    except InvalidField:
        return name


def with_plain_names(record: dict[str, Any]) -> dict[str, Any]:
    """A record under the plain names of its members. One that has its plain name goes before others that get it."""
    if "".join(record).isascii():
        return record
    plain: dict[str, Any] = {}
    for name, value in record.items():
        plain.setdefault(plain_name(name), value)
    return plain | {name: record[name] for name in plain.keys() & record.keys()}
