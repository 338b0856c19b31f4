"""All datasets, found by looking into `schemas/datasets/`."""

import importlib
import pkgutil
import traceback
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from schemas import datasets
from schemas.dataset import Dataset
from schemas.declaration import UnheededDeclaration
from schemas.errors import BrokenDataset


class UnknownDataset(LookupError):
    """No dataset has that name; the message lists those that exist."""


@cache
def all_datasets() -> tuple[Dataset, ...]:
    """Every declared dataset, by name. Raises BrokenDataset."""
    found = [
        _declared(module.name, str(Path(folder) / f"{module.name}.py"))
        for folder in datasets.__path__
        for module in pkgutil.iter_modules([folder])
    ]
    if lines := at_odds(found):
        raise BrokenDataset("\n".join(lines))
    return tuple(sorted(found, key=lambda dataset: dataset.name))


def _declared(name: str, file: str) -> Dataset:
    try:
        dataset = importlib.import_module(f"{datasets.__name__}.{name}").DATASET
    except Exception as error:
        lines = [place.lineno for place in traceback.extract_tb(error.__traceback__) if place.filename == file]
        line = error.lineno if isinstance(error, SyntaxError) and error.filename == file else lines[-1] if lines else 1
        why = str(error) if isinstance(error, UnheededDeclaration) else f"{type(error).__name__}: {error}"
        raise BrokenDataset(f"{file}, line {line}: {why}") from error
    if not isinstance(dataset, Dataset):
        raise BrokenDataset(f"{file}, line 1: DATASET is {dataset!r:.80}, and no Dataset(…)")
    return dataset


def at_odds(datasets: Sequence[Dataset]) -> list[str]:
    """Declarations that do not go together, a line each: two with one name or table, one about none of them. Pure."""
    lines = []
    for what in ("name", "table"):
        taken = Counter(getattr(dataset, what) for dataset in datasets)
        lines += [f"{times} datasets have the {what} {one!r}; rename one" for one, times in taken.items() if times > 1]
    names = [dataset.name for dataset in datasets]
    return lines + [
        f"dataset {dataset.name!r}: {field} is about {other!r}, and there is no such dataset: {', '.join(names)}"
        for dataset in datasets
        for field, other in dataset.about.items()
        if other not in names
    ]


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
