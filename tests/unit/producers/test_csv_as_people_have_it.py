"""Files as spreadsheets, statistics programs and databases write them: read right, or refused with the setting."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from data.etl import clean_file
from producers.csv.source import CsvSource
from producers.raw_records import RawHeaders
from producers.source import SourceBatch, SourceFailed
from producers.sources import build_source
from runtime.settings import Settings
from schemas.events import CleanRecord, FailedRecord
from schemas.registry import dataset_named
from stream_processors.normalize import Normalized, RecordNormalizer
from tests.unit.stream_processors.raw_records import RawRecord

MAPPING = {"source_id": "id", "name": "name", "value": "price"}


def source(path: Path, content: str | bytes, **block: Any) -> CsvSource:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    values = {"kind": "csv", "path": path.name, "dataset": "records", "map": MAPPING, **block}
    made = build_source("shop", values, Settings(), path.parent)
    assert isinstance(made, CsvSource)
    return made


def rows(path: Path, content: str | bytes, **block: Any) -> list[dict[str, str] | str]:
    """The rows as they are published; of an unreadable one the reason."""
    batches = source(path, content, **{"map": {"source_id": "id", "name": "name"}, **block}).read()
    return [
        record.problem.partition(";")[0] if record.problem else json.loads(record.value or b"")
        for batch in batches
        for record in batch.records
    ]


def values(path: Path, content: str | bytes, **block: Any) -> list[str | None]:
    """What the field `value` becomes, row by row; of a failure the reason."""
    made = source(path, content, **block)
    normalizer, found = RecordNormalizer(dataset_named("records")), []
    headers = RawHeaders(made.description, "run")
    for batch in made.read():
        headers.start_batch(batch.readings)
        for record in batch.records:
            given = [(name, text.encode() if isinstance(text, str) else text) for name, text in headers.of(0, None)]
            outcome = normalizer.normalize(RawRecord(record.value, given), 0)
            if isinstance(outcome, Normalized):
                found.append(json.loads(bytes(msgspec.json.decode(outcome.value, type=CleanRecord).data))["value"])
            else:
                found.append(msgspec.json.decode(outcome.value, type=FailedRecord).reason)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.csv"


A, B = {"id": "1", "name": "a"}, {"id": "2", "name": "b"}


def test_a_column_is_read_with_the_decimal_mark_that_its_numbers_show(file: Path) -> None:
    content = "id;name;price\n1;a;1,234\n2;b;12,5\n3;c;1.234\n4;d;7\n"
    assert values(file, content) == ["1.2340", "12.5000", "1234.0000", "7.0000"]
    content = 'id,name,price\n1,a,"1,234"\n2,b,12.5\n3,c,"1,234.5"\n'
    assert values(file, content) == ["1234.0000", "12.5000", "1234.5000"]


def test_marks_that_were_put_before_marks_hide_no_quote(file: Path) -> None:
    assert rows(file, '\ufeff\ufeff"id","name"\n\ufeff\ufeff"1","a"\n2,b\n') == [A, B]
    assert rows(file, "\ufeff\ufeff#x\nid,name\n\ufeff\ufeff#y\n1,a\n", comment="#") == [A]


@pytest.mark.parametrize("line", ['sep="', "sep=\r", "sep="])
def test_a_separator_that_can_be_none_is_not_taken_for_one(file: Path, line: str) -> None:
    assert rows(file, f"{line}\nid,name\n1,a\n", skip_lines=1) == [A]
    with pytest.raises(SourceFailed, match="set skip_lines = 1"):
        rows(file, f"{line}\nid,name\n1,a\n")


def test_what_every_record_repeats_of_a_header_is_bounded(file: Path) -> None:
    with pytest.raises(SourceFailed, match=r"column 3 has a name of 3,000 characters: 'xxx.*2,000 are taken"):
        rows(file, f"id,name,{'x' * 3000}\n1,a,b\n")
    header = f"id,name{',' * 101}"
    assert rows(file, f"{header}\n1,a{',' * 101}\n") == rows(file, f"{header}\n1,a,\n")
    assert rows(file, f"{header}\n1,a\n2,b,\n")[:1] == ["ragged_row"]
    with pytest.raises(SourceFailed, match=r"no column 'id'.*\(100,000 in all\)") as failure:
        rows(file, ",".join(["x"] * 100_000))
    assert len(str(failure.value)) < 3000


def test_an_ambiguous_number_is_refused_where_the_file_shows_no_decimal_mark(file: Path) -> None:
    assert values(file, "id;name;price\n1;a;1,234\n2;b;5\n3;c;1.234\n") == [
        "ambiguous_number", "5.0000", "ambiguous_number",
    ]  # fmt: skip
    assert values(file, "id;name;price\n1;a;1,234\n2;b;5\n", decimal=",") == ["1.2340", "5.0000"]
    assert values(file, 'id,name,price\n1,a,"1,234"\n2,b,1.234\n') == ["ambiguous_number", "1.2340"]
    content = 'id,name,price\n1,a,"$1,234"\n2,b,"(1,500)"\n3,c,"-2,000\u00a0€"\n4,d,"1.2.2024"\n'
    assert values(file, content) == [*["ambiguous_number"] * 3, "number_form"]


def test_a_column_with_both_marks_is_judged_number_by_number(file: Path) -> None:
    content = "id\tname\tprice\n1\ta\t12,5\n2\tb\t12.5\n3\tc\t1,234\n4\td\t1.234\n"
    assert values(file, content) == ["12.5000", "12.5000", "ambiguous_number", "ambiguous_number"]


def test_another_column_of_numbers_shows_the_decimal_mark_too(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    header = "order_id;customer_id;product;quantity;price;order_date\n"
    file.write_text(f"{header}1;C;Pen;1.000;0,5;2024-01-31\n")
    [order] = clean_file(file, dataset_named("orders")).records.values()
    assert (order["quantity"], order["price"]) == (1000, "0.50")


def test_rows_of_blank_cells_are_left_out_and_counted(file: Path) -> None:
    content = ",,\n , ,\nid,name,x\n1,a,\n,,\n  ,\t,\u00a0\n2,b,\n,,,,,\n"
    batches: list[SourceBatch] = list(source(file, content, map={"source_id": "id"}).read())
    assert [json.loads(record.value or b"")["id"] for batch in batches for record in batch.records] == ["1", "2"]
    assert sum(batch.blank for batch in batches) == 3


def test_the_etl_without_the_pipeline_counts_blank_rows_as_rows(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    header = "order_id,customer_id,product,quantity,price,order_date\n"
    file.write_text(f"{header}O,C,Pen,1,2.50,2024-01-31\n,,,,,\n")
    found = clean_file(file, dataset_named("orders"))
    assert (found.initial_rows, len(found.records), found.failed) == (2, 1, {})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("sep=;\nid;name\n1;a\n2;b\n", id="sep="),
        pytest.param('"sep=|"\r\nid|name\r\n1|a\r\n2|b', id="sep= in quotes"),
        pytest.param('"id" ,"name"\n"1" ,"a"\t\n"2","b" \n', id="blanks after quotes"),
        pytest.param('"id", "name"\n"1",  "a"\n"2", "b"\n', id="blanks before quotes"),
        pytest.param("id,name,\n1,a\n2,b\n", id="a delimiter at the end of the header only"),
        pytest.param("id,name\n1,a,\n2,b,,\n", id="delimiters at the end of rows only"),
        pytest.param("id,name,\n1,a,\n2,b,\n", id="a delimiter at the end of every line"),
        pytest.param("\r\rid,name\r1,a\r2,b", id="ends of lines of an old Mac"),
        pytest.param(",id,name\n0,1,a\n1,2,b\n", id="an index without a name"),
        pytest.param('\ufeff"id","name"\r\n"1","a"\r\n"2","b"\r\n', id="a byte order mark before a quote"),
    ],
)
def test_separator_lines_and_delimiters_that_programs_add_are_ignored(file: Path, content: str) -> None:
    assert [{name: row[name] for name in A} for row in rows(file, content) if isinstance(row, dict)] == [A, B]


@pytest.mark.parametrize(
    ("content", "block"),
    [
        pytest.param("Report; of May\n\nid;name\n1;a\n2;b\n", {"skip_lines": 2}, id="titles"),
        pytest.param('Report "May\nid,name\n1,a\n2,b\n', {"skip_lines": 1}, id="an open quote in the title"),
        pytest.param("# made by x, y, z\nid;name\n#1;c\n1;a\n# end\n2;b\n# end", {"comment": "#"}, id="comments"),
        pytest.param("\ufeff# made\nid;name\n1;a\n2;b\n", {"comment": "#"}, id="a byte order mark before a comment"),
        pytest.param("1;a\n2;b\n", {"columns": ["id", "name"]}, id="no header"),
        pytest.param("name\n1;a\n2;b\n", {"columns": ["id", "name"], "skip_lines": 1}, id="a header that is wrong"),
    ],
)
def test_titles_and_comments_are_skipped_where_the_block_says_so(file: Path, content: str, block: Any) -> None:
    assert rows(file, content, **block) == [A, B]


def test_only_lines_that_begin_with_the_comment_mark_are_comments(file: Path) -> None:
    content = 'id,name\n1,"two\n# lines"\n2,#b\n'
    assert rows(file, content, comment="#") == [{"id": "1", "name": "two\n# lines"}, {"id": "2", "name": "#b"}]


def test_escaped_quotes_are_read_where_the_block_says_so_and_are_failures_elsewhere(file: Path) -> None:
    content = 'id,name\n1,"say \\"hi\\", all"\n2,a\\,b\n\\N,\\N\n'
    assert rows(file, content, escape="\\") == [
        {"id": "1", "name": 'say "hi", all'}, {"id": "2", "name": "a,b"}, {"id": "\\N", "name": "\\N"},
    ]  # fmt: skip
    assert rows(file, content)[0] == "malformed_row"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Report of May\n\nid;name\n1;a\n", r"Line 3 has what is mapped: set delimiter = ';' and skip_lines = 2"),
        ("Report,,\nid,name,x\n1,a,\n", "Line 2 has what is mapped: set skip_lines = 1"),
        ("id:name\n1:a\n", "its columns are: id:name"),
        ("id,name\n0,1,a\n1,2,b\n2,3,c\n", r'set columns = \["row","id","name"\] and skip_lines = 1'),
    ],
)
def test_a_header_in_another_line_is_an_error_that_names_the_settings(file: Path, content: str, told: str) -> None:
    with pytest.raises(SourceFailed, match=told):
        rows(file, content)


def test_blanks_around_quotes_leave_quoted_blanks_and_quotes_alone(file: Path) -> None:
    content = 'id,name\n1 ,"a ""b"" , c" \n2,"two\n""lines"" " ,\n'
    assert rows(file, content) == [{"id": "1 ", "name": 'a "b" , c'}, {"id": "2", "name": 'two\n"lines" '}]


def test_a_bad_row_is_published_with_the_bytes_of_the_file(file: Path) -> None:
    content = b'id,name\n"1" ,"a"\n"2" ,"b" c\n'
    [_, bad] = [record for batch in source(file, content, map={"source_id": "id"}).read() for record in batch.records]
    assert bad.value == b'"2" ,"b" c\n'


def test_a_run_resumes_after_a_separator_line_blank_rows_and_comments(file: Path) -> None:
    made = source(file, "sep=;\nid;name;price\n1;a;1\n;;\n# x\n", comment="#")
    position = None
    for batch in made.read_on(None):
        position = batch.position or position
    with file.open("a") as out:
        out.write("# y\n2;b;2\n;;\n")
    batches = list(made.read_on(position))
    assert [record.key for batch in batches for record in batch.records] == ["shop:2"]
    assert sum(batch.blank for batch in batches) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("second", ['2,"b, c"', '"2","b, c"', ' "2" , "b, c"'])
def test_files_put_together_leave_no_byte_order_mark_in_a_row(file: Path, second: str, encoding: str) -> None:
    content = f'\ufeff"id","name"\n1,a\n\ufeff{second}\n\ufeff\n3,d\n'
    read = rows(file, content.encode(encoding))
    assert read == [{"id": "1", "name": "a"}, {"id": "2", "name": "b, c"}, {"id": "3", "name": "d"}]


def test_a_comment_behind_a_mark_in_the_middle_is_a_comment(file: Path) -> None:
    assert rows(file, "id,name\n1,a\n\ufeff# b\n2,c\n", comment="#")[1:] == [{"id": "2", "name": "c"}]


@pytest.mark.parametrize("again", ["id,name", "\ufeffid,name", '"id","name"', "id , name"])
def test_the_header_of_a_second_file_is_a_failure_and_no_record(file: Path, again: str) -> None:
    header = again.removeprefix("\ufeff")
    read = rows(file, f"{header}\n1,a\n{again}\n2,b\n")
    assert [row if isinstance(row, str) else row["id"] for row in read] == ["1", "repeated_header", "2"]


def test_a_header_that_the_block_does_not_skip_is_a_failure(file: Path) -> None:
    assert rows(file, "id,name\n1,a\n", columns=["id", "name"]) == ["repeated_header", {"id": "1", "name": "a"}]


def test_in_a_file_of_one_column_a_value_may_be_its_name(file: Path) -> None:
    read = rows(file, "name\nname\n", map={"source_id": "name", "name": "name"})
    assert read == [{"name": "name"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('="007"', "007"),
        ('"=""007"""', "007"),
        ('="a b"', "a b"),
        ('="="', "="),
        ('"=""a"" and ""b"""', '="a" and "b"'),
        ('"x=""1"""', 'x="1"'),
        ("=1+2", "=1+2"),
        ('a="b"', 'a="b"'),
    ],
)
def test_a_text_that_spreadsheets_protect_is_that_text(file: Path, cell: str, text: str, delimiter: str) -> None:
    content = f"id,name,more\n{cell},{cell},{cell}\n1,a,b\n".replace(",", delimiter)
    assert rows(file, content)[0] == {"id": text, "name": text, "more": text}


def test_a_protected_text_may_contain_the_delimiter(file: Path) -> None:
    assert rows(file, 'id,name\n1,="a, b"\n2,c\n')[0] == {"id": "1", "name": "a, b"}
