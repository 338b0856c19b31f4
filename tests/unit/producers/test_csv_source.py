import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from producers.csv.format import column_names
from producers.csv.source import CsvBlock, CsvSource
from producers.source import SourceDescription, SourceFailed, SourceRecord
from schemas.registry import dataset_named

MAPPING = {"source_id": "id", "name": "name"}


def source(path: Path, **options: Any) -> CsvSource:
    return mapped(MAPPING, path, **options)


def mapped(mapping: dict[str, str], path: Path, *, address: str = "", **options: Any) -> CsvSource:
    block = CsvBlock(kind="csv", dataset="records", path=str(path), **options)
    description = SourceDescription("shop", "csv", dataset_named("records"), mapping)
    return CsvSource(description, block, path, address=address)


def records(path: Path, content: bytes, **options: Any) -> list[SourceRecord]:
    path.write_bytes(content)
    return [record for batch in source(path, **options).read() for record in batch.records]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.csv"


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])
def test_a_row_becomes_an_object_of_texts_whatever_the_encoding(file: Path, codec: str) -> None:
    (record,) = records(file, "id,name\n1,Müller\n".encode(codec))
    assert json.loads(record.value or b"") == {"id": "1", "name": "Müller"}
    assert record.key == "shop:1"
    assert record.problem is None


def test_invisible_characters_are_no_part_of_a_column_name(file: Path) -> None:
    (record,) = records(file, "\ufeff\ufeffi\u00add,na\u200bme\u00a0\n1,x\n".encode())
    assert (json.loads(record.value or b""), record.key) == ({"id": "1", "name": "x"}, "shop:1")


def test_the_key_is_the_normalized_one(file: Path) -> None:
    assert [r.key for r in records(file, b"id,name\n  7  a ,x\n,y\n")] == ["shop:7 a", None]


def numbered(path: Path, **options: Any) -> CsvSource:
    return mapped({"source_id": "@row", "name": "name"}, path, **options)


def keys(source: CsvSource) -> list[str]:
    return [str(record.key) for batch in source.read() for record in batch.records if not record.problem]


def test_a_row_keyed_by_its_place_has_the_same_key_in_every_run(file: Path, tmp_path: Path) -> None:
    file.write_text('id,name\n1,a\n\nbad\n1,"two\nlines"\n1,c\n')
    first = keys(numbered(file))
    assert [key.rpartition(":")[2] for key in first] == ["2", "5", "7"]
    assert first[0].startswith("shop:shop.csv~")
    assert keys(numbered(file)) == first
    (record, *_) = next(iter(numbered(file).read())).records
    assert json.loads(record.value or b"")["@row"] == first[0].partition(":")[2]
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / file.name).write_bytes(file.read_bytes())
    assert not set(keys(numbered(other / file.name))) & set(first), "a file of the same name is another file"


def test_a_downloaded_row_keyed_by_its_place_is_named_by_its_address(file: Path, tmp_path: Path) -> None:
    address = "https://example.org/2024/weather.csv?format=full"
    file.write_text("id,name\n1,a\n")
    (again := tmp_path / "download").write_bytes(file.read_bytes())
    (key,) = keys(numbered(file, address=address))
    assert key.startswith("shop:weather.csv~")
    assert keys(numbered(again, address=address)) == [key]


def test_a_row_keyed_by_its_place_keeps_its_key_in_a_resumed_run(file: Path) -> None:
    file.write_text("id,name\n1,a\n1,b\n")
    first = list(numbered(file).read_on(None))
    position = next(batch.position for batch in reversed(first) if batch.position)
    with file.open("a") as appended:
        appended.write("1,c\n")
    more = [record.key for batch in numbered(file).read_on(position) for record in batch.records]
    assert more == keys(numbered(file))[2:]


def test_columns_that_give_no_field_are_reported(file: Path) -> None:
    file.write_text("id,name,colour,value,size\n1,a,red,2,XL\n")
    (batch,) = source(file).read()
    assert batch.left_out == ("colour", "size"), "value has the name of a field"
    assert {batch.left_out for batch in source(file).read_on(None) if batch.records} == {("colour", "size")}


def test_a_bad_row_is_published_as_its_bytes_with_the_reason(file: Path) -> None:
    good, bad, after = records(file, b"id,name\n1,a\n2\n3,c\n")
    assert bad == SourceRecord(b"2\n", None, "ragged_row;line 3: 1 columns, expected 2")
    assert (good.problem, after.key) == (None, "shop:3")


