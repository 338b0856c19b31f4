"""Files say exactly what the records say: typed in Parquet, unambiguous in CSV."""

import csv
import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from exports.destinations import ExportError
from exports.files import FORMATS, arrow_schema, batch_of_rows, formats_named, table_of_records
from schemas.registry import all_datasets, dataset_named

ROWS = [
    ("O1", "C1", 'a "quoted", text\nof two lines', 1, Decimal("0.10"), datetime.date(2024, 2, 29)),
    ("O2", "C2", "Søgade 1 \\ 日本", 2_147_483_647, Decimal("9999999999.99"), datetime.date(1, 1, 1)),
]


def written(folder: Path, name: str) -> Path:
    schema = arrow_schema(dataset_named("orders"))
    path = folder / f"orders.{name}"
    writer = FORMATS[name](path, schema)
    for row in ROWS:
        writer.write_batch(batch_of_rows(schema, [row]))
    writer.close()
    return path


def test_every_dataset_has_arrow_types() -> None:
    for dataset in all_datasets():
        assert arrow_schema(dataset).names == [field.name for field in dataset.fields]


def test_orders_have_decimals_dates_and_whole_numbers() -> None:
    schema = arrow_schema(dataset_named("orders"))
    assert schema.field("price").type == pa.decimal128(12, 2)
    assert schema.field("order_date").type == pa.date32()
    assert schema.field("quantity").type == pa.int32()
    assert not schema.field("quantity").nullable
    assert arrow_schema(dataset_named("customers")).field("account_balance").nullable


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        ((3, 4), pa.decimal128(20, 4)),
        ((20, 7), pa.decimal128(27, 7)),
        ((38, 38), pa.decimal256(76, 38)),
    ],
)
def test_a_number_without_bounds_is_as_wide_as_what_is_stored(width: tuple[int, int], expected: pa.DataType) -> None:
    assert arrow_schema(dataset_named("records"), {"value": width}).field("value").type == expected


def test_parquet_keeps_values_types_and_a_row_group_per_batch(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet")
    table = parquet.read_table(path)
    assert table.schema.equals(arrow_schema(dataset_named("orders")))
    assert [tuple(row.values()) for row in table.to_pylist()] == ROWS
    assert parquet.ParquetFile(path).num_row_groups == len(ROWS)


def test_csv_is_read_back_by_another_reader(tmp_path: Path) -> None:
    with written(tmp_path, "csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["order_id", "customer_id", "product", "quantity", "price", "order_date"]
    assert rows == [[str(value) for value in row] for row in ROWS]


def test_records_in_normal_form_become_the_same_table() -> None:
    schema = arrow_schema(dataset_named("orders"))
    records = [
        dict(zip(schema.names, [value if isinstance(value, int) else str(value) for value in row], strict=True))
        for row in ROWS
    ]
    assert (
        table_of_records(schema, records).to_pylist()
        == pa.Table.from_batches([batch_of_rows(schema, ROWS)]).to_pylist()
    )
    assert table_of_records(schema, []).num_rows == 0


@pytest.mark.parametrize(
    ("names", "expected"), [("csv", ["csv"]), ("parquet,csv", ["parquet", "csv"]), (" CSV , csv", ["csv"])]
)
def test_formats_are_given_as_a_list(names: str, expected: list[str]) -> None:
    assert formats_named(names) == expected


@pytest.mark.parametrize("names", ["xls", "csv,xls", "", ",", "csv parquet"])
def test_another_format_is_refused_with_those_that_exist(names: str) -> None:
    with pytest.raises(ExportError, match=r"there is no format .*; known are csv, csv-as-stored, parquet"):
        formats_named(names)
