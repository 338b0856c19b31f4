"""Texts in lists: a field without a limit is cut, so that a page has an end. The record itself has all of it."""

from typing import Any

from sqlalchemy import Column, ColumnElement, case, func

from schemas.dataset import Dataset
from schemas.fields import Text

LISTED_CHARACTERS = 10_000

CUT = "…"


def unlimited_fields(dataset: Dataset) -> frozenset[str]:
    """The fields that hold text of any length."""
    return frozenset(f.name for f in dataset.fields if isinstance(f.type, Text) and f.type.max_length is None)


def cut_column(column: Column[Any]) -> ColumnElement[Any]:
    """The column's text as lists show it, cut by Postgres."""
    beginning = func.left(column, LISTED_CHARACTERS) + CUT
    return case((func.char_length(column) > LISTED_CHARACTERS, beginning), else_=column).label(column.name)


def cut_text(text: str | None) -> str | None:
    """The same in Python."""
    return text[:LISTED_CHARACTERS] + CUT if text is not None and len(text) > LISTED_CHARACTERS else text
