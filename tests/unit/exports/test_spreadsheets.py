"""A spreadsheet that opens an exported CSV file runs nothing of what is in it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
import pytest

from dashboard.export import cell_text
from exports.destinations import ExportError
from exports.files import FORMATS, formats_named

SCHEMA = pa.schema([("text", pa.string()), ("number", pa.int64())])

RUN = [
    "=1+1",
    '=HYPERLINK("http://evil.example")',
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\ufeff=1",
    " =1",
    "＝1+1",
    "-a",
]
LATER = {
    "a;=1+1": "a;'=1+1",
    "a; =cmd|' /C calc'!A0;b": "a; '=cmd|' /C calc'!A0;b",
    "x;@SUM(A1);+1+a;-b;＝1": "x;'@SUM(A1);+1+a;'-b;'＝1",
    ";=1": ";'=1",
}
"""Texts in which a spreadsheet that takes the semicolon for a separator finds cells with formulas."""

LEFT = ["Ada", "", "+49 30 1234-567", "+4930123456", "-12.5", "- -", "a=b", "'=1", "O'Neill"]
LEFT += ["a;b", "a; -5;+4930123456", "a = b; c"]


def written(name: str, texts: list[str | None], path: Path) -> Path:
    writer = FORMATS[name](path, SCHEMA)
    writer.write_batch(pa.record_batch([pa.array(texts, pa.string()), pa.array(range(len(texts)))], schema=SCHEMA))
    writer.close()
    return path


def read(path: Path) -> list[str | None]:
    options = arrow_csv.ConvertOptions(column_types=SCHEMA, strings_can_be_null=True, quoted_strings_can_be_null=False)
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    texts: list[str | None] = arrow_csv.read_csv(path, convert_options=options, parse_options=parse)["text"].to_pylist()
    return texts


def test_a_text_that_would_be_run_gets_an_apostrophe_and_no_other_does(tmp_path: Path) -> None:
    texts = [*RUN, *LEFT, None]
    assert read(written("csv", texts, tmp_path / "a.csv")) == [*(f"'{text}" for text in RUN), *LEFT, None]


def test_a_cell_that_begins_at_a_semicolon_is_no_formula_either(tmp_path: Path) -> None:
    assert read(written("csv", [*LATER], tmp_path / "a.csv")) == [*LATER.values()]
    assert [cell_text(text) for text in LATER] == [*LATER.values()]
    assert [cell_text(text) for text in LEFT[-3:]] == LEFT[-3:]
    assert cell_text({"a": ";=1"}) == """{"a":";'=1"}"""


def test_programs_get_what_is_stored(tmp_path: Path) -> None:
    texts = [*RUN, *LATER, *LEFT, None]
    assert read(written("csv-as-stored", texts, tmp_path / "a.csv")) == texts
    assert parquet.read_table(written("parquet", texts, tmp_path / "a.parquet"))["text"].to_pylist() == texts


def test_two_formats_of_one_file_are_refused() -> None:
    with pytest.raises(ExportError, match="the same file"):
        formats_named("csv,csv-as-stored")
