"""Tells the trouble of one dataset's table from trouble of the whole store."""

from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg.exceptions import PostgresError

from schemas.dataset import Dataset
from stores.outages import in_words, is_misfit


class DatasetMisfit(Exception):
    """The dataset's table is not as the dataset is declared: nothing of it can be written, and everything else can."""

    def __init__(self, dataset: Dataset, reason: str) -> None:
        super().__init__(f"{dataset.name}: {reason}")
        self.dataset = dataset
        self.reason = reason


@contextmanager
def blaming(dataset: Dataset) -> Iterator[None]:
    """Raises DatasetMisfit where a statement about the dataset does not fit its table."""
    try:
        yield
    except PostgresError as error:
        if is_misfit(error):
            reason = f"{in_words(error)}; `headrace setup` says what to do"
            raise DatasetMisfit(dataset, reason) from error
        raise
