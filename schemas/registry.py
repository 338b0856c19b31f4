"""All datasets, found by looking into `schemas/datasets/`."""

import importlib
import pkgutil
from functools import cache

from schemas import datasets
from schemas.dataset import Dataset


class UnknownDataset(LookupError):
    """No dataset has that name; the message lists those that exist."""


@cache
def all_datasets() -> tuple[Dataset, ...]:
    """Every declared dataset, by name."""
    modules = [
        importlib.import_module(f"{datasets.__name__}.{m.name}") for m in pkgutil.iter_modules(datasets.__path__)
    ]
    return tuple(sorted((module.DATASET for module in modules), key=lambda dataset: dataset.name))


def ingested_datasets() -> tuple[Dataset, ...]:
    """Those that come through the pipeline: they have raw and clean topics."""
    return tuple(dataset for dataset in all_datasets() if dataset.written_by == "pipeline")


def dataset_named(name: str) -> Dataset:
    """The dataset of that name. Raises UnknownDataset."""
    for dataset in all_datasets():
        if dataset.name == name:
            return dataset
    known = ", ".join(dataset.name for dataset in all_datasets())
    raise UnknownDataset(f"there is no dataset {name!r}; known are: {known}")
