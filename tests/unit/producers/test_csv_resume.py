"""A CSV file that is read in several runs gives the records of one reading, with the same numbers in their messages."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from producers.csv import source as csv_source
from producers.csv.source import CsvBlock, CsvSource
from producers.source import SourceBatch, SourceDescription, SourceRecord
from schemas.registry import dataset_named
from stores.checkpoints import Position

HEADER = "id,name\n"
ENCODINGS = ("utf-8", "utf-8-sig", "cp1252", "utf-16-le", "utf-16", "utf-32-be", "cp932", "gb18030")
STATEFUL = ("iso2022_jp", "hz", "utf-7")


def source(path: Path, **options: Any) -> CsvSource:
    block = CsvBlock(kind="csv", dataset="records", path=str(path), **options)
    return CsvSource(SourceDescription("shop", "csv", dataset_named("records"), {"source_id": "id"}), block, path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.csv"


@pytest.fixture
def _few_rows_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_source, "BATCH_ROWS", 2)


def run(path: Path, since: Position | None, **options: Any) -> tuple[list[SourceRecord], Position | None]:
    """One run to its end: its records, and what a checkpoint holds after it."""
    batches = list(source(path, **options).read_on(since))
    last = next((batch.position for batch in reversed(batches) if batch.position), since)
    return [record for batch in batches for record in batch.records], last


def whole(path: Path, **options: Any) -> list[SourceRecord]:
    return [record for batch in source(path, **options).read() for record in batch.records]


def lines(records: list[SourceRecord]) -> list[SourceRecord]:
    """Without line ends: of one that is cut in two the row before it has the first half."""
    return [record._replace(value=(record.value or b"").replace(b"\0", b"").rstrip(b"\r\n")) for record in records]


def keys(records: list[SourceRecord]) -> list[str | None]:
    return [record.key for record in records]


cells = st.text(alphabet='ab1,"\r\n é表', max_size=6)
texts = st.lists(
    st.one_of(cells, st.sampled_from(["1,a\n", "2,b\r\n", '3,"x\ny"\n', '4,"', "\n", "5,c\r"])), max_size=14
).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(text='"1" \r11" ,1', cut=60, encoding="utf-8", garbage=b"")
@given(text=texts, cut=st.integers(0, 100), encoding=st.sampled_from(ENCODINGS), garbage=st.binary(max_size=2))
@pytest.mark.usefixtures("_few_rows_a_batch")
def test_two_runs_give_the_records_of_the_whole_file_wherever_the_first_one_ended(
    file: Path, text: str, cut: int, encoding: str, garbage: bytes
) -> None:
    content = (HEADER + text).encode(encoding, "replace") + garbage
    options = {"encoding": encoding, "delimiter": ","}
    header = len(HEADER.encode(encoding))
    cut = header + (len(content) - header) * cut // 100
    file.write_bytes(content)
    expected = whole(file, **options)
    file.write_bytes(content[:cut])
    first, position = run(file, None, **options)
    with file.open("ab") as out:
        out.write(content[cut:])
    second, position = run(file, position, **options)
    if content[cut:]:
        assert lines(first[: len(expected) - len(second)] + second) == lines(expected)
    else:
        assert (first, second) == (expected, [])
    assert run(file, position, **options)[0] == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(text='"1" ,a\n2,b\n3" ,1\n4,d\n', encoding="utf-8")
@given(text=texts, encoding=st.sampled_from(ENCODINGS))
@pytest.mark.usefixtures("_few_rows_a_batch")
def test_a_run_that_died_after_any_batch_is_resumed_there(file: Path, text: str, encoding: str) -> None:
    file.write_bytes((HEADER + text).encode(encoding, "replace"))
    batches: list[SourceBatch] = list(source(file, encoding=encoding).read_on(None))
    expected = whole(file, encoding=encoding)
    before: list[SourceRecord] = []
    for batch in batches:
        before += batch.records
        if batch.position is not None and batch is not batches[-1]:
            assert before + run(file, batch.position, encoding=encoding)[0] == expected
    assert before == expected


@pytest.mark.usefixtures("_few_rows_a_batch")
def test_only_what_is_appended_is_read(file: Path) -> None:
    file.write_text(HEADER + "".join(f"{n},x\n" for n in range(100)))
    _, position = run(file, None)
    with file.open("a") as out:
        out.write("100,y\n101")
    records, position = run(file, position)
    assert keys(records) == ["shop:100", None]
    assert records[1].problem == "ragged_row;line 103: 1 columns, expected 2"
    with file.open("a") as out:
        out.write(",z\n")
    assert keys(run(file, position)[0]) == ["shop:101"]


def test_a_last_row_without_line_end_is_read_and_read_again_when_it_goes_on(file: Path) -> None:
    file.write_text(HEADER + "1,a\n2,b")
    records, position = run(file, None)
    assert keys(records) == ["shop:1", "shop:2"]
    assert run(file, position)[0] == []
    with file.open("a") as out:
        out.write("onnie\n3,c\n")
    assert [record.value for record in run(file, position)[0]] == [
        b'{"id":"2","name":"bonnie"}',
        b'{"id":"3","name":"c"}',
    ]


def test_a_quoted_value_may_go_on_in_what_is_appended(file: Path) -> None:
    file.write_text(HEADER + '1,a\n2,"two\n')
    records, position = run(file, None)
    assert [record.problem for record in records] == [None, "unclosed_quote;line 3: a quote is opened and not closed"]
    with file.open("a") as out:
        out.write('lines"\n3,c\n')
    assert [record.value for record in run(file, position)[0]] == [
        b'{"id":"2","name":"two\\nlines"}',
        b'{"id":"3","name":"c"}',
    ]


def test_the_format_stays_what_it_was_the_first_time(file: Path) -> None:
    file.write_bytes("id;name\n1;Müller\n".encode("cp1252"))
    _, position = run(file, None)
    with file.open("ab") as out:
        out.write("2;a,b,c,d\n3;Jörg\n".encode("cp1252"))
    values = [record.value for record in run(file, position)[0]]
    assert values == [b'{"id":"2","name":"a,b,c,d"}', '{"id":"3","name":"Jörg"}'.encode()]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param("id,name\n1,a\n2,B\n3,c\n", id="a byte in the middle"),
        pytest.param("id,name\n1,a\n", id="shorter"),
        pytest.param("name,id\na,1\nb,2\nc,3\nd,4\n", id="another header"),
        pytest.param("id,name\n9,z\n1,a\n2,b\n3,c\n", id="a row before the others"),
        pytest.param("id,name\n", id="no rows"),
        pytest.param("", id="empty"),
    ],
)
def test_another_file_is_read_whole_and_the_checkpoint_is_void_before_that(file: Path, other: str) -> None:
    file.write_text("id,name\n1,a\n2,b\n3,c\n")
    _, position = run(file, None)
    file.unlink()
    file.write_text(other)
    batches = list(source(file).read_on(position))
    assert [record for batch in batches for record in batch.records] == whole(file)
    assert batches[0].before == Position({})
    assert [batch.before for batch in batches[1:]] == [None] * (len(batches) - 1)


def test_the_same_bytes_in_a_new_file_are_nothing_new(file: Path) -> None:
    file.write_text(HEADER + "1,a\n")
    _, position = run(file, None)
    file.replace(file.with_suffix(".old"))
    file.write_text(HEADER + "1,a\n")
    assert run(file, position)[0] == []


def test_an_unchanged_file_whose_last_change_is_long_past_is_not_even_opened_for_comparison(file: Path) -> None:
    file.write_text(HEADER + "1,a\n")
    long_ago = time.time() - 3600
    os.utime(file, (long_ago, long_ago))
    _, position = run(file, None)
    with capture_logs() as logs:
        assert list(source(file).read_on(position)) == []
    assert [line["event"] for line in logs] == ["csv_unchanged"]


def test_a_change_right_after_a_run_is_seen_even_if_the_modification_time_is_the_same(file: Path) -> None:
    file.write_text(HEADER + "1,a\n")
    _, position = run(file, None)
    stat = file.stat()
    with file.open("r+") as out:
        out.write(HEADER + "1,b\n")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [record.value for record in run(file, position)[0]] == [b'{"id":"1","name":"b"}']


def test_a_file_that_was_empty_or_had_a_piece_of_a_header_is_read_from_its_beginning(file: Path) -> None:
    position = None
    for content in ["", "\n", "\nid,na"]:
        file.write_text(content)
        records, position = run(file, position)
        assert records == []
    file.write_text("\nid,name\nshop,1\n")
    assert [record.value for record in run(file, position)[0]] == [b'{"id":"shop","name":"1"}']


def test_an_endless_line_is_read_in_bounded_memory_and_the_run_resumes_after_it(file: Path) -> None:
    file.write_bytes(HEADER.encode() + b"1,a\n2," + b"x" * 40_000_000 + b"\n3,c\n")
    records, position = run(file, None)
    assert [record.problem and record.problem[:12] for record in records] == [None, "row_too_long", None]
    with file.open("a") as out:
        out.write("4,d\n")
    assert keys(run(file, position)[0]) == ["shop:4"]


@pytest.mark.parametrize("encoding", STATEFUL)
@pytest.mark.usefixtures("_few_rows_a_batch")
def test_a_changed_file_in_a_stateful_encoding_is_read_whole(file: Path, encoding: str) -> None:
    content = HEADER + "".join(f"{n},x表\n" for n in range(9))
    file.write_bytes(content.encode(encoding, "replace"))
    records, position = run(file, None, encoding=encoding)
    assert run(file, position, encoding=encoding)[0] == []
    with file.open("ab") as out:
        out.write(b"9,y\n")
    assert keys(run(file, position, encoding=encoding)[0]) == [*keys(records), "shop:9"]
