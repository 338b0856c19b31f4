"""The file that the csv benchmark publishes, and what it makes of its figures."""

import csv
from pathlib import Path

from benchmarks.csv_source import Figures, summary, write


def test_the_file_has_as_many_rows_as_it_says(tmp_path: Path) -> None:
    rows = write(tmp_path / "customers.csv", 10_000)
    with (tmp_path / "customers.csv").open(newline="", encoding="utf-8") as file:
        header, *read = csv.reader(file)
    assert len(read) == rows
    assert {len(row) for row in read} == {len(header)} == {8}


def test_the_share_is_that_of_the_medians() -> None:
    done = [Figures("lines", 10, 100, 1, 50), Figures("produce", 10, 40, 4, 50)]
    done += [Figures("source", 10, rate, 8, 60) for rate in (10, 20, 90)]
    figures = summary(1, 10, done, Figures("source", 2, 20, 8, 55))
    assert (figures["source_to_produce"], figures["source_to_lines"]) == (0.5, 0.2)
    assert figures["source_to_produce_cpu"] == 0.5
