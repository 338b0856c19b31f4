"""A dataset's fields as Arrow types, and records as Arrow batches: decimals stay exact, dates are dates. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.dataset import Dataset

USUAL = (16, 4)
"""Digits before and after the point that a decimal without bounds has room for at least: files of small numbers fit
together.
"""

_MOST_OF_128_BITS = 38


def arrow_schema(dataset: Dataset, widths: Mapping[str, tuple[int, int]] | None = None) -> pa.Schema:
    """The dataset's fields in their order.

    `widths`: of a decimal without bounds, how many digits its values have before and after the point at most.
    """
    widths = widths or {}
    return pa.schema(
        pa.field(f.name, f.type.arrow_type() or _decimal(widths.get(f.name, USUAL)), nullable=not f.required)
        for f in dataset.fields
    )


def batch_of_rows(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Rows of Python values in the order of the schema, at least one, as one batch."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def table_of_records(schema: pa.Schema, records: Sequence[dict[str, Any]]) -> pa.Table:
    """Records in their JSON normal form (decimals and dates are text) as one table."""
    arrays = []
    for field in schema:
        values = [record[field.name] for record in records]
        arrays.append(
            pa.array(values, type=field.type)
            if pa.types.is_integer(field.type)
            else pa.array(values, type=pa.string()).cast(field.type)
        )
    return pa.Table.from_arrays(arrays, schema=schema)


def _decimal(width: tuple[int, int]) -> pa.DataType:
    before, after = map(max, zip(width, USUAL, strict=True))
    decimal = pa.decimal128 if before + after <= _MOST_OF_128_BITS else pa.decimal256
    return decimal(before + after, after)