def test_an_undecodable_row_is_a_failure_and_its_neighbours_go_through(file: Path) -> None:
    good, bad, after = records(file, "id,name\n1,Müller\n2,".encode() + b"\xff\n3,c\n", encoding="utf-8")
    problem = "undecodable_row;line 3: bytes that are not valid utf-8; set `encoding` if the file is in another one"
    assert bad == SourceRecord(b"2,\xff\n", None, problem)
    assert (good.key, after.key) == ("shop:1", "shop:3")


def test_a_row_after_the_sample_that_is_in_another_encoding_is_a_failure_and_no_gibberish(file: Path) -> None:
    plain = b"".join(b"%d,%s\n" % (number, b"x" * 1000) for number in range(1100))
    *_, bad = records(file, b"id,name\n" + plain + "9999,Käse\n".encode("cp1252"))
    assert (bad.value, bad.key) == (b"9999,K\xe4se\n", None)
    assert (bad.problem or "").startswith("undecodable_row;line 1102")


def test_a_file_of_unclear_encoding_is_refused_until_the_encoding_is_set(file: Path) -> None:
    rows = b"id,name\n1,H\x8ckan Smith\n"
    with pytest.raises(SourceFailed, match=r"mac-roman reads 'Håkan', cp850 reads 'Hîkan'; set `encoding`"):
        records(file, rows)
    (record,) = records(file, rows, encoding="mac-roman")
    assert json.loads(record.value or b"")["name"] == "Håkan Smith"


def test_a_batch_names_the_encoding_that_it_was_read_in(file: Path) -> None:
    file.write_bytes("id,name\n1,Käse\n".encode("cp1252"))
    (batch,) = source(file).read()
    assert batch.encoding is not None
    assert (batch.encoding.name, batch.encoding.by) == ("cp1252", "guess")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_records_and_says_so(file: Path, content: bytes) -> None:
    with capture_logs() as logs:
        assert records(file, content) == []
    assert "csv_empty" in [line["event"] for line in logs]


def test_a_header_alone_has_no_records_and_says_so(file: Path) -> None:
    with capture_logs() as logs:
        assert records(file, b"id,name\n") == []
    assert "csv_header_only" in [line["event"] for line in logs]


def test_empty_and_repeated_column_names_get_names_of_their_own() -> None:
    assert column_names(["a", " a ", "", "a", "a_2"]) == ["a", "a_2", "column_3", "a_3", "a_2_2"]


def test_a_mapped_column_that_is_not_there_fails_the_run_before_anything_is_published(file: Path) -> None:
    with pytest.raises(SourceFailed, match=r"no column 'name' \(mapped to name\); its columns are: id, title"):
        records(file, b"id,title\n1,a\n")


def test_a_dataset_without_its_key_column_fails_the_run(file: Path) -> None:
    file.write_bytes(b"number,email\n1,a@b.de\n")
    block = CsvBlock(kind="csv", dataset="customers", path=str(file))
    customers = CsvSource(block.describe("c"), block, file)
    with pytest.raises(SourceFailed, match="no column gives customer_id"):
        list(customers.read())


def test_a_header_with_undecodable_bytes_fails_the_run(file: Path) -> None:
    with pytest.raises(SourceFailed, match="header is not valid utf-8; set `encoding`"):
        records(file, b"id,name,\xff\n1,a,b\n", encoding="utf-8")


def test_a_header_with_an_unclosed_quote_fails_the_run(file: Path) -> None:
    with pytest.raises(SourceFailed, match="its header cannot be read: line 1"):
        records(file, b'id,"name\n1,a\n')


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_read_fails_the_run_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceFailed, match="cannot be read"):
        list(source(tmp_path / name).read())


@pytest.fixture
def long_file(file: Path) -> Path:
    file.write_text("id,name\n" + "".join(f"{n},x\n" for n in range(10_000)))
    return file


async def test_batches_come_from_a_thread_in_order(long_file: Path) -> None:
    batches = [batch async for batch in source(long_file).batches()]
    assert [r.key for b in batches for r in b.records] == [f"shop:{n}" for n in range(10_000)]
    assert len(batches) > 1
    assert batches[-1].done == 1.0


async def test_an_error_in_the_thread_is_raised_to_the_reader(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed):
        async for _ in source(tmp_path / "missing.csv").batches():
            pass


def test_memory_stays_constant_however_large_the_file_is(file: Path) -> None:
    line = "1," + "x" * 998 + "\n"
    with file.open("w") as out:
        out.write("id,name\n")
        for _ in range(50):
            out.write(line * 1000)
    assert file.stat().st_size > 50_000_000
    tracemalloc.start()
    try:
        count = sum(len(batch.records) for batch in source(file).read())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 50_000
    assert peak < 12_000_000
