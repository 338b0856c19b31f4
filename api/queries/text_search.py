"""Search in Postgres, for when Elasticsearch does not answer: every word somewhere in the record, or its exact key."""

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, false, func, or_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.queries.records import Row, count, slice_at
from schemas.dataset import Dataset
from schemas.errors import InvalidField
from schemas.text import UNSEEN, fold
from stores.outages import is_misfit
from stores.tables import dataset_table


@dataclass(frozen=True)
class Match:
    """A record that was found."""

    dataset: Dataset
    row: Row


async def search_text(
    connection: AsyncConnection, datasets: Sequence[Dataset], query: str, offset: int, limit: int
) -> tuple[list[Match], int]:
    """The matches from `offset` on, by dataset and key, and the number of all."""
    conditions = {dataset.name: matches(dataset, query) for dataset in datasets}
    counts = [await count(connection, dataset, conditions[dataset.name]) for dataset in datasets]
    found: list[Match] = []
    for dataset, (start, size) in zip(datasets, windows(counts, offset, limit), strict=True):
        if size:
            part = await slice_at(connection, dataset, start, size, conditions[dataset.name])
            found += [Match(dataset, row) for row in part.rows]
    return found, sum(counts)


async def unreadable(connection: AsyncConnection, datasets: Sequence[Dataset]) -> list[Dataset]:
    """Datasets whose tables lack what is declared or are missing. A single one is not looked at: reading it raises."""
    unfit = []
    for dataset in datasets if len(datasets) > 1 else ():
        try:
            await slice_at(connection, dataset, 0, 0)
        except DBAPIError as error:
            if not is_misfit(error):
                raise
            unfit.append(dataset)
    return unfit


def matches(dataset: Dataset, query: str) -> ColumnElement[bool]:
    """Every word of the query is in the searched fields, or the query is a field of the key; case does not matter."""
    columns = dataset_table(dataset).c
    words = [columns.search_text.contains(word, autoescape=True) for word in words_of(query)]
    keys = [func.lower(columns[name]) == text.lower() for name, text in key_parts(dataset, query)]
    return or_(and_(*words) if words else false(), *keys)


def words_of(query: str) -> list[str]:
    """The folded words of a query, as an index knows them: without what stands around and between them. Pure."""
    text = UNSEEN.sub(" ", fold(query))
    return "".join([char if unicodedata.category(char)[0] in "LMN" else " " for char in text]).split()


def key_parts(dataset: Dataset, query: str) -> Iterator[tuple[str, str]]:
    """The fields of the key of which a query can be the value, with that value as it is stored. Pure."""
    for field in dataset.fields:
        if field.name in dataset.key:
            with suppress(InvalidField):
                if (value := field.type.normalize(query)) is not None:
                    yield field.name, str(value)


def windows(counts: Sequence[int], offset: int, limit: int) -> list[tuple[int, int]]:
    """(offset, limit) for each of several lists, so that together they give a window of the lists in a row."""
    parts = []
    for size in counts:
        start = min(offset, size)
        taken = min(limit, size - start)
        parts.append((start, taken))
        offset, limit = offset - start, limit - taken
    return parts
