"""The records of `normalized_data`, by source and by text."""

from sqlalchemy import ColumnElement, or_

from schemas.dataset import Dataset
from schemas.text import fold
from stores.tables import dataset_table


def from_source(dataset: Dataset, source: str) -> ColumnElement[bool]:
    """Of sources of that kind (api, csv, …), or of the source of that name."""
    columns = dataset_table(dataset).c
    return or_(columns.source == source, columns.source_name == source)


def containing(dataset: Dataset, text: str) -> ColumnElement[bool]:
    """With `text` anywhere in the searched fields, whatever its case and accents.

    `%`, `_` and the escape character stand for themselves.
    """
    return dataset_table(dataset).c.search_text.contains(fold(text), autoescape=True)
