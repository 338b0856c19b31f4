"""The shape of a dataset's record in answers, derived from its declaration, for the OpenAPI document."""

import datetime
from decimal import Decimal
from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, create_model

from schemas.dataset import Dataset


@cache
def served_model(dataset: Dataset) -> type[BaseModel]:
    """The dataset's fields with decimals as numbers, and when the row was made and last changed."""
    hints = get_type_hints(dataset.model)
    fields: dict[str, Any] = {"id": (int, ...)} if dataset.serial_id else {}
    fields |= {field.name: (_served(hints[field.name]), ...) for field in dataset.fields}
    fields |= {"created_at": (datetime.datetime, ...), "updated_at": (datetime.datetime | None, ...)}
    return create_model(f"Served{dataset.model.__name__}", __doc__=dataset.model.__doc__, **fields)


@cache
def page_model(dataset: Dataset) -> type[BaseModel]:
    """One page of records of the dataset."""
    return create_model(
        f"{dataset.model.__name__}Page",
        data=(list[served_model(dataset)], ...),  # type: ignore[arg-type, misc]
        total=(int, ...),
        page=(int | None, ...),
        limit=(int, ...),
        total_pages=(int, ...),
        next_cursor=(str | None, ...),
    )


@cache
def data_page_model(dataset: Dataset) -> type[BaseModel]:
    """One page of records of the dataset in the shape of `GET /data`."""
    return create_model(
        f"{dataset.model.__name__}DataPage",
        data=(list[served_model(dataset)], ...),  # type: ignore[arg-type, misc]
        total=(int, ...),
        page=(int, ...),
        page_size=(int, ...),
        has_more=(bool, ...),
    )


def _served(hint: Any) -> Any:
    kinds = [float if kind is Decimal else kind for kind in get_args(hint) or (hint,)]
    return kinds[0] | None if NoneType in kinds else kinds[0]
