"""The sample sales: the same on every machine, and of 5,200 rows 4,680 are orders."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

from data.etl import clean_file
from data.generate import COLUMNS, make_raw_file, raw_csv
from schemas.registry import dataset_named

ORDERS = dataset_named("orders")


def test_the_bytes_are_the_same_on_every_run_and_machine() -> None:
    digest = hashlib.sha256(raw_csv()).hexdigest()
    assert digest == "2c40952a3ad508f3ce17f9d83e92b5a5933986028abb2564c7e8a75fd152afed"


def test_of_5200_rows_exactly_4680_are_orders(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    assert make_raw_file(path)
    cleaned = clean_file(path, ORDERS)
    assert (cleaned.initial_rows, len(cleaned.records)) == (5_200, 4_680)
    assert sum(cleaned.failed.values()) == 260
    assert cleaned.failed.keys() == {"required", "date_form", "out_of_range", "number_form", "too_precise"}


def test_the_generated_file_has_every_kind_of_flaw() -> None:
    rows = list(csv.DictReader(raw_csv().decode().splitlines()))
    ids = Counter(row["order_id"] for row in rows)
    assert tuple(rows[0]) == COLUMNS
    assert sum(row["quantity"] == "" for row in rows) > 300
    assert sum(row["order_date"] == "" for row in rows) > 30
    repeated = [order_id for order_id, count in ids.items() if count > 1]
    assert len(repeated) >= 260
    contents = {order_id: {tuple(row.items()) for row in rows if row["order_id"] == order_id} for order_id in repeated}
    assert {len(different) for different in contents.values()} >= {1, 2}, "some repeats differ, some do not"


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("somebody's own")
    assert not make_raw_file(path)
    assert path.read_text() == "somebody's own"
