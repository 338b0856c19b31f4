"""The rules of orders, applied to a file row by row: the same normalizer, the same first-wins rule as the pipeline."""

from pathlib import Path
from typing import Any

import pytest

from data.etl import Cleaned, clean_file
from producers.source import SourceFailed
from schemas.registry import dataset_named

HEADER = "order_id,customer_id,product,quantity,price,order_date\n"


def cleaned(folder: Path, *rows: str) -> Cleaned:
    path = folder / "raw.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return clean_file(path, dataset_named("orders"))


def test_rows_come_out_in_normal_form(tmp_path: Path) -> None:
    found = cleaned(tmp_path, ' O1 ,C1,"  Desk   lamp",3.0,"1,234.5",31 Jan 2024')
    expected: dict[str, Any] = {
        "order_id": "O1", "customer_id": "C1", "product": "Desk lamp",
        "quantity": 3, "price": "1234.50", "order_date": "2024-01-31",
    }  # fmt: skip
    assert found.records == {b"O1": expected}


def test_the_first_valid_row_of_an_order_wins(tmp_path: Path) -> None:
    found = cleaned(
        tmp_path, "O1,C1,Pen,1,1.00,", "O1,C1,Pen,2,1.00,2024-01-31", "O1,C1,Pen,3,1.00,2024-01-31", "O1,C1,Pen,0,1,"
    )
    assert [record["quantity"] for record in found.records.values()] == [2]
    assert found.initial_rows == 4
    assert found.failed == {"required": 1, "out_of_range": 1}


def test_a_missing_quantity_is_one(tmp_path: Path) -> None:
    found = cleaned(tmp_path, "O1,C1,Pen,,1.00,2024-01-31", "O2,C1,Pen,  ,1.00,2024-01-31")
    assert [record["quantity"] for record in found.records.values()] == [1, 1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("O1,C1,Pen,1,1.00,", "required"),
        ("O1,C1,Pen,1,1.00,2024-02-30", "date_form"),
        ("O1,C1,Pen,1,1.00,soon", "date_form"),
        ("O1,C1,Pen,1,,2024-01-31", "required"),
        ("O1,C1,Pen,1,-0.01,2024-01-31", "out_of_range"),
        ("O1,C1,Pen,1,0.001,2024-01-31", "too_precise"),
        ("O1,C1,Pen,1,free,2024-01-31", "number_form"),
        ("O1,C1,Pen,0,1.00,2024-01-31", "out_of_range"),
        ("O1,C1,Pen,-1,1.00,2024-01-31", "out_of_range"),
        ("O1,C1,Pen,1.5,1.00,2024-01-31", "too_precise"),
        ("O1,C1,Pen,2147483648,1.00,2024-01-31", "out_of_range"),
        ("O1,C1,Pen,many,1.00,2024-01-31", "number_form"),
        (",C1,Pen,1,1.00,2024-01-31", "required"),
        ("O1,,Pen,1,1.00,2024-01-31", "required"),
        ("O1,C1,,1,1.00,2024-01-31", "required"),
        ("O1,C1,Pen", "ragged_row"),
    ],
)
def test_a_row_that_is_no_order_fails_with_its_reason(tmp_path: Path, row: str, reason: str) -> None:
    found = cleaned(tmp_path, row)
    assert (found.records, found.failed) == ({}, {reason: 1})


@pytest.mark.parametrize("price", ["0", "0.00", "9999999999.99"])
def test_a_price_may_be_zero_or_very_high(tmp_path: Path, price: str) -> None:
    assert cleaned(tmp_path, f"O1,C1,Pen,1,{price},2024-01-31").records


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=r"nope\.csv: cannot be read: No such file"):
        clean_file(tmp_path / "nope.csv", dataset_named("orders"))
